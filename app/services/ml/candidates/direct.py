"""What the direct candidates share: each gives a forecast for rows, and never needs its own forecast to go on."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from app.errors import CandidateFailed
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.base import State
from app.services.ml.candidates.common import Candidate
from app.services.ml.candidates.direct_rows import Rows, Table
from app.services.ml.candidates.robust import RobustRidge
from app.services.ml.series import BoolArray, DailySeries, FloatArray

YEAR_DAYS = 365.25
LEAST_KNOWN = 0.25  # of the rows; the slope of a column known in fewer would rest on a few weeks, and run away later
LEAST_WAVE_DAYS = 546  # a year and a half; in less a wave of the year cannot be told from a change of level


class DirectCandidate(Candidate):
    """A method on the rows of `direct_rows`; the subclass learns in `_estimate` and answers in `_sales`."""

    def _fitted_values(self, series: DailySeries, calendar: Calendar, since: int) -> FloatArray:
        rows = Table.of(series, calendar).in_sample(since)
        fitted = np.full(len(series), np.nan)
        fitted[rows.days] = self._sales(rows)
        return fitted

    def _predict(self, series: DailySeries, calendar: Calendar, horizon: int) -> FloatArray:
        return self._sales(Table.of(series, calendar, horizon).ahead(horizon))

    @abstractmethod
    def _sales(self, rows: Rows) -> FloatArray:
        """The forecast of each row in the unit of the series, shape (n_rows,)."""


class RegressionCandidate(DirectCandidate):
    """One whose parameters are the ``n_columns`` coefficients of a `RobustRidge`."""

    n_columns: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self._regression: RobustRidge | None = None

    def _coefficients(self) -> RobustRidge:
        if self._regression is None:
            raise CandidateFailed(f"{self.name} has no coefficients before `fit`.")
        return self._regression

    def _parameters(self) -> State:
        return self._regression.state() if self._regression else {}

    def restore(self, state: State) -> None:
        """Take the coefficients back; ValueError when there is another number of them."""
        self._regression = RobustRidge.restore(state, self.n_columns)


def one_hot(values: FloatArray, n_values: int) -> FloatArray:
    """Columns that say which of 0 .. n_values - 1 each value is, shape (n_rows, n_values)."""
    return np.asarray(values[:, None] == np.arange(n_values), dtype=np.float64)


def in_spans(values: FloatArray, spans: Iterable[tuple[int, int]]) -> list[BoolArray]:
    """For each span a column, shape (n_rows,), that is true where first <= value < stop."""
    return [(values >= first) & (values < stop) for first, stop in spans]


def yearly_waves(day_of_year: FloatArray, order: int) -> FloatArray:
    """Sines and cosines of the year, shape (n_rows, 2 * order)."""
    angles = 2 * np.pi * day_of_year[:, None] * np.arange(1, order + 1) / YEAR_DAYS
    return np.column_stack([np.sin(angles), np.cos(angles)])


def distance_to_weeks(rows: Rows, farthest: float) -> FloatArray:
    """What a row's sales lie above its last same weekdays, in weekly differences, shape (n_rows,), cut at both ends."""
    return np.clip((rows.target - rows.base) / rows.spread, -farthest, farthest)


def bounded(columns: FloatArray, farthest: float) -> FloatArray:
    """Columns as a regression takes them, shape unchanged: what is not known counts as usual, 0; cut at both ends."""
    return np.asarray(np.clip(np.nan_to_num(columns), -farthest, farthest))


def learnable(columns: FloatArray, n_waves: int, n_days: int) -> FloatArray:
    """Training columns with 0, which gives no slope, in those that ``n_days`` of history cannot teach, shape unchanged.

    These are columns known in less than a quarter of the rows (a young tenant's days a year ago), and below a year and
    a half of history the ``n_waves`` last columns, the waves of the year.
    """
    taught = (~np.isnan(columns)).mean(axis=0) >= LEAST_KNOWN
    if n_days < LEAST_WAVE_DAYS:
        taught[-n_waves:] = False
    return np.where(taught, columns, 0.0)
