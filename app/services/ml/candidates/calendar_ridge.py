"""Calendar ridge: the recent level and what the calendar says of a day, learned from all past days."""

from typing import ClassVar

import numpy as np

from app.services.ml.calendar import Calendar
from app.services.ml.candidates.common import PAYDAY_SPANS
from app.services.ml.candidates.direct import (
    RegressionCandidate,
    bounded,
    in_spans,
    learnable,
    one_hot,
    yearly_waves,
)
from app.services.ml.candidates.direct_rows import Rows, Table
from app.services.ml.candidates.robust import RobustRidge
from app.services.ml.series import SEASON, DailySeries, FloatArray

PENALTY = 50.0  # rows
REWEIGHTINGS = 2
HALF_LIFE_DAYS = 730.0  # a day counts half as much as one two years later
FARTHEST = 8.0  # weekly differences: a target or feature farther out counts as this far
YEARLY_ORDER = 5
MONTH_SPANS = ((0, 1), (0, 3), (3, 7), (13, 17))  # days of the month, from 0: the first, the first days, the middle
MONTH_ENDS = (1, 3, 7)  # days left of the month
PLAIN = (
    *("level_7", "level_14", "level_56", "level_91", "level_364", "date_effect", "holiday_effect"),
    *("regional_holiday", "holiday", "holiday_eve", "holiday_morrow", "promotion", "event"),
)
N_COLUMNS = len(PLAIN) + len(MONTH_SPANS) + len(MONTH_ENDS) + len(PAYDAY_SPANS) + 3 * SEASON + 2 * YEARLY_ORDER


class CalendarRidge(RegressionCandidate):
    """A regression on weekday, day of the fortnight, waves of the year, month ends and holidays, older days decayed.

    The target is the distance from the mean of the last 28 days, so that the forecast follows the level; nothing in it
    repeats what single recent days did. Waves as in Young, Pedregal & Tych (1999), *Dynamic harmonic regression*,
    Journal of Forecasting 18(6), 369-394; the fit is `RobustRidge`.
    """

    name: ClassVar[str] = "calendar_ridge"
    min_history: ClassVar[int] = 8 * SEASON
    n_columns: ClassVar[int] = N_COLUMNS

    def _estimate(self, series: DailySeries, calendar: Calendar) -> None:
        rows = Table.of(series, calendar).training()
        target = np.clip((rows.target - _month(rows)) / rows.spread, -FARTHEST, FARTHEST)
        weights = 0.5 ** ((len(series) - rows.days) / HALF_LIFE_DAYS)
        columns = bounded(learnable(_columns(rows), 2 * YEARLY_ORDER, len(series)), FARTHEST)
        self._regression = RobustRidge.fit(columns, target, np.full(N_COLUMNS, PENALTY), REWEIGHTINGS, weights)

    def _sales(self, rows: Rows) -> FloatArray:
        return rows.sales(_month(rows) + rows.spread * self._coefficients().predict(design(rows)))


def design(rows: Rows) -> FloatArray:
    """Columns of the regression, shape (n_rows, N_COLUMNS)."""
    return bounded(_columns(rows), FARTHEST)


def _columns(rows: Rows) -> FloatArray:
    """What `design` is made of; nan where it is not known. The waves come last."""
    day, left = rows.column("day_of_month"), rows.column("days_to_month_end")
    return np.column_stack(
        [
            *(rows.column(name) for name in PLAIN),
            *in_spans(day, MONTH_SPANS),
            *(left <= most for most in MONTH_ENDS),
            *in_spans(rows.column("days_since_payday"), PAYDAY_SPANS.values()),
            one_hot(rows.column("weekday"), SEASON),
            one_hot(rows.column("fortnight_day"), 2 * SEASON),
            yearly_waves(rows.column("day_of_year"), YEARLY_ORDER),
        ]
    )


def _month(rows: Rows) -> FloatArray:
    """Mean of the last 28 days before the origin, in the unit of the target."""
    return rows.base - rows.column("base_over_month")
