"""Gradient-boosted trees on lags, recent means and the calendar, forecast step by step."""

from typing import Any, ClassVar, Self

import numpy as np

from app.config.ml_settings import MLSettings
from app.errors import CandidateFailed
from app.services.ml.calendar import Calendar
from app.services.ml.candidates import lags
from app.services.ml.candidates.base import State
from app.services.ml.candidates.common import Candidate, telling_sales, without_closures
from app.services.ml.candidates.direct_rows import STEPS
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

    def _known(self, units: FloatArray, series: DailySeries, calendar: Calendar, n_ahead: int) -> FloatArray:
        """Calendar features and holiday effects of the series and the ``n_ahead`` days after it, one row per day."""
        features = lags.calendar_ahead(series, calendar, n_ahead)
        effects = lags.holiday_effects(units, calendar.holiday_groups(series.start, len(features)))
        return np.column_stack([features, effects])

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
        units, known = self._units_and_known(series, calendar)
        rows = np.column_stack([lags.level_features(units), known[: len(series)]])
        usable = _training_days(series, calendar)
        return rows[usable], units[usable]

    def _fitted_values(self, series: DailySeries, calendar: Calendar, since: int) -> FloatArray:
        units, known = self._units_and_known(series, calendar)
        asked = slice(max(since, lags.FIRST_ROW), len(series))
        rows = np.column_stack([lags.level_features(units)[asked], known[asked]])
        fitted = np.full(len(series), np.nan)
        fitted[asked] = self._from_units(self._grown().predict(rows), lags.mean_level(series))
        return fitted

    def _predict(self, series: DailySeries, calendar: Calendar, horizon: int) -> FloatArray:
        n_days, trees = len(series), self._grown()
        units, known = self._units_and_known(series, calendar, horizon)
        lowest, highest = units.min(), units.max()
        margin = (highest - lowest) / 10
        path = np.concatenate([np.full(lags.DEEPEST, np.nan), units, np.zeros(horizon)])
        known_ahead = known[n_days:]
        row = np.empty((1, lags.N_LEVEL_FEATURES + known_ahead.shape[1]))
        for step in range(horizon):
            day = lags.DEEPEST + n_days + step
            row[0, : lags.N_LEVEL_FEATURES] = lags.level_features_of_next(path, day)
            row[0, lags.N_LEVEL_FEATURES :] = known_ahead[step]
            path[day] = min(max(trees.predict(row)[0], lowest - margin), highest + margin)
        return self._from_units(path[-horizon:], lags.mean_level(series))

    def _parameters(self) -> State:
        return self._grown().state()

    def restore(self, state: State) -> None:
        """Take the trees back; ValueError when they are of another shape."""
        self._trees = Trees.restore(state)

    def _grown(self) -> Trees:
        if self._trees is None:
            raise CandidateFailed(f"{self.name} has no trees before `fit`.")
        return self._trees

    def _units_and_known(
        self, series: DailySeries, calendar: Calendar, horizon: int = STEPS
    ) -> tuple[FloatArray, FloatArray]:
        """Targets, shape (n_days,), and what is known of these days and those ahead, shape (n_days + n_ahead, k).

        Made once per series: learning, forecasting and fitting need the same.
        """
        n_ahead = max(horizon, STEPS)

        def made() -> tuple[FloatArray, FloatArray]:
            units = self._to_units(without_closures(series, calendar), lags.mean_level(series))
            return units, self._known(units, series, calendar, n_ahead)

        return series.once((type(self), calendar, n_ahead), made)


def _training_days(series: DailySeries, calendar: Calendar) -> BoolArray:
    """Shape (n_days,): days with all means behind them, without closures and without zeros that nothing explains."""
    telling = ~np.isnan(telling_sales(series, calendar, knows_holidays=True))
    telling[: lags.FIRST_ROW] = False
    if not telling.any():
        telling[lags.FIRST_ROW :] = True
    return telling
