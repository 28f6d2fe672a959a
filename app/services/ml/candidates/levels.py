"""Levels: boosted trees that forecast every day ahead directly, as a distance from its last same weekdays."""

from typing import ClassVar, Self

import numpy as np

from app.config.ml_settings import MLSettings
from app.errors import CandidateFailed
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.base import State
from app.services.ml.candidates.direct import DirectCandidate
from app.services.ml.candidates.direct_rows import Rows, Table
from app.services.ml.candidates.trees import PSEUDO_HUBER, Trees, library
from app.services.ml.series import SEASON, DailySeries, FloatArray

N_TREES = 60
PARAMETERS = {
    # Absolute loss, rounded off near zero: XGBoost's own sorts the errors of every leaf again, which takes as long as
    # growing the tree.
    "objective": PSEUDO_HUBER,
    "huber_slope": 0.1,  # roots of the level; smaller errors count by their square
    "max_depth": 4,
    "min_child_weight": 0.1,  # a row whose error is large counts as a hundredth: a few holidays must make a leaf
    "max_delta_step": 0.5,  # roots of the level: where all errors are large, a Newton step would go much too far
    "eta": 0.12,
    "colsample_bytree": 0.4,
    "max_bin": 63,
}
FARTHEST = 4.0  # roots of the level: a day sixteen times the usual one teaches no more than one nearer by


class Levels(DirectCandidate):
    """Direct boosted trees with nearly absolute loss on one row per weekly origin and day ahead (see `direct_rows`).

    The target is the distance from the mean of the last 8 same weekdays, in roots of the level, so that trees need not
    extrapolate a level. All horizons are one fit: Ben Taieb & Hyndman (2014), *Boosting multi-step autoregressive
    forecasts*, ICML, on direct against recursive forecasts.
    """

    name: ClassVar[str] = "levels"
    min_history: ClassVar[int] = 8 * SEASON

    def __init__(self) -> None:
        super().__init__()
        self._trees: Trees | None = None

    @classmethod
    def from_settings(cls, settings: MLSettings) -> Self:  # noqa: ARG003 - the contract's signature
        library(cls.name)
        return cls()

    def _estimate(self, series: DailySeries, calendar: Calendar) -> None:
        rows = Table.of(series, calendar).training()
        self._trees = Trees.fit(rows.values, _distance(rows), PARAMETERS, N_TREES, self.name)

    def _estimate_from(self, state: State, series: DailySeries, calendar: Calendar) -> None:
        """The leaves anew, of trees that are split as before."""
        rows = Table.of(series, calendar).training()
        self._trees = Trees.restore(state).refreshed(rows.values, _distance(rows), PARAMETERS)

    def _sales(self, rows: Rows) -> FloatArray:
        if self._trees is None:
            raise CandidateFailed(f"{self.name} has no trees before `fit`.")
        return rows.sales(rows.base + self._trees.predict(rows.values))

    def _parameters(self) -> State:
        return self._trees.state() if self._trees else {}

    def restore(self, state: State) -> None:
        """Take the trees back; ValueError when they are of another shape."""
        self._trees = Trees.restore(state)


def _distance(rows: Rows) -> FloatArray:
    """What the trees learn: how far each row lies from its base, in roots of the level, shape (n_rows,)."""
    return np.clip(rows.target - rows.base, -FARTHEST, FARTHEST)
