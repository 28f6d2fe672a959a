"""What a forecast consists of: parts that sum exactly whatever the series, and a sentence that says their numbers."""

import json
import re
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.config.ml_settings import MLSettings
from app.services.ml.calendar import Calendar, DayKind, KnownDay
from app.services.ml.explanation import PARTS, WORDS, Parts, explain, sentence, sums
from app.services.ml.ladder import LAST_RUNG
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.series import DailySeries, weekdays_from
from app.services.report.formats import LANGUAGES, Locale
from tests.factories import closed_on_sundays, weekly_series

SEES, BLIND = {"ridge": 1.0}, {"snaive": 0.5, LAST_RUNG: 0.5}
MONDAY = date(2026, 1, 5)
PROFILE = np.array([100.0, 110, 120, 130, 150, 170, 60])  # Monday first; mean 120


def six_digits(values) -> np.ndarray:
    return np.array([float(f"{value:.6g}") for value in values])


def exactly(number: float) -> Fraction:
    """The number as JSON writes it."""
    return Fraction(json.dumps(float(number)))


def regular(n_weeks: int, factor: Any = 1.0) -> DailySeries:
    return DailySeries(MONDAY, np.tile(PROFILE, n_weeks) * factor)


def ahead(series: DailySeries, day: int) -> date:
    return series.end + timedelta(days=day)


def assert_exact(parts: Parts, yhat: np.ndarray) -> None:
    for step, published in enumerate(yhat.tolist()):
        of_day = parts.of_day(step)
        assert list(of_day) == list(PARTS)
        assert sum(map(exactly, of_day.values())) == exactly(published)


# --- the parts, by hand ----------------------------------------------------------------------------------------------


def test_a_regular_week_is_its_mean_and_its_weekdays():
    yhat = np.tile(PROFILE, 4)

    parts = explain(regular(20), Calendar(), yhat, SEES)

    np.testing.assert_allclose(parts.level, 120.0)
    np.testing.assert_allclose(parts.weekday, np.tile(PROFILE - 120, 4), atol=1e-9)
    for rest in (parts.season, parts.calendar, parts.recent):
        np.testing.assert_array_equal(rest, 0.0)


def test_what_the_forecast_has_beyond_the_last_weeks_is_the_recent_part():
    parts = explain(regular(20), Calendar(), np.tile(PROFILE, 4) + 7.0, SEES)

    np.testing.assert_allclose(parts.recent, 7.0)


def test_the_level_is_that_of_the_last_eight_weeks():
    shifted = np.concatenate([np.full(12 * 7, 2.0), np.ones(8 * 7)])

    parts = explain(regular(20, shifted), Calendar(), np.tile(PROFILE, 4), SEES)

    np.testing.assert_allclose(parts.level, 120.0)
    np.testing.assert_array_equal(parts.recent, 0.0)


def test_the_time_of_year_is_that_of_the_year_before_at_half_weight():
    # The five weeks around the same day of the year before sold twice what the eight weeks before them had sold.
    n_weeks, first = 70, 70 - 52
    factor = np.ones(n_weeks * 7)
    factor[first * 7 : (first + 6) * 7] = 2.0
    series = regular(n_weeks, factor)

    parts = explain(series, Calendar(), np.tile(PROFILE, 4), SEES)

    # Day 18 after the end: all 35 days around its counterpart lie in the doubled six weeks. 1 year: 1/2 of +100 %.
    assert parts.season[17] == pytest.approx(0.5 * PROFILE[17 % 7])
    assert explain(series.tail(419), Calendar(), np.tile(PROFILE, 4), SEES).season.any() == np.False_


def test_a_second_year_that_agrees_counts_for_more():
    factor = np.ones(130 * 7)
    for first in (130 - 52, 130 - 104):
        factor[first * 7 : (first + 6) * 7] = 1.5

    parts = explain(regular(130, factor), Calendar(), np.tile(PROFILE, 4), SEES)

    assert parts.season[17] == pytest.approx(2 / 3 * 0.5 * PROFILE[17 % 7], abs=0.001)


def test_a_long_closure_a_year_ago_is_not_taken_for_a_season():
    factor = np.ones(70 * 7)
    factor[: 20 * 7] = 0.0

    np.testing.assert_array_equal(explain(regular(70, factor), Calendar(), np.tile(PROFILE, 4), SEES).season, 0.0)


def test_a_promotion_is_what_the_forecast_adds_to_that_weekdays_ordinary_forecast():
    series = regular(20)
    yhat = np.tile(PROFILE + 5, 4)
    yhat[4] += 40.0
    calendar = Calendar(known_days=(KnownDay(ahead(series, 5), "promotion"),))

    parts = explain(series, calendar, yhat, SEES)

    assert parts.of_day(4) == {"level": 120.0, "weekday": 30.0, "season": 0.0, "calendar": 40.0, "recent": 5.0}
    assert np.flatnonzero(parts.calendar).tolist() == [4]


