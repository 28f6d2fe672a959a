"""Gradient-boosted trees on lags, recent means and the calendar, forecast step by step."""

from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from app.config.ml_settings import MLSettings
from app.errors import CandidateFailed, CandidateUnavailable
from app.services.ml.calendar import Calendar
from app.services.ml.candidates import lags
from app.services.ml.candidates.base import State
from app.services.ml.candidates.common import Candidate, telling_sales, without_closures
from app.services.ml.series import BoolArray, DailySeries, FloatArray

if TYPE_CHECKING:
    import xgboost

N_TREES = 120
PARAMETERS = {
    "objective": "reg:squarederror",
    "max_depth": 3,
    "eta": 0.08,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
    "lambda": 2.0,
    "max_bin": 64,
    "tree_method": "hist",
    "seed": 20240101,
    "nthread": 1,
    "verbosity": 0,
}


class XGBoost(Candidate):
    """Boosted trees of depth 3 on one row per day (Chen & Guestrin, 2016, *XGBoost*, KDD), forecast recursively.

    Target and lags are signed roots of sales over their mean (see `lags`). Announced closures are no training rows,
    nor are days without sales that neither their weekday nor a holiday explains. Trees do not extrapolate: a forecast
    stays within what was seen, widened by a tenth of its range.
    """

    name: ClassVar[str] = "xgboost"
    min_history: ClassVar[int] = 56

    def __init__(self) -> None:
        super().__init__()
        self._model = b""
        self._booster: xgboost.Booster | None = None

    @classmethod
    def from_settings(cls, settings: MLSettings) -> Self:  # noqa: ARG003 - the contract's signature
        _library()
        return cls()

    def _estimate(self, series: DailySeries, calendar: Calendar) -> None:
        xgb = _library()
        roots, rows = _roots_and_rows(series, calendar)
        usable = _training_days(series, calendar)
        try:
            data = xgb.DMatrix(rows[usable].astype(np.float32), label=roots[usable].astype(np.float32), nthread=1)
            booster = xgb.train(PARAMETERS, data, num_boost_round=N_TREES)
        except xgb.core.XGBoostError as error:
            raise CandidateFailed(f"{self.name} could not be fitted: {str(error).splitlines()[0]}") from error
        self._booster, self._model = booster, bytes(booster.save_raw("ubj"))

    def _fitted_values(self, series: DailySeries, calendar: Calendar) -> FloatArray:
        _, rows = _roots_and_rows(series, calendar)
        fitted = lags.from_roots(self._trees(rows), lags.mean_level(series))
        fitted[: lags.FIRST_ROW] = np.nan
        return fitted

    def _predict(self, series: DailySeries, calendar: Calendar, horizon: int) -> FloatArray:
        n_days = len(series)
        level = lags.mean_level(series)
        roots = lags.to_roots(without_closures(series, calendar), level)
        lowest, highest = roots.min(), roots.max()
        margin = (highest - lowest) / 10
        path = np.concatenate([np.full(lags.DEEPEST, np.nan), roots, np.zeros(horizon)])
        known_ahead = _known_ahead(roots, series, calendar, horizon)[n_days:]
        row = np.empty((1, lags.N_LEVEL_FEATURES + known_ahead.shape[1]))
        for step in range(horizon):
            day = lags.DEEPEST + n_days + step
            row[0, : lags.N_LEVEL_FEATURES] = lags.level_features_of_next(path, day)
            row[0, lags.N_LEVEL_FEATURES :] = known_ahead[step]
            path[day] = min(max(self._trees(row)[0], lowest - margin), highest + margin)
        return lags.from_roots(path[-horizon:], level)

    def _parameters(self) -> State:
        return {"model": self._model}

    def restore(self, state: State) -> None:
        """Take the trees back; ValueError when they are of another shape."""
        model = state["model"]
        if not isinstance(model, bytes):
            message = "the trees are no bytes"
            raise TypeError(message)
        xgb = _library()
        booster = xgb.Booster({"nthread": 1})
        try:
            booster.load_model(bytearray(model))
        except xgb.core.XGBoostError as error:
            message = str(error).splitlines()[0]
            raise ValueError(message) from error
        self._booster, self._model = booster, model

    def _trees(self, rows: FloatArray) -> FloatArray:
        if self._booster is None:
            raise CandidateFailed(f"{self.name} has no trees before `fit`.")
        predicted = self._booster.inplace_predict(rows.astype(np.float32), validate_features=False)
        return np.asarray(predicted, dtype=np.float64)


def _training_days(series: DailySeries, calendar: Calendar) -> BoolArray:
    """Shape (n_days,): days with all means behind them, without closures and without zeros that nothing explains."""
    telling = ~np.isnan(telling_sales(series, calendar, knows_holidays=True))
    telling[: lags.FIRST_ROW] = False
    if not telling.any():
        telling[lags.FIRST_ROW :] = True
    return telling


def _roots_and_rows(series: DailySeries, calendar: Calendar) -> tuple[FloatArray, FloatArray]:
    """Targets, shape (n_days,), and features, shape (n_days, k), of every day."""
    roots = lags.to_roots(without_closures(series, calendar), lags.mean_level(series))
    return roots, np.column_stack([lags.level_features(roots), _known_ahead(roots, series, calendar, 0)])


def _known_ahead(roots: FloatArray, series: DailySeries, calendar: Calendar, horizon: int) -> FloatArray:
    """Calendar features and holiday effects of the series and the ``horizon`` days after it."""
    n_days = len(series) + horizon
    groups = calendar.holiday_groups(series.start, n_days)
    return np.column_stack(
        [
            lags.calendar_features(calendar, series.start, n_days),
            lags.holiday_effects(roots, groups),
        ]
    )


def _library() -> ModuleType:
    try:
        import xgboost as xgb
    except ImportError as error:
        raise CandidateUnavailable(
            "xgboost is left out: its library is not installed.", next_step="pip install xgboost-cpu"
        ) from error
    return xgb
