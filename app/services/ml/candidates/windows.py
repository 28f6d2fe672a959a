"""What a recurrent network sees: for each origin the weeks before it, one step a week, and the days ahead.

Nothing in it has a unit: sales are differences from the last same weekdays, in usual weekly differences (see
`direct_rows`), so that networks learn shapes and never amounts.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.services.ml.calendar import Calendar, IntArray
from app.services.ml.candidates.common import telling_sales
from app.services.ml.candidates.direct import bounded, distance_to_weeks, yearly_waves
from app.services.ml.candidates.direct_rows import WEEKS as BASE_WEEKS
from app.services.ml.candidates.direct_rows import Rows
from app.services.ml.candidates.ridge import FARTHEST, N_COLUMNS, design
from app.services.ml.roots import to_roots
from app.services.ml.series import SEASON, DailySeries, FloatArray

Float32Array = npt.NDArray[np.float32]
N_WEEKS = 26
N_SIGNALS = 2 * SEASON + 2  # of a week: its days, which of them are holidays, and the time of the year


@dataclass(frozen=True, eq=False)
class Windows:
    """The rows of `direct_rows` by origin and day ahead, and the weeks before each origin, oldest first.

    All arrays are finite but ``target``.
    """

    weeks: Float32Array  # shape (n_origins, N_WEEKS, N_SIGNALS)
    days: Float32Array  # shape (n_origins, n_steps, N_COLUMNS); zeros where there is no row
    target: Float32Array  # shape (n_origins, n_steps), weekly differences; nan where unknown or without a row
    origins: IntArray  # shape (n_origins,), index of the first day ahead; ascending
    at: tuple[IntArray, IntArray]  # of each row its origin and its step, shape (n_rows,)

    @classmethod
    def of(cls, rows: Rows, series: DailySeries, calendar: Calendar) -> "Windows":
        """The windows of ``rows``, which were made of this series and calendar."""
        origins, first, origin_of_row = np.unique(rows.days - rows.steps, return_index=True, return_inverse=True)
        at = (origin_of_row, rows.steps)
        shape = (origins.size, int(rows.steps.max(initial=0)) + 1)
        days = np.zeros((*shape, N_COLUMNS), dtype=np.float32)
        days[at] = design(rows)
        target = np.full(shape, np.nan, dtype=np.float32)
        target[at] = distance_to_weeks(rows, FARTHEST)
        weeks = _weeks_before(origins, rows.size[first], rows.spread[first], series, calendar)
        return cls(weeks, days, target, origins, at)


def _weeks_before(
    origins: IntArray, size: FloatArray, spread: FloatArray, series: DailySeries, calendar: Calendar
) -> Float32Array:
    """Shape (n_origins, N_WEEKS, N_SIGNALS)."""
    before = np.arange(-N_WEEKS * SEASON, 0)
    at = origins[:, None] + before + N_WEEKS * SEASON
    telling = telling_sales(series, calendar, knows_holidays=True)
    roots = np.concatenate([np.full(N_WEEKS * SEASON, np.nan), to_roots(telling)])
    holidays = np.concatenate([np.zeros(N_WEEKS * SEASON), calendar.holidays(series.start, len(series))])
    sold = (roots[at] / size[:, None] / spread[:, None]).reshape(-1, N_WEEKS, SEASON)
    recent = sold[:, -BASE_WEEKS:]
    known = (~np.isnan(recent)).sum(axis=1)
    base = np.divide(np.nansum(recent, axis=1), known, out=np.full(known.shape, np.nan), where=known > 0)
    day_of_year = (series.start.timetuple().tm_yday + (origins[:, None] + before[::SEASON])).astype(np.float64)
    waves = yearly_waves(day_of_year.ravel(), 1).reshape(origins.size, N_WEEKS, 2)
    distance = bounded(sold - base[:, None], FARTHEST)
    return np.concatenate([distance, holidays[at].reshape(sold.shape), waves], axis=-1, dtype=np.float32)