@pytest.mark.parametrize(
    ("kind", "weights"), [("event", BLIND), ("event", {"snaive": 1.0}), ("promotion", {LAST_RUNG: 1.0})]
)
def test_methods_that_do_not_know_such_days_are_not_said_to(kind, weights):
    series = regular(20)
    calendar = Calendar(known_days=(KnownDay(ahead(series, 5), kind),))
    yhat = np.tile(PROFILE, 4)
    yhat[4] += 40.0

    parts = explain(series, calendar, yhat, weights)

    np.testing.assert_array_equal(parts.calendar, 0.0)
    assert parts.recent[4] == pytest.approx(40.0)


def test_seasonal_naive_knows_what_promotions_sold():
    series = regular(20)
    yhat = np.tile(PROFILE, 4)
    yhat[4] += 40.0

    parts = explain(series, Calendar(known_days=(KnownDay(ahead(series, 5), "promotion"),)), yhat, {"snaive": 1.0})

    assert parts.calendar[4] == pytest.approx(40.0)


def test_an_announced_closure_takes_all_away_and_a_closed_weekday_its_weekday():
    series = DailySeries(MONDAY, np.tile([*PROFILE[:6], 0.0], 20))
    calendar = Calendar("", (KnownDay(ahead(series, 1), "closure"),), frozenset({6}))
    yhat = np.tile([*PROFILE[:6], 0.0], 4)
    yhat[0] = 0.0

    parts = explain(series, calendar, yhat, BLIND)
    closed, sunday = parts.of_day(0), parts.of_day(6)

    assert closed["calendar"] < 0
    assert closed["calendar"] == pytest.approx(-(closed["level"] + closed["weekday"]))
    assert closed["recent"] == 0
    assert sunday == {"level": closed["level"], "weekday": -closed["level"], "season": 0, "calendar": 0, "recent": 0}


def test_a_promotion_over_all_days_ahead_is_measured_against_the_last_weeks():
    series = regular(20)
    calendar = Calendar(known_days=tuple(KnownDay(ahead(series, day), "promotion") for day in range(1, 29)))

    parts = explain(series, calendar, np.tile(PROFILE, 4) + 30.0, SEES)

    np.testing.assert_allclose(parts.calendar, 30.0)
    np.testing.assert_array_equal(parts.recent, 0.0)


def test_past_promotions_and_odd_days_without_sales_do_not_move_the_level():
    series = regular(20)
    y = series.y.copy()
    y[-9] *= 5
    y[-20] = 0.0
    calendar = Calendar(known_days=(KnownDay(series.end - timedelta(days=8), "promotion"),))

    parts = explain(DailySeries(MONDAY, y), calendar, np.tile(PROFILE, 4), SEES)

    np.testing.assert_allclose(parts.level, 120.0)


# --- any series ------------------------------------------------------------------------------------------------------


def any_case(seed: int) -> tuple[DailySeries, Calendar, np.ndarray, dict[str, float]]:
    """A series, a calendar and a published forecast of any size, length and kind."""
    rng = np.random.default_rng(seed)
    n_days, horizon = int(10 ** rng.uniform(0, 3.2)), int(10 ** rng.uniform(0, 2.5))
    scale = 10.0 ** rng.uniform(-9, 13)
    y = rng.lognormal(0, rng.uniform(0, 2), n_days) * scale
    y[rng.random(n_days) < rng.choice([0, 0.1, 0.7, 1.0])] = 0.0
    y *= rng.choice([1.0, 1.0, -1.0])
    series = DailySeries(date(2020, 1, 1) + timedelta(days=int(rng.integers(2000))), y)
    kinds: tuple[DayKind, ...] = ("closure", "promotion", "event")
    days = rng.choice(n_days + horizon, size=min(n_days + horizon, int(rng.integers(0, 40))), replace=False)
    known = tuple(KnownDay(series.start + timedelta(days=int(d)), kinds[int(d) % 3]) for d in days)
    never = frozenset(int(d) for d in rng.choice(7, size=int(rng.integers(0, 3)), replace=False))
    calendar = Calendar(str(rng.choice(["", "ES", "DE-BY"])), known, never)
    yhat = rng.lognormal(0, 1, horizon) * scale * 10.0 ** rng.choice([0, 0, -4, -8, -12, 2], size=horizon)
    start = series.end + timedelta(days=1)
    yhat[calendar.closed(start, horizon)] = 0.0
    return series, calendar, six_digits(yhat), SEES if rng.random() < 0.7 else BLIND


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_parts_sum_exactly_to_the_forecast_whatever_the_series(seed):
    series, calendar, yhat, weights = any_case(seed)

    parts = explain(series, calendar, yhat, weights)

    assert_exact(parts, yhat)
    assert np.isfinite([getattr(parts, name) for name in PARTS]).all()
    n_days = min(7, yhat.size)
    total = round(float(yhat[:n_days].sum()), 2)
    assert sum(map(exactly, sums(parts, n_days, total).values())) == exactly(total)
    closed = calendar.closed(series.end + timedelta(days=1), yhat.size)
    np.testing.assert_array_equal(parts.recent[closed], 0.0)
    assert set(np.flatnonzero(parts.calendar).tolist()) <= _known(calendar, series, yhat.size)


