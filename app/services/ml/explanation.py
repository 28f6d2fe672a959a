"""Why a day's forecast is what it is: five parts that sum exactly to it, whatever method made it.

::

    yhat  =  level     the mean day of the last eight weeks
           + weekday   how far the day's weekday lay from that
           + season    how the time of year moved such days in earlier years
           + calendar  public holidays, promotions, events and closures
           + recent    the rest: the newest days, and what the methods see in them

The first three are arithmetic on the history. `calendar` is read off the forecast itself: on a known day it is how far
the forecast departs from what the same forecast says of ordinary days of that weekday. So a blend that ignores
holidays has no such part on them, and an effect that was learnt but is not forecast is not claimed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Context, Decimal, localcontext

import numpy as np

from app.services.ml.calendar import Calendar, IntArray
from app.services.ml.candidates.common import known_sales, telling_sales
from app.services.ml.series import SEASON, BoolArray, DailySeries, FloatArray, weekdays_from

PARTS = ("level", "weekday", "season", "calendar", "recent")
BASE_DAYS = 8 * SEASON  # the weeks that level and weekday are means of
KNOWN_DAYS = 2 * BASE_DAYS  # looked at, so that a day without sales can be told from a weekday without
YEAR = 52 * SEASON  # days: a year in whole weeks, so that weekdays stay together
MAX_YEARS = 3
NEAREST = 3  # ordinary days that a known day is compared with
HALF_WINDOW = 17  # days on both sides: the time of year is a mean of five whole weeks
MAX_RATIO = 2.0  # a time of year that doubles or halves sales; beyond it a closure or an outage is in the years before
SIGNIFICANT_DIGITS = 6  # of the published forecast, and of its parts
DOUBLE_DIGITS = 15  # that a double keeps whatever they are
EXACT = Context(prec=700)  # digits enough for the sum of the largest double and the smallest
CENTS = 2  # decimal places of a total
# These forecast a holiday or an event as any other day: a difference between their days has another cause.
BLIND_TO_HOLIDAYS = frozenset({"naive", "snaive", "weekday_mean", "weekday_median", "mean"})
BLIND_TO_PROMOTIONS = frozenset({"mean"})  # every candidate gets what past promotions sold, see `promotions`

Money = Callable[[float], str]


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of each forecast day, all of shape (horizon,), in the tenant's currency per business day.

    As decimal numbers (as JSON says them) they sum exactly to the published forecast: four are rounded to the last of
    the six significant digits of the level or of the largest forecast, `recent` is the exact rest. A sum of doubles
    agrees to their precision.
    """

    level: FloatArray
    weekday: FloatArray
    season: FloatArray
    calendar: FloatArray
    recent: FloatArray

    def of_day(self, step: int) -> dict[str, float]:
        """One day's parts by name, in the order of `PARTS`."""
        return {name: float(getattr(self, name)[step]) for name in PARTS}


def explain(series: DailySeries, calendar: Calendar, yhat: FloatArray, weights: Mapping[str, float]) -> Parts:
    """Take a published forecast apart.

    Parameters
    ----------
    series : the days that the forecast follows, one or more
    calendar : with the closed weekdays that these days show
    yhat : shape (horizon,), as published, zero on closed days
    weights : of the members of the forecast, by name

    Returns
    -------
    Parts : finite; on a closed weekday `weekday` takes the level away, on an announced closure `calendar` takes away
        what the day would have had
    """
    start, horizon = series.end + timedelta(days=1), yhat.size
    weekdays = weekdays_from(start, horizon)
    level, effects = _profile(series, calendar)
    never = np.isin(weekdays, sorted(calendar.closed_weekdays))
    closed = calendar.closures(start, horizon) & ~never
    weekday = np.where(never, -level, effects[weekdays])
    season = np.where(never, 0.0, (level + weekday) * (_season_ratio(series, calendar, horizon) - 1.0))
    rest = np.where(never, 0.0, yhat - level - weekday - season)
    known = _known_days(calendar, start, horizon) & ~never & ~closed
    if not weights.keys() - BLIND_TO_HOLIDAYS:
        known &= calendar.promotions(start, horizon)
    if not weights.keys() - BLIND_TO_PROMOTIONS:
        known = np.zeros(horizon, dtype=bool)
    of_the_day = rest - _of_ordinary_days(rest, weekdays, known, ~(known | never | closed))
    estimated = np.column_stack([np.full(horizon, level), weekday, season, np.where(known, of_the_day, 0.0)])
    decimals = _decimals(max(abs(level), float(np.abs(yhat).max())))
    rows = [
        _exact(published, parts, decimals, closed=shut)
        for published, parts, shut in zip(yhat.tolist(), estimated.tolist(), closed.tolist(), strict=True)
    ]
    return Parts(*np.array(rows).T)


