"""What promotions sell: measured on past promotion days, taken out of the history, put back on announced days."""

from dataclasses import dataclass
from datetime import date

import numpy as np

from app.services.ml.calendar import Calendar
from app.services.ml.series import SEASON, DailySeries, FloatArray

WEEKS = 4  # same weekdays to either side that a promotion day is compared with
PRIOR_DAYS = 1.0  # promotion days without effect that are added: one day alone shows half of what it sold
LARGEST = 5.0  # times the usual day; a day beyond counts as this much, and so does its inverse


@dataclass(frozen=True)
class Promotions:
    """``factor`` is what a promotion day sells over a usual one, > 0, shrunk to 1; ``days`` are those measured."""

    factor: float = 1.0
    days: int = 0

    def factors(self, calendar: Calendar, start: date, n_days: int) -> FloatArray:
        """``factor`` on announced promotion days, 1 on others, shape (n_days,)."""
        return np.where(calendar.promotions(start, n_days), self.factor, 1.0)

    def taken_from(self, series: DailySeries, calendar: Calendar) -> DailySeries:
        """The series as it would have been without promotions; itself when nothing was measured."""
        if self.days == 0:
            return series
        return DailySeries(series.start, series.y / self.factors(calendar, series.start, len(series)))


def measure_promotions(series: DailySeries, calendar: Calendar) -> Promotions:
    """What the promotion days of ``series`` sold beside usual days.

    The sum of their sales over the sum of what is usual: the mean of the four same weekdays before and the four after,
    other promotions, closures and public holidays left out. One day as usual is added to both sums, so that few days
    are believed little; a day counts at most five times the usual. Promotions as multiplicative effects: Trapero,
    Kourentzes & Fildes (2015), Journal of the Operational Research Society 66(2), 299-307.

    Returns
    -------
    Promotions : factor 1 of 0 days where no promotion day has usual days beside it
    """
    start, n_days = series.start, len(series)
    promoted = calendar.promotions(start, n_days)
    if not promoted.any():
        return Promotions()
    other = calendar.closures(start, n_days) | calendar.holidays(start, n_days)
    days = np.flatnonzero(promoted & ~other)
    usual = _usual(np.where(promoted | other, np.nan, series.y), days)
    days, usual = days[usual > 0], usual[usual > 0]
    if not days.size:
        return Promotions()
    middle = float(usual.mean())
    sold = np.minimum(series.y[days], LARGEST * np.maximum(usual, middle))
    factor = (float(sold.sum()) + PRIOR_DAYS * middle) / (float(usual.sum()) + PRIOR_DAYS * middle)
    return Promotions(min(max(factor, 1 / LARGEST), LARGEST), int(days.size))


def _usual(sales: FloatArray, days: np.ndarray[tuple[int], np.dtype[np.int64]]) -> FloatArray:
    """Mean of the known same weekdays around each of ``days``, shape (len(days),); 0 where there are none."""
    padding = np.full(SEASON * WEEKS, np.nan)
    padded = np.concatenate([padding, sales, padding])
    weeks = np.delete(np.arange(-WEEKS, WEEKS + 1), WEEKS)
    around = padded[days[:, None] + SEASON * (weeks + WEEKS)]
    known = (~np.isnan(around)).sum(axis=1)
    return np.asarray(np.nansum(around, axis=1) / np.maximum(known, 1))
