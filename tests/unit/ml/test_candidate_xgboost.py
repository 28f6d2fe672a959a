"""The features of the boosted trees, by hand, and what the trees make of them."""

import sys
from datetime import date, timedelta

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.errors import ArtifactRefused, CandidateUnavailable
from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.candidates import lags
from app.services.ml.candidates.common import odd_zeros
from app.services.ml.candidates.recursive import Recursive
from app.services.ml.candidates.xgboost import XGBoost
from app.services.ml.roots import from_roots, to_roots
from app.services.ml.series import DailySeries

START = date(2022, 1, 3)


def shop(n_days: int):
    days = np.arange(n_days)
    week = np.array([80.0, 90.0, 100.0, 110.0, 160.0, 200.0, 60.0])[days % 7]
    return week + np.random.default_rng(2).normal(0, 5, n_days)


def test_roots_come_back_with_their_sign():
    sales = np.array([-400.0, 0.0, 25.0, 900.0])

    roots = to_roots(sales / 100.0)

    assert roots.tolist() == [-2.0, 0.0, 0.5, 3.0]
    np.testing.assert_allclose(from_roots(roots) * 100.0, sales)


def test_the_level_is_the_mean_of_the_last_year_and_one_without_sales():
    y = np.concatenate([np.full(100, 999.0), np.full(364, 5.0)])

    assert lags.mean_level(DailySeries(START, y)) == pytest.approx(5.0)
    assert lags.mean_level(DailySeries(START, np.zeros(9))) == 1.0


def test_lags_and_means_of_a_day_use_the_days_before_it():
    roots = np.arange(400.0)

    row = lags.level_features(roots)[399]

    assert row[:7].tolist() == [398, 397, 392, 385, 378, 371, 35]
    assert row[7:10].tolist() == [395.0, 391.5, 384.5]  # means of 392..398, 385..398, 371..398
    assert row[10:].tolist() == [381.5, 378.0]  # mean of lags 7 to 28, of lags 14 and 28


def test_the_lag_of_a_year_is_missing_in_the_first_year():
    features = lags.level_features(np.arange(400.0))

    assert np.isnan(features[363, 6])
    assert features[364, 6] == 0.0


def test_the_features_of_the_next_day_are_those_of_the_table():
    roots = np.sin(np.arange(450.0))
    padded = np.concatenate([np.full(lags.DEEPEST, np.nan), roots])

    for day in (40, 400, 449):
        np.testing.assert_allclose(
            lags.level_features_of_next(padded[: lags.DEEPEST + day], lags.DEEPEST + day),
            lags.level_features(roots)[day],
            rtol=1e-9,
        )


def test_a_zero_is_odd_where_the_weekday_usually_sells():
    weeks = np.full((12, 7), 5.0)
    weeks[:, 6] = 0.0  # closed on Sundays
    weeks[9, 2] = 0.0  # a holiday on a Wednesday
    weeks[2, 3] = 0.0  # too early to know

    odd = odd_zeros(weeks.ravel()).reshape(12, 7)

    assert np.argwhere(odd).tolist() == [[9, 2]]


def test_a_weekday_that_stays_closed_is_odd_only_until_it_is_the_rule():
    weeks = np.full((16, 7), 5.0)
    weeks[8:, 0] = 0.0

    odd = odd_zeros(weeks.ravel()).reshape(16, 7)

    assert odd[:, 0].tolist() == [False] * 8 + [True] * 3 + [False] * 5


def test_zeros_that_come_often_are_not_odd():
    y = np.full(140, 5.0)
    y[60::9] = 0.0  # 9 of 140 days, never on a weekday that is usually closed

    assert not odd_zeros(y).any()
    assert odd_zeros(np.concatenate([np.full(140, 5.0), y])).sum() == 9


def test_a_holiday_is_expected_to_do_what_it_did_the_last_two_times():
    roots = np.full(200, 1.0)
    groups = [""] * 210
    for day, root in ((50, 0.4), (100, 0.2), (150, 0.0)):
        roots[day] = root
        groups[day] = "0 Fair"
    groups[205] = "0 Fair"

    effects = lags.holiday_effects(roots, groups)

    assert np.isnan(effects[50])
    assert effects[100] == pytest.approx(-0.6)
    assert effects[150] == pytest.approx((-0.6 - 0.8) / 2)
    assert effects[205] == pytest.approx((-0.8 - 1.0) / 2)
    assert effects[0] == 0.0


def test_a_two_weekly_promotion_without_a_calendar_is_learned_from_its_phase():
    y = shop(500)
    promoted = (np.arange(528) // 7) % 2 == 0
    y = y * np.where(promoted[:500], 1.6, 1.0)

    forecast = XGBoost().fit(DailySeries(START, y), Calendar()).predict(28)

    in_promotion, outside = forecast[promoted[500:]], forecast[~promoted[500:]]
    assert in_promotion.mean() / outside.mean() > 1.3


def test_an_announced_promotion_raises_its_day():
    y = shop(400)
    days = list(range(5, 400, 11))
    y[days] *= 2.0
    past = tuple(KnownDay(START + timedelta(days=i), "promotion") for i in days)
    coming = KnownDay(START + timedelta(days=409), "promotion")

    model = XGBoost().fit(DailySeries(START, y), Calendar(known_days=past))
    announced = model.observe(DailySeries(START, y), Calendar(known_days=(*past, coming)))

    assert announced.predict(28)[9] > 1.5 * model.predict(28)[9]


def test_a_rising_shop_is_not_extrapolated_beyond_a_tenth_of_its_range_in_roots():
    y = np.linspace(1.0, 400.0, 500)

    forecast = XGBoost().fit(DailySeries(START, y), Calendar()).predict(365)

    roots = np.sqrt(forecast.max()), np.sqrt(400.0)
    assert roots[0] <= roots[1] + (np.sqrt(400.0) - 1.0) / 10 + 1e-6
    assert forecast.min() > 200.0


def test_trees_that_are_no_trees_are_refused():
    state = XGBoost().fit(DailySeries(START, shop(200)), Calendar()).get_state()

    with pytest.raises(ArtifactRefused, match="xgboost"):
        XGBoost.from_state({**state, "value": b"{not a model}"}, MLSettings())


def test_without_the_library_the_candidate_says_which_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)

    with pytest.raises(CandidateUnavailable, match="xgboost-cpu"):
        XGBoost.from_settings(MLSettings())


@pytest.mark.parametrize("candidate", [XGBoost, Recursive])
def test_the_leaves_learn_from_every_day_also_from_those_that_a_tree_was_grown_without(candidate):
    series = DailySeries(START, shop(300))

    state = candidate().fit(series, Calendar()).get_state()

    again = candidate().refit(state, series, Calendar()).get_state()
    np.testing.assert_array_equal(np.asarray(again["value"]), np.asarray(state["value"]))
