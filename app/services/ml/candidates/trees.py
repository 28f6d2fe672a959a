"""Boosted trees as the candidates use them: grown by XGBoost on one thread with one seed, kept as plain arrays.

What XGBoost would store and load is ten times as large and slow to read, and asking it for one row costs more than
walking the trees here; so a fitted ensemble is these arrays and nothing else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from app.errors import CandidateFailed, CandidateUnavailable
from app.services.ml.candidates import ubjson
from app.services.ml.candidates.base import State
from app.services.ml.series import BoolArray, FloatArray

Float32Array = npt.NDArray[np.float32]
SQUARED, PSEUDO_HUBER = "reg:squarederror", "reg:pseudohubererror"
PENALTY = 2.0
SHARED = {"tree_method": "hist", "lambda": PENALTY, "subsample": 0.8, "seed": 20240101, "nthread": 1, "verbosity": 0}
MOST_NODES = 200_000
CHUNK_ROWS = 256  # walked together: what they need stays in the processor's cache


@dataclass(frozen=True, eq=False)
class Trees:
    """A fitted ensemble (Chen & Guestrin, 2016, *XGBoost*, KDD); all nodes of all trees, one tree after another.

    A row starts at every root and goes on to ``left`` where its feature is below ``value``, else to ``right``; where
    the feature is missing, as ``missing_left`` says. A leaf is its own ``left``, and ``value`` is what it adds.
    """

    roots: npt.NDArray[np.int32]  # shape (n_trees,), indices of nodes
    left: npt.NDArray[np.int32]  # shape (n_nodes,), index of the node to go on with
    right: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int16]  # column of the rows
    value: npt.NDArray[np.float32]
    missing_left: BoolArray
    base: float  # what the sum of the leaves is added to
    n_features: int  # columns of the rows

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
            label, narrow = target.astype(np.float32, copy=False), rows.astype(np.float32, copy=False)
            columns = _varied(narrow)
            data = xgb.DMatrix(narrow[:, columns], label=label, nthread=1)
            booster = xgb.Booster(SHARED | dict(parameters), [data])
            for step in range(n_trees):  # `xgb.train` ends with a copy of the whole booster
                booster.update(data, step)
            model: Any = ubjson.decode(bytes(booster.save_raw("ubj")))
        except xgb.core.XGBoostError as error:
            raise CandidateFailed(f"{name} could not be fitted: {str(error).splitlines()[0]}") from error
        learner = model["learner"]
        trees, base = learner["gradient_booster"]["model"]["trees"], learner["learner_model_param"]["base_score"]
        return cls._of(trees, float(base.strip("[]")), columns, rows.shape[1])

    @classmethod
    def _of(
        cls, trees: list[dict[str, npt.NDArray[Any]]], base: float, columns: npt.NDArray[np.int64], n_features: int
    ) -> "Trees":
        """From XGBoost's own model of these ``columns`` among ``n_features``."""
        sizes = [tree["left_children"].size for tree in trees]
        roots = np.cumsum([0, *sizes[:-1]])
        first = np.repeat(roots, sizes)
        joined = {name: np.concatenate([tree[name] for tree in trees]) for name in _NODE_ARRAYS}
        leaf = joined["left_children"] < 0
        here = np.arange(leaf.size)
        return cls(
            roots=roots.astype(np.int32),
            left=np.where(leaf, here, joined["left_children"] + first).astype(np.int32),
            right=np.where(leaf, here, joined["right_children"] + first).astype(np.int32),
            feature=np.where(leaf, 0, columns[joined["split_indices"]]).astype(np.int16),
            value=joined["split_conditions"].astype(np.float32),
            missing_left=joined["default_left"].astype(bool),
            base=base,
            n_features=n_features,
        )

    def predict(self, rows: FloatArray) -> FloatArray:
        """Predictions of ``rows``, shape (n_rows,); the order of the rows and their number change none of them."""
        sums = [self.value.take(leaves).sum(axis=0, dtype=np.float64) for leaves in self._leaves(rows)]
        return self.base + np.concatenate(sums) if sums else np.zeros(0)

    def refreshed(
        self, rows: FloatArray | Float32Array, target: FloatArray | Float32Array, parameters: Mapping[str, object]
    ) -> "Trees":
        """The same splits with every leaf estimated anew, one tree after the other as `fit` grew them.

        A leaf adds ``eta`` times the sum of its rows' gradients over that of their second derivatives and ``lambda``
        (Chen & Guestrin, equation 5), at most ``max_delta_step`` and nothing below ``min_child_weight``. Only the
        splits are taken over, so that refreshing twice gives what the second time alone gives.

        Parameters
        ----------
        rows, target, parameters : as for `fit`; all rows count, none are left out at random. The objective is
            `SQUARED` or `PSEUDO_HUBER`
        """
        reached = np.concatenate(list(self._leaves(rows)), axis=1)
        rate, is_leaf = float(str(parameters["eta"])), self.left == np.arange(self.left.size)
        lightest = float(str(parameters.get("min_child_weight", 1.0)))
        farthest = float(str(parameters.get("max_delta_step", 0.0))) or np.inf
        value, lacking = self.value.astype(np.float64), target.astype(np.float64) - self.base
        for first, stop, leaves in zip(self.roots, [*self.roots[1:], self.left.size], reached, strict=True):
            leaf, n_nodes = leaves - first, stop - first
            pulls, bends = (np.bincount(leaf, each, n_nodes) for each in _derivatives(lacking, parameters))
            steps = np.where(bends < lightest, 0.0, pulls / (bends + PENALTY))
            learned = rate * np.clip(steps, -farthest, farthest)
            lacking = lacking - learned[leaf]
            value[first:stop] = np.where(is_leaf[first:stop], learned, value[first:stop])
        return replace(self, value=value.astype(np.float32))

    def _leaves(self, rows: FloatArray | Float32Array) -> Iterator[npt.NDArray[np.int32]]:
        """The leaf of every tree that each row comes to, shape (n_trees, n_rows of a chunk), chunk by chunk."""
        if rows.shape[1] != self.n_features:
            raise CandidateFailed(f"Trees of {self.n_features} features were given {rows.shape[1]}.")
        narrow = rows.astype(np.float32)
        missing = np.isnan(narrow)
        # Twice side by side, so that a comparison alone sends what is missing right, or left.
        both = np.hstack([np.where(missing, np.inf, narrow), np.where(missing, -np.inf, narrow)], dtype=np.float32)
        for at in range(0, len(rows), CHUNK_ROWS):
            yield self._walked(both[at : at + CHUNK_ROWS])

    def _walked(self, both: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
        """Where the rows of one chunk end in each tree, shape (n_trees, n_rows)."""
        if len(both) == 1:  # asking every node takes fewer steps than finding out which one is asked
            next_node = np.where(both[0].take(self._columns) < self.value, self.left, self.right)
            node = self.roots
            for _ in range(self._depth):
                node = next_node.take(node)
            return node[:, None]
        flat, first = both.ravel(), np.arange(len(both), dtype=np.int32) * both.shape[1]
        node = np.repeat(self.roots[:, None], len(both), axis=1)
        for _ in range(self._depth):
            below = flat.take(first + self._columns.take(node)) < self.value.take(node)
            node = self._children.take(2 * node + below)
        return node

    @cached_property
    def _columns(self) -> npt.NDArray[np.int32]:
        """What every node asks for among the features twice side by side, shape (n_nodes,)."""
        return self.feature + self.n_features * self.missing_left.astype(np.int32)

    @cached_property
    def _children(self) -> npt.NDArray[np.int32]:
        """Right and left child of every node by turns, shape (2 * n_nodes,)."""
        return np.column_stack([self.right, self.left]).ravel()

    @cached_property
    def _depth(self) -> int:
        """Steps from a root to the leaf that is farthest away."""
        node, depth = self.roots, 0
        while (inner := node[self.left[node] != node]).size:
            node, depth = np.concatenate([self.left[inner], self.right[inner]]), depth + 1
        return depth

    def state(self) -> State:
        """The arrays, children as distances from their node, which are small."""
        here = np.arange(self.left.size)
        return {
            "roots": self.roots,
            "left": _narrow(self.left - here),
            "right": _narrow(self.right - here),
            "feature": _narrow(self.feature),
            "value": self.value,
            "missing_left": np.packbits(self.missing_left),
            "base": self.base,
            "n_features": self.n_features,
        }

    @classmethod
    def restore(cls, state: State) -> "Trees":
        """Back from `state`; KeyError, TypeError or ValueError when it holds no trees."""
        value = np.asarray(state["value"], dtype=np.float32)
        n_nodes, here = value.size, np.arange(value.size)
        left, right, feature, roots = (_whole(state[key]) for key in ("left", "right", "feature", "roots"))
        packed = np.asarray(state["missing_left"], dtype=np.uint8)
        if packed.shape != (-(-n_nodes // 8),):
            raise ValueError("the trees are incomplete")
        missing_left = np.unpackbits(packed, count=n_nodes).astype(bool)
        base, n_features = state["base"], state["n_features"]
        if not isinstance(base, float) or not np.isfinite(base) or not np.isfinite(value).all():
            raise ValueError("a tree holds no finite numbers")
        if not 0 < n_nodes <= MOST_NODES or any(part.shape != (n_nodes,) for part in (left, right, feature)):
            raise ValueError("the trees are incomplete")
        leaf = left == 0
        if (np.minimum(left, right)[~leaf] < 1).any() or (right[leaf] != 0).any():  # children come after their parent
            raise ValueError("a tree goes in circles")
        if (here + np.maximum(left, right)).max() >= n_nodes or not _within(roots, n_nodes):
            raise ValueError("a tree leads nowhere")
        if type(n_features) is not int or not _within(feature, n_features):
            raise ValueError("a tree asks for a feature that there is not")
        return cls(
            roots.astype(np.int32),
            (here + left).astype(np.int32),
            (here + right).astype(np.int32),
            feature.astype(np.int16),
            value,
            missing_left,
            base,
            n_features,
        )


_NODE_ARRAYS = ("left_children", "right_children", "split_indices", "split_conditions", "default_left")


def _varied(rows: Float32Array) -> npt.NDArray[np.int64]:
    """Columns that can split the rows; the others cost as much, and take their places in samples. At least one."""
    varied = (rows != rows[:1]).any(axis=0)
    varied[0] |= not varied.any()
    return np.flatnonzero(varied)


def _derivatives(lacking: FloatArray, parameters: Mapping[str, object]) -> tuple[FloatArray, FloatArray]:
    """How steeply the loss falls where a prediction that lacks so much rises, and its curvature, shape unchanged."""
    if parameters["objective"] == SQUARED:
        return lacking, np.ones_like(lacking)
    if parameters["objective"] != PSEUDO_HUBER:
        raise ValueError(f"leaves cannot be estimated for {parameters['objective']}")
    growth = 1.0 + (lacking / float(str(parameters["huber_slope"]))) ** 2
    root = np.sqrt(growth)
    return lacking / root, 1.0 / (growth * root)


def _narrow(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Whole numbers >= 0 in the smallest type that holds them."""
    return numbers.astype(np.min_scalar_type(numbers.max(initial=0)))


def _whole(values: object) -> npt.NDArray[np.int64]:
    """Whole numbers of a stored array; ValueError for any other."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError("a tree holds no whole numbers")
    return array.astype(np.int64)


def _within(indices: npt.NDArray[np.int64], n: int) -> bool:
    return bool(indices.size and indices.min() >= 0 and indices.max() < n)


def library(name: str) -> ModuleType:
    """The library, imported when a candidate first needs it; CandidateUnavailable, naming the candidate, without it."""
    try:
        import xgboost as xgb
    except ImportError as error:
        raise CandidateUnavailable(
            f"{name} is left out: its library is not installed.", next_step="pip install xgboost-cpu"
        ) from error
    return xgb
