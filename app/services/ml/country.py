"""Which country's public holidays show in the sales: a suggestion for a tenant whose country is missing or wrong.

It is never applied unasked: a wrong country is worse than none.
"""

import numpy as np

from app.services.ml.calendar import Calendar
from app.services.ml.notes import Note, note
from app.services.ml.roots import to_roots
from app.services.ml.series import SEASON, BoolArray, DailySeries, FloatArray

# Countries that are looked at. Territories with another country's holidays would only tie with it.
COUNTRIES = (
    *("AR", "BO", "BR", "CL", "CO", "CR", "DO", "EC", "SV", "GT", "HN", "MX", "NI", "PA", "PY", "PE", "UY", "VE"),
    *("ES", "US", "CA", "GB", "IE", "DE", "AT", "CH", "FR", "IT", "PT", "NL", "BE", "LU", "PL", "CZ", "SK", "HU"),
    *("RO", "BG", "GR", "HR", "SI", "DK", "SE", "NO", "FI", "EE", "LV", "LT", "JP", "KR", "CN", "IN", "ID", "PH"),
    *("TH", "VN", "MY", "SG", "AU", "NZ", "ZA", "NG", "KE", "EG", "MA", "TR", "SA", "AE", "IL"),
)
LEAST_DAYS = 400
LEAST_OPEN_DAYS = 200
WEEKS = 4  # same weekdays to either side that a day is compared with
USUALLY_OPEN = 0.6  # share of a weekday's occurrences
SHIFTS = SEASON * np.array([*range(-26, -2), *range(3, 27)])  # the same calendar in wrong weeks, days
# On a holiday a day's rank among all days, counted from the oddest, is taken to be Beta(SHAPE, 1) with the chance
# NATIONAL, or REGIONAL where only a part of the country has it, and uniform otherwise.
SHAPE, NATIONAL, REGIONAL = 0.25, 0.7, 0.35
ABOVE_CHANCE = 3.0  # natural units of log-likelihood that a country must lie above every country in every wrong week
ABOVE_OTHERS = 6.0  # ... and above every other country
IN_REACH = 8.0  # below the best by national holidays: farther back no regional holiday is looked at
FIRST_JANUARY_DAYS, LAST_DECEMBER_DAYS = 2, 12  # odd everywhere: they tell no country from another
COUNTRY_NOTES = ("country_missing", "country_doubtful")  # what `note_on_country` may say


def note_on_country(series: DailySeries, given: str) -> tuple[Note, ...]:
    """A note when the country whose holidays are used is missing or looks wrong, and another one stands out."""
    found = suggest_country(series, given)
    if not found:
        return ()
    return (note("country_doubtful", given=given, country=found) if given else note("country_missing", country=found),)


def suggest_country(series: DailySeries, given: str = "") -> str:
    """The ISO 3166 code of the one country whose holidays explain the odd days of ``series``; "" when none stands out.

    Each day's sales are compared with the same weekdays around it. A country's score is the log-likelihood ratio that
    its holidays are the odd days (all of them low, or all of them high) against days like any others. The best country
    is suggested only when it lies clearly above every other one, and above what every country's calendar scores when
    it is moved by 3 to 26 weeks: the chance that is left when many are tried.

    Parameters
    ----------
    series : below 400 days there is no suggestion
    given : the country that is set; when its own holidays stand out there is no suggestion
    """
    if len(series) < LEAST_DAYS:
        return ""
    oddness = _oddness(series)
    if oddness is None:
        return ""
    national = _log_ratios(oddness, NATIONAL)
    if given and _stands_out(series, given, national):
        return ""
    found = _best(series, national, _log_ratios(oddness, REGIONAL))
    return "" if found == given.upper().partition("-")[0] else found


def _best(series: DailySeries, national: FloatArray, regional: FloatArray) -> str:
    flags = [_holidays(series, country) for country in COUNTRIES]
    scores = np.array([national[days].sum(axis=0) for days in flags])  # shape (n_countries, 2)
    largest = scores.max(axis=1)
    for i in np.flatnonzero(largest >= largest.max() - IN_REACH):
        parts = Calendar(COUNTRIES[i]).regional_holidays(series.start, len(series))
        largest[i] = (scores[i] + np.maximum(regional[parts].sum(axis=0), 0.0)).max()  # the shop may be elsewhere
    second, best = np.argsort(largest, kind="stable")[-2:]
    chance = max(_by_chance(national, days) for days in flags)
    clear = largest[best] >= chance + ABOVE_CHANCE and largest[best] >= largest[second] + ABOVE_OTHERS
    return COUNTRIES[best] if clear else ""


def _stands_out(series: DailySeries, country: str, national: FloatArray) -> bool:
    days = _holidays(series, country)
    return float(national[days].sum(axis=0).max()) >= _by_chance(national, days) + ABOVE_CHANCE


def _holidays(series: DailySeries, country: str) -> BoolArray:
    return Calendar(country).holidays(series.start, len(series))


def _by_chance(ratios: FloatArray, days: BoolArray) -> float:
    """The best score of the same calendar in wrong weeks."""
    moved = (np.flatnonzero(days)[:, None] + SHIFTS) % len(ratios)
    return float(ratios[moved].sum(axis=0).max())


def _log_ratios(oddness: FloatArray, chance: float) -> FloatArray:
    """Log-likelihood ratio of each day as a holiday, shape (n_days, 2); 0 on days that say nothing."""
    with np.errstate(invalid="ignore"):
        ratios = np.log(1.0 - chance + chance * SHAPE * oddness ** (SHAPE - 1.0))
    return np.nan_to_num(ratios)


def _oddness(series: DailySeries) -> FloatArray | None:
    """Rank of each day among all from the highest sales, and from the lowest, in 0..1, shape (n_days, 2).

    Sales are signed roots beside the median of the same weekdays around them, in units of the weekday's usual
    distance. Nan on weekdays that are mostly closed and around New Year; None when too few days are left.
    """
    roots = to_roots(series.y)
    padding = np.full(SEASON * WEEKS, np.nan)
    padded = np.concatenate([padding, roots, padding])
    weeks = np.delete(np.arange(2 * WEEKS + 1), WEEKS)
    around = np.sort(padded[np.arange(len(series))[:, None] + SEASON * weeks], axis=1)  # nan last
    known = (~np.isnan(around)).sum(axis=1)
    usual = (np.take_along_axis(around, np.stack([(known - 1) // 2, known // 2], axis=1), axis=1)).mean(axis=1)
    distance = roots - usual
    telling = ~_around_new_year(series)
    for weekday in range(SEASON):
        same = series.weekdays == weekday
        telling[same] &= (usual[same] > 0).mean() >= USUALLY_OPEN
        size = float(np.median(np.abs(distance[same])))
        distance[same] /= size or float(distance[same].std()) or 1.0
    if telling.sum() < LEAST_OPEN_DAYS:
        return None
    order = np.argsort(np.argsort(-distance[telling], kind="stable"), kind="stable") + 1
    ranks = np.full((len(series), 2), np.nan)
    ranks[telling] = np.column_stack([order, order.size + 1 - order]) / (order.size + 1)
    return ranks


def _around_new_year(series: DailySeries) -> BoolArray:
    years = series.dates.astype("datetime64[Y]")
    passed = (series.dates - years.astype("datetime64[D]")).astype(np.int64)
    left = ((years + 1).astype("datetime64[D]") - series.dates).astype(np.int64)
    return np.asarray((passed < FIRST_JANUARY_DAYS) | (left <= LAST_DECEMBER_DAYS))