def _known(calendar: Calendar, series: DailySeries, horizon: int) -> set[int]:
    return set(np.flatnonzero(calendar.regressors(series.end + timedelta(days=1), horizon)[1].any(axis=1)).tolist())


@pytest.mark.parametrize("series", [weekly_series(1), weekly_series(10), weekly_series(300, noise=0.3),
                                    closed_on_sundays(500)], ids=["day", "days", "weeks", "sundays"])  # fmt: skip
def test_the_engine_publishes_parts_that_sum_exactly_to_its_forecast(series):
    chosen = MLSettings(model_candidates=("snaive", "weekday_mean", "ridge"))

    result = BusinessMLEngine(chosen).forecast(series, Calendar("ES"))

    assert_exact(result.parts, result.forecast.yhat)
    for total in result.totals:
        for lower, upper in total.bands.values():
            assert lower <= total.yhat <= upper
        assert total.yhat == round(float(np.sum(result.forecast.yhat[: total.days])), 2)


# --- the sentence ----------------------------------------------------------------------------------------------------


def test_the_sentence_in_full():
    parts = {"level": 1000.0, "weekday": 400.0, "season": -50.0, "calendar": 0.001, "recent": 20.4}

    english = sentence("Saturday", 1370.401, parts, 1, "en", Locale("en", "EUR").money)
    spanish = sentence("Sábado", 1370.401, parts | {"calendar": 30.0}, 1, "es", Locale("es", "EUR").money, "Reyes")

    assert english == (
        "Saturday: €1,370; €1,000 is an average day of the last weeks, €400 more for the day of the week, €50 less for "
        "the time of year and €20 more for the newest sales and what the methods make of them."
    )
    assert spanish == (
        "Sábado: 1.370\xa0€; 1.000\xa0€ es un día medio de las últimas semanas, 400\xa0€ más por el día de la semana, "
        "50\xa0€ menos por la época del año, 30\xa0€ más por Reyes y 20\xa0€ más por las ventas más recientes y lo que "
        "los métodos ven en ellas."
    )


def test_a_day_like_any_other_is_said_in_few_words():
    parts = dict.fromkeys(PARTS, 0.0) | {"level": 12.0}

    assert sentence("Hoy", 12.0, parts, 1, "es", "{:.0f}".format) == (
        "Hoy: 12; 12 es un día medio de las últimas semanas."
    )


def test_both_languages_know_the_same_words():
    placeholders = {
        language: {key: re.findall(r"{\w+}", text) for key, text in WORDS[language].items()} for language in WORDS
    }

    assert placeholders["en"] == placeholders["es"]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), language=st.sampled_from(LANGUAGES))
def test_the_numbers_of_the_sentence_are_those_of_the_parts(seed, language):
    locale = Locale(language, cents=True)
    series, calendar, yhat, weights = any_case(seed)
    n_days = min(7, yhat.size)
    total = round(float(yhat[:n_days].sum()), 2)
    summed = sums(explain(series, calendar, yhat, weights), n_days, total)

    read = _read(sentence("X", total, summed, n_days, language, locale.money), language)

    assert read.pop("total") == locale.money(total)
    assert read.pop("level") == locale.money(summed["level"])
    sizes = {name: locale.money(abs(summed[name])) for name in PARTS[1:]}
    assert read == {
        name: ("more" if summed[name] > 0 else "less", size)
        for name, size in sizes.items()
        if size != locale.money(0.0)
    }


def _read(said: str, language: str) -> dict[str, Any]:
    """The numbers of a sentence, by what they are said to be for."""
    causes = {WORDS[language][name]: name for name in PARTS[1:]}
    amount = r"(\N{MINUS SIGN}?[\d.,]*\d)"
    total, level = re.match(rf"X: {amount}; {amount} (?:is|es|son) ", said).groups()  # type: ignore[union-attr]
    found: dict[str, Any] = {"total": total, "level": level}
    words = {WORDS[language][key].split()[1]: key for key in ("more", "less")}
    for size, word, cause in re.findall(rf"{amount} ({'|'.join(words)}) \w+ ({'|'.join(causes)})", said):
        found[causes[cause]] = (words[word], size)
    return found


def test_weekday_parts_of_a_whole_week_cancel():
    series = regular(20)
    parts = explain(series, Calendar(), np.tile(PROFILE, 4), SEES)

    assert sums(parts, 7, float(PROFILE.sum()))["weekday"] == pytest.approx(0.0, abs=0.01)
    assert weekdays_from(series.end + timedelta(days=1), 1)[0] == 0
