"""A tenant's daily sales as one gapless array."""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt

from app.errors import InvalidSeries

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

SEASON = 7  # days: the week is the season of a shop


@dataclass(frozen=True, eq=False)
class DailySeries:
    """Sales per business day, without gaps: ``y[i]`` belongs to ``start + i days``.

    ``y`` has shape (n_days,), finite, in the tenant's currency per business day; a day without sales is 0 and a day
    of refunds may be negative. The first day is the day of the first sale: days before it are unknown, not zeros.
    """

    start: date
    y: FloatArray

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
