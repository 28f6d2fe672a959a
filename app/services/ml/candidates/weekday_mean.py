"""Mean of the last same weekdays, steadied while few are known: what a shop owner would say when asked."""

from typing import ClassVar

import numpy as np

from app.services.ml.calendar import Calendar, IntArray
from app.services.ml.candidates.common import (
    Candidate,
    by_week,
    carried_forward,
    over_long_gaps,
    repeated_week,
    telling_sales,
)
from app.services.ml.series import SEASON, BoolArray, DailySeries, FloatArray

FIRST_PRIOR = 0.75  # weeks that the mean of all weekdays counts for, before days of one weekday can be compared
LARGEST_PRIOR = 2.0  # weeks, however alike the weekdays seem
SMALLEST = 1e-300  # a divisor for a series without sales
LEAST_FREEDOM = 3  # repeated weekdays from which on the noise of a day can be told


class WeekdayMean(Candidate):
    """The mean of the last `weeks` same weekdays, shrunk toward that of all trading weekdays; works from one day on.

    A moving average over the seasonal sub-series (Makridakis, Wheelwright & Hyndman, *Forecasting*, 1998, section 4/2).
    Eight weeks hold four whole cycles of two-weekly promotions, and are short enough to follow a change of level.
    Announced closures and zeros that are odd for the weekday are left out. The prior weighs as many weeks as the
    variance of days within weekdays is of that between them: empirical Bayes, Efron & Morris (1975), *Data analysis
    using Stein's estimator*, JASA 70(350), 311-319. A weekday that never sold stays at zero, one that is not known yet
    is taken to be like the others.
    """

    name: ClassVar[str] = "weekday_mean"
    min_history: ClassVar[int] = 1
    weeks: ClassVar[int] = 8

    def _fitted_values(self, series: DailySeries, calendar: Calendar, since: int) -> FloatArray:  # noqa: ARG002 - all at once
        means = self._means(series, calendar)
        before = np.vstack([np.full(SEASON, np.nan), means[:-1]])
        return before.ravel()[-len(series) :]

    def _predict(self, series: DailySeries, calendar: Calendar, horizon: int) -> FloatArray:
        return repeated_week(self._means(series, calendar)[-1], horizon)

    def _means(self, series: DailySeries, calendar: Calendar) -> FloatArray:
        """Of each week and the `weeks` - 1 before it, shape (n_weeks, 7); nan before the first known day."""
        weeks = by_week(over_long_gaps(telling_sales(series, calendar, knows_holidays=False)))
        padded = np.vstack([np.full((self.weeks - 1, SEASON), np.nan), weeks])
        size = max(float(np.nanmax(np.abs(weeks))), SMALLEST)  # squares of the largest sales would overflow
        windows = np.lib.stride_tricks.sliding_window_view(padded / size, self.weeks, axis=0)
        return carried_forward(size * _shrunk_means(windows))


def _shrunk_means(windows: FloatArray) -> FloatArray:
    """Weekday means of ``windows``, shape (n, 7, weeks), nan where unknown: shape (n, 7), nan where no day is known."""
    known: BoolArray = ~np.isnan(windows)
    count = known.sum(axis=-1)
    means = np.nansum(windows, axis=-1) / np.maximum(count, 1)
    trading = (count > 0) & (means != 0)
    n_trading = np.maximum(trading.sum(axis=-1), 1)
    overall = np.where(trading, means, 0.0).sum(axis=-1) / n_trading
    prior = _prior_weeks(windows, known, count, means, trading, overall)[:, None]
    shrunk = (count * means + prior * overall[:, None]) / (count + prior + (count == 0))
    filled = np.where(trading, shrunk, np.where(count > 0, 0.0, overall[:, None]))
    return np.where((count == 0).all(axis=-1, keepdims=True), np.nan, filled)


def _prior_weeks(
    windows: FloatArray, known: BoolArray, count: IntArray, means: FloatArray, trading: BoolArray, overall: FloatArray
) -> FloatArray:
    """Variance within weekdays over the variance between them, shape (n,), among trading weekdays."""
    n_trading = trading.sum(axis=-1)
    counted = np.where(trading, count, 0)
    freedom = counted.sum(axis=-1) - n_trading
    away = np.where(known & trading[..., None], windows - means[..., None], 0.0)
    within = (away**2).sum(axis=(-2, -1)) / np.maximum(freedom, 1)
    spread = (np.where(trading, means - overall[:, None], 0.0) ** 2).sum(axis=-1) / np.maximum(n_trading - 1, 1)
    between = spread - within * n_trading / np.maximum(counted.sum(axis=-1), 1)
    ratio = np.divide(within, between, out=np.full(within.shape, LARGEST_PRIOR), where=between > within / LARGEST_PRIOR)
    return np.where((freedom >= LEAST_FREEDOM) & (n_trading > 1), ratio, FIRST_PRIOR)
