"""How much farther from the last weeks a season moves: the folds of a calm autumn know nothing of December.

The errors that make the bands come from the last weeks alone; those of earlier years would take fits of years ago. A
forecast without a fit, the mean of the last same weekdays, can be made from any day of the past in no time. Where it
was worse in the season ahead of earlier years than it is on the folds, the blend will be, too, though less: it knows
part of the season.

::

    history  .............======..............................======......................|======
                          a year before the days ahead        the folds: = = =             ahead
"""

from collections.abc import Sequence

import numpy as np

from app.services.ml.calendar import Calendar
from app.services.ml.candidates.common import by_week, telling_sales
from app.services.ml.roots import to_roots
from app.services.ml.series import DAYS_A_YEAR, SEASON, DailySeries, FloatArray

WEEKS = 8  # same weekdays that are averaged
LEAST_WEEKS = 4  # before a day that is forecast from
LEAST_KNOWN = 0.5  # of the days of a season; from fewer nothing is concluded
SHARE = 0.5  # of the ratio, in logarithms: errors of the blend follow those of the simple mean by half
LARGEST = 3.0  # times the width that the folds give: a Christmas may move nine times as far as October


def season_width(series: DailySeries, calendar: Calendar, cutoffs: Sequence[int], n_days: int) -> float:
    """By how much the season ahead widens bands whose errors come from the folds, in 1..3.

    The root of the ratio of two mean errors of the last 8 same weekdays' mean: in the same weeks of all earlier years
    over the folds, both in roots of sales, whose errors grow with the level least. It never narrows: that earlier
    years were calm is no promise. 1 without an earlier year, or where the folds show no error at all.

    Parameters
    ----------
    series : the history, without promotions and at the level of its last day, as candidates see it
    calendar : closures say nothing, holidays do
    cutoffs : indices of the first day of each fold
    n_days : length of each fold, >= 1
    """
    roots = to_roots(telling_sales(series, calendar, knows_holidays=True))
    folds = [error for cutoff in cutoffs if np.isfinite(error := _error(roots, cutoff, n_days))]
    years = range(len(series) - DAYS_A_YEAR, 0, -DAYS_A_YEAR)
    seasons = [error for origin in years if np.isfinite(error := _error(roots, origin, n_days))]
    if not folds or not seasons or np.mean(folds) <= 0:
        return 1.0
    return float(np.clip((np.mean(seasons) / np.mean(folds)) ** SHARE, 1.0, LARGEST))


def _error(roots: FloatArray, origin: int, n_days: int) -> float:
    """Mean absolute error of the weekdays' mean on the days from ``origin`` on; nan where too little is known."""
    if origin < LEAST_WEEKS * SEASON:
        return float("nan")
    weeks = by_week(roots[max(origin - WEEKS * SEASON, 0) : origin])
    known = (~np.isnan(weeks)).sum(axis=0)
    mean = np.divide(np.nansum(weeks, axis=0), known, out=np.full(SEASON, np.nan), where=known > 0)
    days = roots[origin : origin + n_days]
    errors = np.abs(days - np.resize(mean, days.size))
    told = ~np.isnan(errors)
    return float(errors[told].mean()) if told.mean() >= LEAST_KNOWN else float("nan")
