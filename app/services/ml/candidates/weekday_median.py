"""Weighted median of past same weekdays: a middle day, also where many days sell nothing."""

from typing import ClassVar

import numpy as np

from app.services.ml.calendar import Calendar
from app.services.ml.candidates.common import Candidate, by_week, repeated_week, telling_sales
from app.services.ml.series import SEASON, DailySeries, FloatArray


class WeekdayMedian(Candidate):
    """The median of the days of the last year, weighted by age and by whether they are of the same weekday.

    The forecast with the smallest absolute error is a median, and where many days sell nothing it lies far below the
    mean at which Croston (1972) and its corrections aim: see Kolassa (2016), *Evaluating predictive count data
    distributions in retail sales forecasting*, IJF 32(3), 788-803. Other weekdays count a tenth: a little of them
    steadies the median of a weekday that has been seen a few times only.
    """

    name: ClassVar[str] = "weekday_median"
    min_history: ClassVar[int] = 2 * SEASON
    weeks: ClassVar[int] = 52
    half_life_weeks: ClassVar[float] = 8.0
    other_weekdays: ClassVar[float] = 0.1

    def _fitted_values(self, series: DailySeries, calendar: Calendar, since: int) -> FloatArray:
        weeks = self._weeks(series, calendar)
        first = max(len(weeks) + (since - len(series)) // SEASON, 1)  # weeks end with the series
        fitted = np.full(weeks.shape, np.nan)
        fitted[first:] = self._medians(weeks, np.arange(first, len(weeks)))
        return fitted.ravel()[-len(series) :]

    def _predict(self, series: DailySeries, calendar: Calendar, horizon: int) -> FloatArray:
        weeks = self._weeks(series, calendar)
        return repeated_week(self._medians(weeks, np.array([len(weeks)]))[0], horizon)

    def _weeks(self, series: DailySeries, calendar: Calendar) -> FloatArray:
        return by_week(telling_sales(series, calendar, knows_holidays=False))

    def _medians(self, weeks: FloatArray, ends: np.ndarray[tuple[int], np.dtype[np.int64]]) -> FloatArray:
        """Of each weekday over the weeks before each end, shape (n_ends, 7); nan where no day is known."""
        padded = np.vstack([np.full((self.weeks, SEASON), np.nan), weeks])
        windows = padded[ends[:, None] + np.arange(self.weeks)].reshape(len(ends), -1)
        order = np.argsort(windows, axis=1)  # nan last
        ordered = np.take_along_axis(windows, order, axis=1)
        age = np.repeat(0.5 ** (np.arange(self.weeks)[::-1] / self.half_life_weeks), SEASON)
        same = np.arange(windows.shape[1]) % SEASON
        medians = np.empty((len(ends), SEASON))
        for weekday in range(SEASON):
            weights = np.where(same == weekday, age, self.other_weekdays * age)[order]
            weights[np.isnan(ordered)] = 0.0
            reached = np.cumsum(weights, axis=1)
            middle = (reached >= reached[:, -1:] / 2).argmax(axis=1)
            medians[:, weekday] = ordered[np.arange(len(ends)), middle]
        return medians
