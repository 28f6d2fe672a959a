"""A tenant's daily sales as one gapless array."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from app.errors import InvalidSeries

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

SEASON = 7  # days: the week is the season of a shop
CLOSURE_DAYS = 2 * SEASON  # in a row without a sale; shorter ones look like holidays, and candidates cope with them
CLOSURES_A_YEAR = 2.0  # at most; more of them are how the shop sells
DAYS_A_YEAR = 52 * SEASON
LEAST_TRADING_SHARE = 0.5  # of the days outside of closures; a tenant that sells less often has such runs by luck
ONE_OFF = 3.0  # times the largest day of the last weeks; one day in 10,000 of the development data is such a day
ONE_OFF_DAYS = 8 * SEASON  # that a day is compared with
YEAR_AGO = (DAYS_A_YEAR, 10)  # days back, and days to either side, in which a yearly peak would show
LEAST_DAYS_SOLD = SEASON  # among them, before any day is called out of the ordinary

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class DailySeries:
    """Sales per business day, without gaps: ``y[i]`` belongs to ``start + i days``.

    ``y`` has shape (n_days,), finite, in the tenant's currency per business day; a day without sales is 0 and a day
    of refunds may be negative. The first day is the day of the first sale: days before it are unknown, not zeros.
    """

    start: date
    y: FloatArray
    _made: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        y = np.ascontiguousarray(self.y, dtype=np.float64)
        if y.ndim != 1 or y.size == 0 or not np.isfinite(y).all():
            raise InvalidSeries(f"A series needs at least one day and finite numbers; got shape {y.shape}.")
        y.setflags(write=False)
        object.__setattr__(self, "y", y)

    def __len__(self) -> int:
        return int(self.y.size)

    @property
    def end(self) -> date:
        """The last day of the series."""
        return self.start + timedelta(days=len(self) - 1)

    @cached_property
    def dates(self) -> npt.NDArray[np.datetime64]:
        """Shape (n_days,), dtype datetime64[D]."""
        return np.datetime64(self.start) + np.arange(len(self))

    @cached_property
    def weekdays(self) -> npt.NDArray[np.int64]:
        """Shape (n_days,): Monday is 0."""
        return weekdays_from(self.start, len(self))

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What ``make`` derives from these days, made the first time only: methods that need the same share it.

        It lives as long as this series, so that nothing of one tenant outlives its computation.
        """
        if key not in self._made:
            self._made[key] = make()
        return cast("Made", self._made[key])

    def head(self, n_days: int) -> "DailySeries":
        """The first ``n_days`` days: what was known at an earlier cut-off."""
        return DailySeries(self.start, self.y[:n_days])

    def tail(self, n_days: int) -> "DailySeries":
        """The last ``n_days`` days (all, when there are fewer)."""
        n = min(n_days, len(self))
        return DailySeries(self.end - timedelta(days=n - 1), self.y[len(self) - n :])


def weekdays_from(start: date, n_days: int) -> npt.NDArray[np.int64]:
    """Weekday numbers of ``n_days`` days from ``start`` on, shape (n_days,); Monday is 0."""
    return (start.weekday() + np.arange(n_days, dtype=np.int64)) % 7


def closed_weekdays(series: DailySeries, weeks: int = 12, max_chance: float = 0.01) -> tuple[int, ...]:
    """Weekdays (Monday is 0) on which the tenant does not trade: zero in each of the last trading weeks.

    The series is cut into weeks backwards from its end; a week in which nothing was sold (holiday closure, outage)
    says nothing about weekdays and does not count. Of the last ``weeks`` trading weeks every occurrence must be zero.
    A tenant that sells only now and then shows such a weekday by luck, so the weekdays that do trade must do it often
    enough: with p their share of trading days, (1 - p) ** weeks <= ``max_chance``.

    Parameters
    ----------
    series : any length; shorter than ``weeks`` trading weeks gives no closed weekday
    weeks : trading weeks that must agree, >= 1
    max_chance : in 0..1; the chance of such a weekday by luck that is still believed

    Returns
    -------
    tuple of int : ascending; never all seven
    """
    n_weeks = len(series) // 7
    by_week = series.y[len(series) - 7 * n_weeks :].reshape(n_weeks, 7) != 0  # column j is weekday of y[j - 7]
    recent = by_week[by_week.any(axis=1)][-weeks:]
    open_columns = recent.any(axis=0)
    if len(recent) < weeks or open_columns.all():
        return ()
    trading_share = float(recent[:, open_columns].mean())
    if (1 - trading_share) ** weeks > max_chance:
        return ()
    return tuple(sorted(int(day) for day in series.weekdays[-7:][~open_columns]))


def unannounced_closures(series: DailySeries) -> BoolArray:
    """Shape (n_days,): days of every run of two weeks or more without a sale, in a tenant that sells on most days.

    Such a run is a closure that nobody announced, or a feed that stopped: it says nothing about trading days. Two
    things must show that it is no luck and no habit: there are at most two such runs a year (and one more), and of the
    days outside of them at least half have sales, p >= 0.5, so that (1 - p) ** 14 is below 1 in 10,000. A run at the
    end counts, whether it goes on or not.
    """
    zero = series.y == 0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], zero, [False])).astype(np.int8)))
    runs = [(begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True) if end - begin >= CLOSURE_DAYS]
    closed = np.zeros(len(series), dtype=bool)
    for begin, end in runs:
        closed[begin:end] = True
    habit = len(runs) > 1 + CLOSURES_A_YEAR * len(series) / DAYS_A_YEAR
    if habit or closed.all() or float((~zero[~closed]).mean()) < LEAST_TRADING_SHARE:
        return np.zeros_like(closed)
    return closed


def one_off_days(series: DailySeries) -> BoolArray:
    """Shape (n_days,): days above three times everything of the 8 weeks before them and of the season a year before.

    A day like that is a typing error or a wedding party: nobody can forecast the next one from it. A second large day
    within 8 weeks is measured against the first, so that sales that stay high are believed at once. Only earlier days
    decide, and at least 7 of them must have sold something.
    """
    size = np.abs(series.y)
    back, around = YEAR_AGO
    recent = _largest_before(size, ONE_OFF_DAYS, 1)
    last_year = _largest_before(size, 2 * around + 1, back - around)
    sold_before = np.cumsum(np.append(0, size[:-1] > 0))
    flags: BoolArray = (
        (sold_before >= LEAST_DAYS_SOLD) & (recent > 0) & (size > ONE_OFF * np.maximum(recent, last_year))
    )
    return flags


def _largest_before(size: FloatArray, n_days: int, back: int) -> FloatArray:
    """The largest of the ``n_days`` days that end ``back`` days before each day, shape (n_days,); 0 where none are."""
    padded = np.concatenate([np.zeros(n_days + back - 1), size])
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_days)
    return np.asarray(windows[: size.size].max(axis=1))
