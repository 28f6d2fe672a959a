"""A level that has changed for good: found in the last weeks, and taken out of the days before it.

A shop that lost half of its customers two weeks ago is forecast from weeks that no longer hold; one that doubled eight
weeks ago is learned from a year at another size. Once the days before the change are converted to the level of today,
every method sees a shop that goes on as it is.
"""

from dataclasses import dataclass

import numpy as np

from app.services.ml.calendar import Calendar, IntArray
from app.services.ml.series import DAYS_A_YEAR, SEASON, DailySeries, FloatArray

NEW_DAYS = (2 * SEASON, 12 * SEASON)  # least and most at the new level; later the old one is out of reach of most lags
OLD_DAYS = (4 * SEASON, 8 * SEASON)  # before the change that are compared; at least so many
LARGEST = 1e4  # times, or its inverse: a currency may lose four zeros; more would overflow squares somewhere
SMALLEST = 1.6  # times the old level, or its inverse: Christmas, summer holidays and promotions mostly do less
CLEAR_SHARE = 0.8  # of the days on either side that lie on their side of the middle between the two levels
LEAST_TRADING_SHARE = 0.6  # of the days; where sales are rare, two weeks of luck look like a change
SEASONAL = 0.5  # of the change, in logarithms: as much of it a year ago, and it is the season


@dataclass(frozen=True)
class LevelShift:
    """The last ``days`` days sell ``factor`` times what the days before them sold, > 0; 0 days and 1 for no change."""

    factor: float = 1.0
    days: int = 0

    def factors(self, n_days: int) -> FloatArray:
        """What converts each of ``n_days`` days to the level of the last one, shape (n_days,)."""
        return np.where(np.arange(n_days) < n_days - self.days, self.factor, 1.0)

    def is_missed(self, cutoff: int, horizon: int, n_days: int) -> bool:
        """Does the change fall on ``horizon`` days that were forecast from ``cutoff``, before it could be known?"""
        changed = n_days - self.days
        return self.days > 0 and cutoff < changed + NEW_DAYS[0] and changed < cutoff + horizon

    def taken_from(self, series: DailySeries) -> DailySeries:
        """The series at the level of its last day; itself when nothing has changed."""
        if self.days == 0:
            return series
        return series.once(self, lambda: DailySeries(series.start, series.y * self.factors(len(series))))


NO_SHIFT = LevelShift()


def find_level_shift(series: DailySeries, calendar: Calendar) -> LevelShift:
    """The change of level within the last two to twelve weeks that nobody can miss, if there is one.

    Logarithms of sales, less the mean of their weekday, are cut in two where the two means differ most beside the
    spread around them. It is a change for good when the medians are at least 1.6 times apart, four in five days of
    either side lie on their side of the middle, and the same weeks of the year before show less than half of it.
    Days without sales and closures tell nothing of the level.

    References
    ----------
    Chen & Liu (1993), *Joint estimation of model parameters and outlier effects in time series*, JASA 88(421),
    284-297, for level shifts and their size; the tests are ours.
    """
    return series.once(("level shift", calendar), lambda: _find(_sold(series, calendar)))


def _sold(series: DailySeries, calendar: Calendar) -> FloatArray:
    """Sales of the days that sold something and were not announced as closed, nan on others, shape (n_days,)."""
    return np.where((series.y > 0) & ~calendar.closures(series.start, len(series)), series.y, np.nan)


def _find(sold: FloatArray) -> LevelShift:
    recent = sold[-NEW_DAYS[1] - OLD_DAYS[1] :]
    if recent.size < NEW_DAYS[0] + OLD_DAYS[0] or (~np.isnan(recent)).mean() < LEAST_TRADING_SHARE:
        return NO_SHIFT
    level = _without_week(np.log(recent))
    days = _clearest_cut(level)
    if days == 0:
        return NO_SHIFT
    old, new = level[max(level.size - days - OLD_DAYS[1], 0) : level.size - days], level[level.size - days :]
    change = float(np.nanmedian(new) - np.nanmedian(old))
    if abs(change) < np.log(SMALLEST) or not _are_apart(old, new) or _is_seasonal(sold, days, change):
        return NO_SHIFT
    return LevelShift(float(np.clip(np.exp(change), 1 / LARGEST, LARGEST)), days)


def _without_week(logs: FloatArray) -> FloatArray:
    """Logarithms less the mean of their weekday, shape unchanged."""
    weekday = np.arange(logs.size) % SEASON
    known = ~np.isnan(logs)
    total = np.bincount(weekday[known], weights=logs[known], minlength=SEASON)
    return logs - (total / np.maximum(np.bincount(weekday[known], minlength=SEASON), 1))[weekday]


def _clearest_cut(level: FloatArray) -> int:
    """Days after the cut whose two sides differ most in their means, by Student's t; 0 where there is none."""
    n_days, (fewest, most) = level.size, NEW_DAYS
    new_days = np.arange(fewest, min(most, n_days - OLD_DAYS[0]) + 1)
    cut = n_days - new_days
    new = _moments(level, cut, np.full(cut.shape, n_days))
    old = _moments(level, np.maximum(cut - OLD_DAYS[1], 0), cut)
    enough = (new[0] >= fewest / 2) & (old[0] >= OLD_DAYS[0] / 2)
    if not enough.any():
        return 0
    freedom = np.maximum(new[0] + old[0] - 2, 1)
    spread = np.sqrt((new[2] + old[2]) / freedom * (1 / np.maximum(new[0], 1) + 1 / np.maximum(old[0], 1)))
    distance = np.abs(new[1] - old[1]) / np.maximum(spread, 1e-9)
    return int(new_days[np.where(enough, distance, -1.0).argmax()])


def _moments(values: FloatArray, start: IntArray, stop: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Number, mean and sum of squared distances of the known values in each [start, stop), shape as the indices."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    count, total, squares = (
        sums[stop] - sums[start]
        for sums in (np.concatenate([[0.0], np.cumsum(column)]) for column in (known, filled, filled**2))
    )
    mean = total / np.maximum(count, 1)
    return count, mean, np.maximum(squares - count * mean**2, 0.0)


def _are_apart(old: FloatArray, new: FloatArray) -> bool:
    """Does nearly every day of either side lie on its side of the middle? Growth and seasons come step by step."""
    before, after = np.nanmedian(old), np.nanmedian(new)
    middle, way = (before + after) / 2, np.sign(after - before)
    beyond = ((new[~np.isnan(new)] - middle) * way > 0).mean(), ((middle - old[~np.isnan(old)]) * way > 0).mean()
    return bool(min(beyond) >= CLEAR_SHARE)


def _is_seasonal(sold: FloatArray, days: int, change: float) -> bool:
    """Did the same weeks of the year before show half of the change?"""
    cut = sold.size - DAYS_A_YEAR - days
    if cut < OLD_DAYS[0]:
        return False
    old, new = sold[max(cut - OLD_DAYS[1], 0) : cut], sold[cut : cut + days]
    if np.isnan(old).all() or np.isnan(new).all():
        return False
    then = float(np.log(np.nanmean(new) / np.nanmean(old)))
    return then * change > SEASONAL * change**2
