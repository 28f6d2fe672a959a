"""Features of one row per day: lags and means of the recent level, the calendar, and what holidays did before.

Sales enter as signed roots of their share of the mean, so that shops of any size look alike and a huge day weighs
little; every feature of a day uses days before it only.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date

import numpy as np

from app.services.ml.calendar import Calendar, days_since_payday
from app.services.ml.candidates.common import known_ahead
from app.services.ml.series import SEASON, DailySeries, FloatArray

LAGS = np.array([1, 2, 7, 14, 21, 28, 364])
MEANS = (7, 14, 28)
DEEPEST = int(LAGS.max())
FIRST_ROW = max(MEANS)  # the first day with all means
CALENDAR_NAMES = (
    *("weekday", "fortnight_day", "day_of_month", "days_to_month_end", "day_of_year", "regional_holiday"),
    *("holiday", "holiday_eve", "holiday_morrow", "promotion", "event"),
    *("days_to_holiday", "days_since_holiday", "bridge", "days_since_payday"),
)
N_LEVEL_FEATURES = LAGS.size + len(MEANS) + 2
EFFECT_WEEKS = 4  # same weekdays that a holiday is compared with
EFFECTS = 2  # last effects of a holiday that are averaged


def mean_level(series: DailySeries) -> float:
    """Mean absolute sales of the last 364 days, > 0; 1 when there were none."""
    recent = np.abs(series.y[-DEEPEST:])
    largest = float(recent.max())
    return largest * float((recent / largest).mean()) if largest > 0 else 1.0


def level_features(roots: FloatArray) -> FloatArray:
    """Lags and means of every day, shape (n_days, N_LEVEL_FEATURES); nan where the history does not reach."""
    padded = np.concatenate([np.full(DEEPEST, np.nan), roots])
    days = np.arange(DEEPEST, padded.size)
    lagged = padded[days[:, None] - LAGS]
    totals = np.concatenate([[0.0], np.cumsum(roots)])
    means = np.full((roots.size, len(MEANS)), np.nan)
    for column, window in enumerate(MEANS):
        means[window:, column] = (totals[window:-1] - totals[: -window - 1]) / window
    return np.column_stack([lagged, means, *_phase_means(lagged.T)])


def level_features_of_next(padded: FloatArray, day: int) -> FloatArray:
    """The features of one day, shape (N_LEVEL_FEATURES,), from ``padded`` roots before index ``day`` (>= 364)."""
    lagged = padded[day - LAGS]
    means = [padded[day - window : day].sum() / window for window in MEANS]
    return np.array([*lagged, *means, *_phase_means(lagged)])


def _phase_means(lagged: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean of the last 4 same weekdays, and of the 2 that share the two-weekly phase."""
    return (lagged[2] + lagged[3] + lagged[4] + lagged[5]) / 4, (lagged[3] + lagged[5]) / 2


def calendar_features(calendar: Calendar, start: date, n_days: int) -> FloatArray:
    """What is known ahead of every day, shape (n_days, 15), columns as in `CALENDAR_NAMES`."""
    days = np.datetime64(start) + np.arange(n_days)
    months = days.astype("datetime64[M]")
    ordinal = start.toordinal() + np.arange(n_days)
    return np.column_stack(
        [
            (ordinal - 1) % SEASON,
            ordinal % (2 * SEASON),
            (days - months).astype(np.int64),
            ((months + 1).astype("datetime64[D]") - days).astype(np.int64),
            (days - days.astype("datetime64[Y]")).astype(np.int64),
            calendar.regional_holidays(start, n_days),
            known_ahead(calendar, start, n_days)[1],
            calendar.days_to_holiday(start, n_days),
            calendar.days_since_holiday(start, n_days),
            calendar.bridges(start, n_days),
            days_since_payday(start, n_days),
        ]
    ).astype(np.float64)


def calendar_ahead(series: DailySeries, calendar: Calendar, n_ahead: int) -> FloatArray:
    """`calendar_features` of a series and the ``n_ahead`` days after it, made once for all that ask for as many."""
    n_days = len(series) + n_ahead
    return series.once((calendar_features, calendar, n_days), lambda: calendar_features(calendar, series.start, n_days))


def holiday_effects(roots: FloatArray, groups: Sequence[str]) -> FloatArray:
    """What each holiday did the last times, shape (len(groups),): 0 on other days, nan on a holiday's first time.

    ``groups`` names the holiday of each day, from the first day of ``roots`` on and beyond its end. The effect of a
    day is its root minus the mean of the 4 same weekdays before; a holiday gets the mean of the last two effects of
    the same name and offset that were known at its time.
    """
    effects = np.zeros(len(groups))
    seen: dict[str, list[float]] = defaultdict(list)
    for day, group in enumerate(groups):
        if not group:
            continue
        before = seen[group][-EFFECTS:]
        effects[day] = sum(before) / len(before) if before else np.nan
        if EFFECT_WEEKS * SEASON <= day < roots.size:
            usual = roots[day - EFFECT_WEEKS * SEASON : day : SEASON].mean()
            seen[group].append(float(roots[day] - usual))
    return effects
