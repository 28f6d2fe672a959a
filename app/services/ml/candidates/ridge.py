"""Ridge: the days ahead as a weighted sum of recent days, last year's and the calendar, all horizons in one fit."""

from typing import ClassVar

import numpy as np

from app.services.ml.calendar import Calendar
from app.services.ml.candidates.common import PAYDAY_SPANS
from app.services.ml.candidates.direct import (
    RegressionCandidate,
    bounded,
    distance_to_weeks,
    in_spans,
    learnable,
    one_hot,
    yearly_waves,
)
from app.services.ml.candidates.direct_rows import STEPS, Rows, Table
from app.services.ml.candidates.robust import RobustRidge
from app.services.ml.series import SEASON, DailySeries, FloatArray

PENALTY = 300.0  # rows; recent days say much the same, and only a strong penalty shares the weight among them
PENALTY_OF_KNOWN_DAYS = 30.0  # rows; a holiday comes a few times a year, and nothing else can explain it
REWEIGHTINGS = 3
FARTHEST = 8.0  # weekly differences: a target or feature farther out counts as this far
YEARLY_ORDER = 2
DAYS_OF_MONTH = 31
MONTH_ENDS = 3  # days of the start and of the end of a month that are apart
# Distances from the base, in weekly differences; then what is used as it is.
DISTANCES = (
    *(f"week_{k}" for k in range(1, 7)),
    *(f"fortnight_{k}" for k in range(1, 4)),
    *("fortnight", "month_ago", "median"),
)
PLAIN = (
    *("level_7", "level_14", "level_56", "level_91", "level_364", "zeros_28", "zeros_364"),
    *("year_357", "year_364", "year_371", "year_mean_3", "year_mean_14", "season", "date_effect"),
)
KNOWN_DAYS = (
    *("holiday_effect", "holiday", "holiday_eve", "holiday_morrow", "regional_holiday", "recent_holidays"),
    *("promotion", "event"),
)
N_OTHERS = 8 + len(PAYDAY_SPANS)
N_COLUMNS = len(KNOWN_DAYS) + len(DISTANCES) + len(PLAIN) + SEASON + 2 * YEARLY_ORDER + N_OTHERS
PENALTIES = np.full(N_COLUMNS, PENALTY)
PENALTIES[: len(KNOWN_DAYS)] = PENALTY_OF_KNOWN_DAYS


class Ridge(RegressionCandidate):
    """A direct linear regression with absolute loss (see `robust`) on one row per weekly origin and day ahead.

    Target and lags are distances from the mean of the last 8 same weekdays over the usual weekly difference, so that
    the intercept alone is a weekday mean. For direct forecasts: Marcellino, Stock & Watson (2006), *Journal of
    Econometrics* 135(1-2), 499-526.
    """

    name: ClassVar[str] = "ridge"
    min_history: ClassVar[int] = 8 * SEASON
    n_columns: ClassVar[int] = N_COLUMNS

    def _estimate(self, series: DailySeries, calendar: Calendar) -> None:
        rows = Table.of(series, calendar).training()
        columns = bounded(learnable(_columns(rows), 2 * YEARLY_ORDER, len(series)), FARTHEST)
        self._regression = RobustRidge.fit(columns, distance_to_weeks(rows, FARTHEST), PENALTIES, REWEIGHTINGS)

    def _sales(self, rows: Rows) -> FloatArray:
        return rows.sales(rows.base + rows.spread * self._coefficients().predict(design(rows)))


def design(rows: Rows) -> FloatArray:
    """Columns of the regression, shape (n_rows, N_COLUMNS)."""
    return bounded(_columns(rows), FARTHEST)


def _columns(rows: Rows) -> FloatArray:
    """What `design` is made of; nan where it is not known. The waves come last."""
    distances = [(rows.column(name) - rows.base) / rows.spread for name in DISTANCES]
    known_days, plain = ([rows.column(name) for name in names] for names in (KNOWN_DAYS, PLAIN))
    step = rows.column("step") / STEPS
    others = [
        rows.column("deviation") / rows.spread,
        rows.column("base_over_month") / rows.spread,
        rows.base / rows.spread,
        rows.column("day_of_month") < MONTH_ENDS,
        rows.column("days_to_month_end") <= MONTH_ENDS,
        rows.column("day_of_month") / DAYS_OF_MONTH,
        step,
        step * rows.column("level_7"),
        *in_spans(rows.column("days_since_payday"), PAYDAY_SPANS.values()),
    ]
    weekdays = one_hot(rows.column("weekday"), SEASON)
    waves = yearly_waves(rows.column("day_of_year"), YEARLY_ORDER)
    return np.column_stack([*known_days, *distances, *plain, *others, weekdays, waves])
