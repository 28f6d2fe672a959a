"""Boosted trees as the candidates use them: one thread, one seed, bytes as their only state."""

import json
from collections.abc import Mapping
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from app.errors import CandidateFailed, CandidateUnavailable
from app.services.ml.candidates.base import State
from app.services.ml.series import FloatArray

if TYPE_CHECKING:
    import xgboost

Float32Array = npt.NDArray[np.float32]
# What XGBoost keeps of each node for further training; without it a state is less than half as large.
TRAINING_STATISTICS = ("base_weights", "loss_changes", "sum_hessian")
SHARED = {"tree_method": "hist", "lambda": 2.0, "subsample": 0.8, "seed": 20240101, "nthread": 1, "verbosity": 0}


class Trees:
    """A fitted ensemble (Chen & Guestrin, 2016, *XGBoost*, KDD)."""

    def __init__(self, booster: "xgboost.Booster") -> None:
        self._booster = booster

    @cached_property
    def model(self) -> bytes:
        """The trees in XGBoost's binary JSON, without what only further training needs."""
        model = json.loads(bytes(self._booster.save_raw("json")))
        for tree in model["learner"]["gradient_booster"]["model"]["trees"]:
            tree.update({name: [0.0] * len(tree[name]) for name in TRAINING_STATISTICS})
        slim = type(self._booster)({"nthread": 1})
        slim.load_model(bytearray(json.dumps(model).encode()))
        return bytes(slim.save_raw("ubj"))

    @classmethod
    def fit(
        cls,
        rows: FloatArray | Float32Array,
        target: FloatArray | Float32Array,
        parameters: Mapping[str, object],
        n_trees: int,
        name: str,
    ) -> "Trees":
        """Trees for ``rows``, shape (n_rows, k), nan where unknown, and ``target``, shape (n_rows,).

        Raises
        ------
        CandidateFailed : naming the candidate ``name``; numbers that 32 bits cannot hold are the usual cause
        """
        xgb = library(name)
        try:
            data = xgb.DMatrix(
                rows.astype(np.float32, copy=False), label=target.astype(np.float32, copy=False), nthread=1
            )
            booster = xgb.train(SHARED | dict(parameters), data, num_boost_round=n_trees)
        except xgb.core.XGBoostError as error:
            raise CandidateFailed(f"{name} could not be fitted: {str(error).splitlines()[0]}") from error
        return cls(booster)

    @classmethod
    def restore(cls, state: State, name: str) -> "Trees":
        """Back from the bytes under "model" of a stored state; TypeError or ValueError when they are none."""
        model = state["model"]
        if not isinstance(model, bytes):
            message = "the trees are no bytes"
            raise TypeError(message)
        xgb = library(name)
        booster = xgb.Booster({"nthread": 1})
        try:
            booster.load_model(bytearray(model))
        except xgb.core.XGBoostError as error:
            message = str(error).splitlines()[0]
            raise ValueError(message) from error
        restored = cls(booster)
        restored.model = model
        return restored

    def predict(self, rows: FloatArray) -> FloatArray:
        """Predictions of ``rows``, shape (n_rows,)."""
        predicted = self._booster.inplace_predict(rows.astype(np.float32), validate_features=False)
        return np.asarray(predicted, dtype=np.float64)


def library(name: str) -> ModuleType:
    """The library, imported when a candidate first needs it; CandidateUnavailable, naming the candidate, without it."""
    try:
        import xgboost as xgb
    except ImportError as error:
        raise CandidateUnavailable(
            f"{name} is left out: its library is not installed.", next_step="pip install xgboost-cpu"
        ) from error
    return xgb