def sums(parts: Parts, n_days: int, total: float) -> dict[str, float]:
    """The parts of the first ``n_days`` days together, to the cent; in decimal they sum exactly to ``total``.

    Where that is not the sum of the days (see `rare_sales`), `recent` has the difference: beside the mean day that the
    level is, little is left of it.
    """
    summed = [math.fsum(getattr(parts, name)[:n_days]) for name in PARTS[:-1]]
    as_many_as_fit = _decimals(max(map(abs, [total, *summed]))) + DOUBLE_DIGITS - SIGNIFICANT_DIGITS
    return dict(zip(PARTS, _exact(total, summed, min(CENTS, as_many_as_fit)), strict=True))


def _profile(series: DailySeries, calendar: Calendar) -> tuple[float, FloatArray]:
    """The mean day of the last eight weeks, and how far each weekday lies from it, shape (7,).

    Every weekday has the same part in the mean. Days that the calendar knows, and days without sales whose weekday
    usually has some, are left out. Below two weeks weekdays are not told apart.
    """
    days = series.tail(KNOWN_DAYS)
    known = _known_days(calendar, days.start, len(days))
    sales = np.where(known, np.nan, telling_sales(days, calendar, knows_holidays=False))[-BASE_DAYS:]
    weekdays = days.weekdays[-BASE_DAYS:]
    if np.isnan(sales).all():
        sales = days.y[-BASE_DAYS:]
    told = ~np.isnan(sales)
    if len(days) < 2 * SEASON:
        return float(sales[told].mean()), np.zeros(SEASON)
    count = np.bincount(weekdays[told], minlength=SEASON)
    total = np.bincount(weekdays[told], weights=sales[told], minlength=SEASON)
    level = float((total[count > 0] / count[count > 0]).mean())
    return level, np.divide(total, count, out=np.full(SEASON, level), where=count > 0) - level


