"""Trends of series whose truth is known."""

import json
from datetime import date, timedelta

import numpy as np
import pytest
from scipy import stats

from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.series import FloatArray, closed_weekdays
from app.services.trends import describe, theil_sen
from tests.factories import MONDAY, WEEK, closed_on_sundays, hostile_start, hostile_values, series_of, weekly_series

INDEX = WEEK / WEEK.mean()
NOBODY = Calendar()


def growing(per_week: float, n_weeks: int = 60, level: float = 100.0, seed: int | None = None) -> FloatArray:
    """Weeks of one profile whose average day grows by ``per_week`` from one week to the next."""
    levels = np.repeat(level + per_week * np.arange(n_weeks), 7)
    noise = np.random.default_rng(seed).normal(1.0, 0.1, levels.size) if seed is not None else 1.0
    y: FloatArray = np.maximum(levels * np.tile(INDEX, n_weeks) * noise, 0.0)
    return y


def test_a_steady_week_has_its_level_its_profile_and_no_trend() -> None:
    found = describe(weekly_series(280), NOBODY)

    assert found["as_of"] == (MONDAY + timedelta(days=279)).isoformat()
    assert found["days"] == 280
    assert found["level"]["last_28_days"] == pytest.approx(15.0)  # 105 per week
    assert found["level"]["previous_28_days"] == pytest.approx(15.0)
    assert found["level"]["change"] == pytest.approx(0.0)
    assert found["level"]["total_28_days"] == pytest.approx(420.0)
    assert [day["index"] for day in found["weekdays"]] == pytest.approx(list(INDEX))
    assert [day["average"] for day in found["weekdays"]] == pytest.approx(list(WEEK))
    assert found["trend"]["direction"] == "flat"
    assert found["trend"]["per_week"] == pytest.approx(0.0)


@pytest.mark.parametrize(("per_week", "direction"), [(2.0, "up"), (-1.0, "down")])
def test_a_straight_trend_is_found_exactly(per_week: float, direction: str) -> None:
    trend = describe(series_of(growing(per_week)), NOBODY)["trend"]

    median_level = 100.0 + per_week * (8 + 25.5)  # weeks 8 to 59 are the last 52
    assert trend["direction"] == direction
    assert trend["weeks"] == 52
    assert trend["per_week"] == pytest.approx(per_week)
    assert trend["low"] == pytest.approx(per_week)
    assert trend["high"] == pytest.approx(per_week)
    assert trend["per_year"] == pytest.approx(52 * per_week / median_level)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(200):
        trend = describe(series_of(growing(0.5, seed=seed)), NOBODY)["trend"]
        assert trend["low"] is not None
        assert trend["high"] is not None
        held += trend["low"] <= 0.5 <= trend["high"]

    assert 180 <= held <= 200


def test_ten_wild_weeks_do_not_turn_a_trend_round() -> None:
    y = growing(1.0, seed=3).reshape(-1, 7)
    y[-10:-5] *= 8.0
    y[12:17] *= 0.0

    trend = describe(series_of(y.ravel()), NOBODY)["trend"]

    assert trend["direction"] == "up"
    assert trend["per_week"] == pytest.approx(1.0, abs=0.6)


def test_theil_sen_agrees_with_scipy() -> None:
    for seed in range(20):
        y = np.random.default_rng(seed).normal(0, 1, 40) + 0.1 * np.arange(40)

        slope, low, high = theil_sen(y)
        expected = stats.theilslopes(y, alpha=0.95)

        assert slope == pytest.approx(expected.slope, rel=1e-12)
        assert low <= expected.low_slope + 1e-12  # scipy's interval knows nothing of autocorrelation: never wider
        assert high >= expected.high_slope - 1e-12


def test_errors_that_follow_each_other_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    shocks = rng.normal(0, 1, 60)
    sticky = np.zeros(60)
    for i in range(1, 60):
        sticky[i] = 0.8 * sticky[i - 1] + shocks[i]

    _, low, high = theil_sen(sticky)
    plain = stats.theilslopes(sticky, alpha=0.95)

    assert high - low > 1.5 * (plain.high_slope - plain.low_slope)


def test_fewer_than_eight_weeks_have_no_trend() -> None:
    assert describe(series_of(growing(5.0, n_weeks=7)), NOBODY)["trend"]["direction"] == "unknown"
    assert describe(series_of(growing(5.0, n_weeks=8)), NOBODY)["trend"]["direction"] == "up"


