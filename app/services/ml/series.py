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