def _season_ratio(series: DailySeries, calendar: Calendar, horizon: int) -> FloatArray:
    """What the time of year multiplies sales by, beside the last eight weeks, shape (horizon,); 1 below 420 days.

    In each of up to three earlier years: the five weeks around the day against the eight weeks that are the last now.
    With k years k / (k + 1) of the difference counts: one year may be chance.
    """
    n_days = len(series)
    years = min((n_days - BASE_DAYS) // YEAR, MAX_YEARS)
    if years < 1:
        return np.ones(horizon)
    sales = known_sales(series, calendar)
    told = ~np.isnan(sales)
    total = np.concatenate([[0.0], np.cumsum(np.where(told, sales, 0.0))])
    count = np.concatenate([[0], np.cumsum(told)])

    def mean(first: IntArray, last: IntArray) -> FloatArray:
        first, last = np.clip(first, 0, n_days), np.clip(last, 0, n_days)
        return np.asarray((total[last] - total[first]) / np.maximum(count[last] - count[first], 1))

    back = YEAR * np.arange(1, years + 1)[:, None]
    day = n_days + np.arange(horizon) - back
    before = mean(n_days - BASE_DAYS - back, n_days - back)
    around = mean(day - HALF_WINDOW, day + HALF_WINDOW + 1)
    told_by = (before > 0) & (around > 0)
    ratio = np.divide(around, before, out=np.ones(around.shape), where=told_by)
    ratio = np.clip(ratio, 1.0 / MAX_RATIO, MAX_RATIO) - 1.0
    return np.asarray(1.0 + (ratio * told_by).sum(axis=0) / (told_by.sum(axis=0) + 1))


def _known_days(calendar: Calendar, start: date, n_days: int) -> BoolArray:
    """Days that a candidate may treat as no ordinary ones: holidays, their eves and morrows, promotions, events."""
    return np.asarray(calendar.regressors(start, n_days)[1].any(axis=1))


def _of_ordinary_days(rest: FloatArray, weekdays: IntArray, known: BoolArray, ordinary: BoolArray) -> FloatArray:
    """``rest`` with that of the nearest ordinary days of the same weekday on the known days.

    Of any weekday where that one has no ordinary day ahead, and zero where there is none at all.
    """
    told = rest.copy()
    for step in np.flatnonzero(known):
        same = np.flatnonzero(ordinary & (weekdays == weekdays[step]))
        near = same if same.size else np.flatnonzero(ordinary)
        nearest = near[np.argsort(np.abs(near - step), kind="stable")][:NEAREST]
        told[step] = rest[nearest].mean() if nearest.size else 0.0
    return told


def _exact(yhat: float, estimated: Sequence[float], decimals: int, *, closed: bool = False) -> list[float]:
    """Level, weekday, season and calendar rounded, and the exact decimal rest.

    On a ``closed`` day the calendar takes away all that the rounded others give. Where the rest needs more digits than
    a double has (a forecast of a billionth of the level), the level is taken away and the forecast is the rest.
    """
    parts = [round(part, decimals) + 0.0 for part in estimated]
    with localcontext(EXACT):
        if closed:
            parts[-1] = float(-sum(map(_decimal, parts[:-1]))) + 0.0
        rest = _decimal(yhat) - sum(map(_decimal, parts))
        if _decimal(float(rest)) != rest:
            return [parts[0], -parts[0], 0.0, 0.0, yhat]
    return [*parts, float(rest) + 0.0]


def _decimals(largest: float) -> int:
    """Decimal places that show six significant digits of a number of this size."""
    return SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(largest)) if largest > 0 else 0


def _decimal(value: float) -> Decimal:
    """The number that JSON says: the shortest decimal that names the double."""
    return Decimal(repr(float(value)))


# --- the sentence ----------------------------------------------------------------------------------------------------

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "sentence": "{head}: {total}; {parts}.",
        "level_day": "{amount} is an average day of the last weeks",
        "level_days": "{amount} is {n} average days of the last weeks",
        "more": "{amount} more for {cause}",
        "less": "{amount} less for {cause}",
        "weekday": "the day of the week",
        "season": "the time of year",
        "calendar": "holidays, promotions and closures",
        "recent": "the newest sales and what the methods make of them",
        "and": " and ",
    },
    "es": {
        "sentence": "{head}: {total}; {parts}.",
        "level_day": "{amount} es un día medio de las últimas semanas",
        "level_days": "{amount} son {n} días medios de las últimas semanas",
        "more": "{amount} más por {cause}",
        "less": "{amount} menos por {cause}",
        "weekday": "el día de la semana",
        "season": "la época del año",
        "calendar": "festivos, promociones y cierres",
        "recent": "las ventas más recientes y lo que los métodos ven en ellas",
        "and": " y ",
    },
}


def sentence(
    head: str, total: float, parts: Mapping[str, float], n_days: int, language: str, money: Money, known: str = ""
) -> str:
    """What the forecast of some days consists of, in one sentence; a part that shows as zero is left out.

    Parameters
    ----------
    head : which days, as the reader says it
    total, parts : of these days together, the parts by their names in `PARTS`
    n_days : how many days, >= 1
    language : "en" or "es"
    money : an amount as the reader writes it; it gets sizes, the words say more or less
    known : what the calendar knows about the days, by name; without it the kinds of things that it may know
    """
    words = WORDS[language]
    level = words["level_day" if n_days == 1 else "level_days"]
    said = [level.format(amount=money(parts["level"]), n=n_days)]
    for name in PARTS[1:]:
        amount = money(abs(parts[name]))
        if amount == money(0.0):
            continue
        cause = known if known and name == "calendar" else words[name]
        said.append(words["more" if parts[name] > 0 else "less"].format(amount=amount, cause=cause))
    listed = words["and"].join([", ".join(said[:-1]), said[-1]] if said[1:] else said)
    return words["sentence"].format(head=head, total=money(total), parts=listed)