def test_a_year_before_is_the_same_weekdays() -> None:
    last_year, this_year = weekly_series(364), weekly_series(364, level=1.1)
    series = series_of(np.concatenate([last_year.y, this_year.y]))

    month, year = describe(series, NOBODY)["year_on_year"]

    assert (month["days"], year["days"]) == (28, 364)
    assert month["total"] == pytest.approx(1.1 * 420)
    assert month["total_before"] == pytest.approx(420)
    assert month["change"] == pytest.approx(0.1)
    assert year["total_before"] == pytest.approx(52 * 105)
    assert year["change"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("n_days", "month_known", "year_known"), [(391, False, False), (392, True, False), (728, True, True)]
)
def test_a_history_that_does_not_reach_back_has_no_year_before(
    n_days: int, month_known: bool, year_known: bool
) -> None:
    month, year = describe(weekly_series(n_days), NOBODY)["year_on_year"]

    assert (month["change"] is not None) == month_known
    assert (year["change"] is not None) == year_known


def test_closed_days_are_no_bad_days_and_do_not_pull_the_level_down() -> None:
    series = closed_on_sundays(noise=0.0)
    calendar = Calendar(
        known_days=tuple(KnownDay(series.end - timedelta(days=n), "closure", "works") for n in range(7, 14)),
        closed_weekdays=frozenset(closed_weekdays(series)),
    )
    y = series.y.copy()
    y[-14:-7] = 0.0  # the announced closure

    found = describe(series_of(y), calendar)

    open_mean = (105 - 8) / 6
    assert calendar.closed_weekdays == {6}
    assert found["level"]["last_28_days"] == pytest.approx(open_mean)
    assert found["weekdays"][6] == {"weekday": 6, "index": 0.0, "average": None, "closed": True}
    assert sum(day["index"] for day in found["weekdays"]) == pytest.approx(7)
    assert found["trend"]["direction"] == "flat"
    assert min(day["sales"] for day in found["worst_days"]) == pytest.approx(10.0)  # an ordinary Monday


def test_best_and_worst_days_are_named_and_compared_with_their_weekday() -> None:
    start = date(2025, 11, 3)  # a Monday
    series = weekly_series(380, start=start)
    christmas = (date(2025, 12, 25) - start).days  # a Thursday, usually 14
    y = series.y.copy()
    y[christmas] = 500.0
    y[300] = 0.5
    day_300 = start + timedelta(days=300)
    calendar = Calendar(country="ES", known_days=(KnownDay(day_300, "event", "Burst pipe"),))

    found = describe(series_of(y, start), calendar)

    assert len(found["best_days"]) == len(found["worst_days"]) == 5
    best, worst = found["best_days"][0], found["worst_days"][0]
    assert (best["day"], best["sales"], best["name"]) == ("2025-12-25", 500.0, "Natividad del Señor")
    assert best["usual"] == pytest.approx(14.0)
    assert (worst["day"], worst["sales"], worst["name"]) == (day_300.isoformat(), 0.5, "Burst pipe")


def test_days_of_more_than_52_weeks_ago_are_not_notable() -> None:
    y = weekly_series(400).y.copy()
    y[400 - 365] = 9999.0

    assert max(day["sales"] for day in describe(series_of(y), NOBODY)["best_days"]) == pytest.approx(30.0)


def test_promotions_do_not_bend_the_weekday_profile() -> None:
    series = weekly_series(26 * 7)
    mondays = [series.start + timedelta(days=7 * week) for week in range(12)]
    y = series.y.copy()
    y[[7 * week for week in range(12)]] *= 10
    calendar = Calendar(known_days=tuple(KnownDay(day, "promotion", "sale") for day in mondays))

    profile = [day["index"] for day in describe(series_of(y), calendar)["weekdays"]]

    assert profile == pytest.approx(list(INDEX))


def test_a_tenant_that_sells_now_and_then_has_a_profile_too() -> None:
    y = np.zeros(26 * 7)
    y[::21] = 100.0  # every third week, on a Monday

    found = describe(series_of(y), NOBODY)

    assert [day["index"] for day in found["weekdays"]] == pytest.approx([7, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("n_days", [1, 2, 6, 7, 8, 27, 28, 29])
def test_a_short_series_says_only_what_it_knows(n_days: int) -> None:
    found = describe(weekly_series(n_days), NOBODY)

    assert found["level"]["last_28_days"] == pytest.approx(weekly_series(n_days).y[-28:].mean())
    assert found["level"]["change"] is None
    assert found["trend"]["direction"] == "unknown"
    assert len(found["best_days"]) == min(n_days, 5)


def test_hostile_series_give_finite_numbers_that_json_can_hold() -> None:
    rng = np.random.default_rng(7)
    for _ in range(150):
        y = np.clip(hostile_values(rng, longest=1200), -1e25, 1e25)  # what the database's intake lets in
        series = series_of(y, hostile_start(rng))
        calendar = Calendar(country="DE", closed_weekdays=frozenset(closed_weekdays(series)))

        found = describe(series, calendar)

        json.dumps(found, allow_nan=False)
        assert sum(day["index"] for day in found["weekdays"]) == pytest.approx(7)
        if found["trend"]["low"] is not None and found["trend"]["high"] is not None:
            assert found["trend"]["low"] <= found["trend"]["high"]
