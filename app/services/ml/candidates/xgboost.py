"""Gradient-boosted trees on lags, recent means and the calendar, forecast step by step."""

from typing import Any, ClassVar, Self

import numpy as np

from app.config.ml_settings import MLSettings
from app.errors import CandidateFailed
from app.services.ml.calendar import Calendar
from app.services.ml.candidates import lags
from app.services.ml.candidates.base import State
from app.services.ml.candidates.common import Candidate, telling_sales, without_closures
from app.services.ml.candidates.trees import Trees, library
from app.services.ml.roots import from_roots, to_roots
from app.services.ml.series import BoolArray, DailySeries, FloatArray

N_TREES = 60
PARAMETERS = {"objective": "reg:squarederror", "eta": 0.15, "colsample_bytree": 0.8, "max_bin": 64}


class XGBoost(Candidate):
    """Boosted trees of depth 3 on one row per day (Chen & Guestrin, 2016, *XGBoost*, KDD), forecast recursively.

    Target and lags are signed roots of sales over their mean (see `lags`). Announced closures are no training rows,
    nor are days without sales that neither their weekday nor a holiday explains. Trees do not extrapolate: a forecast
    stays within what was seen, widened by a tenth of its range.
    """

    name: ClassVar[str] = "xgboost"
    min_history: ClassVar[int] = 56

    depth: ClassVar[int] = 3

    def __init__(self) -> None:
        super().__init__()
        self._trees: Trees | None = None

    @classmethod
    def from_settings(cls, settings: MLSettings) -> Self:  # noqa: ARG003 - the contract's signature
        library(cls.name)
        return cls()

    def _to_units(self, sales: FloatArray, level: float) -> FloatArray:
        """Sales as the trees see them, unitless, shape unchanged."""
        return to_roots(sales / level)

    def _from_units(self, units: FloatArray, level: float) -> FloatArray:
        """Back from `_to_units`."""
        return from_roots(units) * level

    def _known_ahead(self, units: FloatArray, series: DailySeries, calendar: Calendar, horizon: int) -> FloatArray:
        """Calendar features and holiday effects of the series and the ``horizon`` days after it."""
        n_days = len(series) + horizon
        effects = lags.holiday_effects(units, calendar.holiday_groups(series.start, n_days))
        return np.column_stack([lags.calendar_features(calendar, series.start, n_days), effects])

    def _estimate(self, series: DailySeries, calendar: Calendar) -> None:
        rows, units = self._lesson(series, calendar)
        parameters: dict[str, Any] = PARAMETERS | {"max_depth": self.depth}
        grown = Trees.fit(rows, units, parameters, N_TREES, self.name)
        # Each tree grew on a sample of the rows; leaves that learn from all of them forecast almost 1 % better.
        self._trees = grown.refreshed(rows, units, parameters)

    def _estimate_from(self, state: State, series: DailySeries, calendar: Calendar) -> None:
        """The leaves anew, of trees that are split as before."""
        rows, units = self._lesson(series, calendar)
        self._trees = Trees.restore(state).refreshed(rows, units, PARAMETERS)

    def _lesson(self, series: DailySeries, calendar: Calendar) -> tuple[FloatArray, FloatArray]:
        """Features, shape (n_rows, k), and targets, shape (n_rows,), of the days to learn from."""
        units, rows = self._units_and_rows(series, calendar)
        usable = _training_days(series, calendar)
        return rows[usable], units[usable]

    def _fitted_values(self, series: DailySeries, calendar: Calendar) -> FloatArray:
        _, rows = self._units_and_rows(series, calendar)
        fitted = self._from_units(self._grown().predict(rows), lags.mean_level(series))
        fitted[: lags.FIRST_ROW] = np.nan
        return fitted

    def _predict(self, series: DailySeries, calendar: Calendar, horizon: int) -> FloatArray:
        n_days, trees = len(series), self._grown()
        level = lags.mean_level(series)
        units = self._to_units(without_closures(series, calendar), level)
        lowest, highest = units.min(), units.max()
        margin = (highest - lowest) / 10
        path = np.concatenate([np.full(lags.DEEPEST, np.nan), units, np.zeros(horizon)])
        known_ahead = self._known_ahead(units, series, calendar, horizon)[n_days:]
        row = np.empty((1, lags.N_LEVEL_FEATURES + known_ahead.shape[1]))
        for step in range(horizon):
            day = lags.DEEPEST + n_days + step
            row[0, : lags.N_LEVEL_FEATURES] = lags.level_features_of_next(path, day)
            row[0, lags.N_LEVEL_FEATURES :] = known_ahead[step]
            path[day] = min(max(trees.predict(row)[0], lowest - margin), highest + margin)
        return self._from_units(path[-horizon:], level)

    def _parameters(self) -> State:
        return self._grown().state()

    def restore(self, state: State) -> None:
        """Take the trees back; ValueError when they are of another shape."""
        self._trees = Trees.restore(state)

    def _grown(self) -> Trees:
        if self._trees is None:
            raise CandidateFailed(f"{self.name} has no trees before `fit`.")
        return self._trees

    def _units_and_rows(self, series: DailySeries, calendar: Calendar) -> tuple[FloatArray, FloatArray]:
        """Targets, shape (n_days,), and features, shape (n_days, k), of every day."""
        units = self._to_units(without_closures(series, calendar), lags.mean_level(series))
        return units, np.column_stack([lags.level_features(units), self._known_ahead(units, series, calendar, 0)])


def _training_days(series: DailySeries, calendar: Calendar) -> BoolArray:
    """Shape (n_days,): days with all means behind them, without closures and without zeros that nothing explains."""
    telling = ~np.isnan(telling_sales(series, calendar, knows_holidays=True))
    telling[: lags.FIRST_ROW] = False
    if not telling.any():
        telling[lags.FIRST_ROW :] = True
    return telling
