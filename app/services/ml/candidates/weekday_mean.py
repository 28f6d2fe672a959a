"""Mean of the last same weekdays: what a shop owner would say when asked."""

from typing import ClassVar

import numpy as np

from app.services.ml.calendar import Calendar
from app.services.ml.candidates.common import Candidate, by_week, repeated_week, telling_sales
from app.services.ml.series import SEASON, DailySeries, FloatArray


class WeekdayMean(Candidate):
    """The mean of the last `weeks` same weekdays, announced closures and zeros that are odd for the weekday left out.

    A moving average over the seasonal sub-series (Makridakis, Wheelwright & Hyndman, *Forecasting*, 1998, section 4/2).
    Eight weeks hold four whole cycles of two-weekly promotions, and are short enough to follow a change of level.
    """

    name: ClassVar[str] = "weekday_mean"
    min_history: ClassVar[int] = 2 * SEASON
    weeks: ClassVar[int] = 8

    def _fitted_values(self, series: DailySeries, calendar: Calendar) -> FloatArray:
        means = self._means(series, calendar)
        before = np.vstack([np.full(SEASON, np.nan), means[:-1]])
        return before.ravel()[-len(series) :]

    def _predict(self, series: DailySeries, calendar: Calendar, horizon: int) -> FloatArray:
        week = self._means(series, calendar)[-1]
        return repeated_week(np.where(np.isnan(week), series.y[-SEASON:], week), horizon)

    def _means(self, series: DailySeries, calendar: Calendar) -> FloatArray:
        """Mean of each week and the `weeks` - 1 before it, shape (n_weeks, 7); nan where none of them is known."""
        weeks = by_week(telling_sales(series, calendar, knows_holidays=False))
        padded = np.vstack([np.full((self.weeks - 1, SEASON), np.nan), weeks])
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.weeks, axis=0)
        count = (~np.isnan(windows)).sum(axis=-1)
        total = np.nansum(windows, axis=-1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)
