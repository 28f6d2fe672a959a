"""Totals of shops that sell on some days only: the mean by hand, and near the truth over many shops of a known kind."""

from datetime import timedelta
from decimal import Decimal
from functools import cache

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.explanation import sums
from app.services.ml.fitted_model import FittedModel
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.rare_sales import FEW, HALF_LIFE_DAYS, MANY, RareSales
from app.services.ml.results import EngineResult
from app.services.ml.series import DailySeries
from tests.factories import MONDAY, closed_on_sundays, series_of, weekly_series

USUAL = MLSettings(model_candidates=("snaive", "weekday_median"))
BASKET = 100.0  # mean sales of a day that sells something
HORIZON = 28


def a_shop(share: float, seed: int, n_days: int = 300) -> DailySeries:
    """Sells on a share of its days, drawn one by one; such a day sells 100 on average, with a long tail above."""
    rng = np.random.default_rng(seed)
    baskets = BASKET * rng.lognormal(-0.18, 0.6, n_days)  # the mean of exp(normal(-s²/2, s)) is 1
    y = np.where(rng.random(n_days) < share, baskets, 0.0)
    y[0] = BASKET  # a series starts with a sale
    return series_of(y)


def forecast(series: DailySeries, calendar: Calendar | None = None, settings: MLSettings = USUAL) -> EngineResult:
    return BusinessMLEngine(settings).forecast(series, calendar or Calendar())


def codes(result: EngineResult) -> set[str]:
    return {note.code for note in result.notes}


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_a_day_counts_half_as_much_as_one_eight_weeks_younger():
    y = np.zeros(HALF_LIFE_DAYS + 1)
    y[0], y[-1] = 30.0, 60.0
    only = np.zeros(y.size, dtype=bool)
    only[[0, -1]] = True

    rare = RareSales.of(y, only)

    assert rare.mean == pytest.approx((0.5 * 30 + 60) / 1.5)
    assert rare.idle == 0.0


def test_days_that_were_closed_are_neither_idle_nor_in_the_mean():
    y = np.array([10.0, 0.0, 0.0, 10.0])

    assert RareSales.of(y, np.array([True, False, False, True])).mean == pytest.approx(10.0)
    assert RareSales.of(y, np.array([True, False, False, True])).idle == 0.0
    assert RareSales.of(y, np.zeros(4, dtype=bool)) == RareSales(0.0, 0.0)


def test_days_of_more_than_a_year_ago_do_not_count():
    y = np.concatenate([np.full(100, 1e6), np.tile([0.0, 2.0], 182)])

    assert RareSales.of(y, np.ones(y.size, dtype=bool)).mean == pytest.approx(1.0, rel=0.02)


def test_a_weekday_that_has_never_sold_is_closed_and_not_idle():
    six_weeks = np.tile([10.0, 10.0, 10.0, 10.0, 10.0, 0.0, 0.0], 6)
    six_weeks[0] = 0.0

    rare = RareSales.of(six_weeks, np.ones(42, dtype=bool))

    assert 0.0 < rare.idle < 1 / 30
    assert rare.mean < 10 * 5 / 7


@pytest.mark.parametrize(("idle", "weight"), [(0.0, 0.0), (FEW, 0.0), ((FEW + MANY) / 2, 0.5), (MANY, 1.0), (0.9, 1.0)])
def test_the_more_days_sell_nothing_the_more_the_mean_counts(idle, weight):
    means = RareSales(mean=8.0, idle=idle).means(np.array([2.0, 0.0]), np.array([True, False]))

    np.testing.assert_allclose(means, [2.0 + weight * 6.0, 0.0])


# --- shops of a known kind -------------------------------------------------------------------------------------------


@cache
def many_shops(share: float) -> list[tuple[EngineResult, float]]:
    """What is forecast for 60 shops after 300 days, and what the 28 days after that sell."""
    shops = [a_shop(share, seed, 300 + HORIZON) for seed in range(60)]
    return [(forecast(shop.head(300)), float(shop.y[300:].sum())) for shop in shops]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_over_many_shops_the_total_is_what_they_sell_on_average(share):
    truth = HORIZON * share * BASKET
    made = [result for result, _ in many_shops(share)]
    totals = np.array([[total.yhat for total in result.totals] for result in made])

    # A mean rests on about 160 days: over 60 shops it is within 5 % of the truth, even where one day in ten sells.
    assert totals[:, 1].mean() == pytest.approx(truth, rel=0.1)
    assert totals[:, 0].mean() == pytest.approx(truth / 4, rel=0.1)
    assert np.mean([result.forecast.yhat.sum() for result in made]) < 0.85 * truth  # usual days add up to far less
    assert np.mean(["rare_sales" in codes(result) for result in made]) > 0.9  # not where they add up to it by luck


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_the_bands_around_it_hold_what_is_sold_about_as_often_as_they_say(share):
    inside = []
    for result, sold in many_shops(share):
        lower, upper = result.totals[1].bands[0.8]
        assert 0.0 <= lower <= result.totals[1].yhat <= upper
        inside.append(lower <= sold <= upper)

    assert 0.7 <= np.mean(inside) <= 0.99  # wide where errors only cancel, see test_totals


def test_a_shop_that_sells_every_tenth_day_is_not_told_zero():
    result = forecast(a_shop(0.1, 3))

    assert result.forecast.yhat.sum() == 0.0
    assert result.totals[1].yhat > 0.0


def test_the_parts_of_a_week_sum_to_its_total_and_most_of_it_is_average_days():
    result = forecast(a_shop(0.1, 3))
    total = result.totals[0].yhat

    parts = sums(result.parts, 7, total)

    assert sum(map(Decimal, map(repr, parts.values()))) == Decimal(repr(total))
    assert abs(parts["recent"]) < 0.5 * total


# --- where nothing may change ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "series", [weekly_series(200, noise=0.3), closed_on_sundays(200), weekly_series(30), closed_on_sundays(45)]
)
def test_totals_of_shops_that_sell_every_open_day_are_the_sums_of_their_days(series):
    result = forecast(series)

    for total in result.totals:
        assert total.yhat == pytest.approx(result.forecast.yhat[: total.days].sum(), abs=0.005)
    np.testing.assert_array_equal(result.means, result.forecast.yhat)
    assert "rare_sales" not in codes(result)


def test_a_long_closure_in_the_past_makes_no_rare_sales():
    series = weekly_series(280, noise=0.2)
    closed = series_of(np.where(np.abs(np.arange(280) - 180) < 25, 0.0, series.y))

    result = forecast(closed)

    np.testing.assert_array_equal(result.means, result.forecast.yhat)


def test_days_of_an_announced_closure_add_nothing_to_a_total():
    series = a_shop(0.3, 5)
    closure = tuple(KnownDay(series.end + timedelta(days=day), "closure") for day in range(1, 15))

    opened, shut = forecast(series), forecast(series, Calendar("", closure))

    assert shut.totals[0].yhat == 0.0
    assert shut.totals[1].yhat == pytest.approx(opened.totals[1].yhat / 2, abs=0.01)


def test_a_shop_that_fell_silent_is_expected_to_stay_so_for_as_long_again():
    y = np.where(np.random.default_rng(1).random(300) < 0.65, BASKET, 0.0)  # enough to see that the silence is none
    y[-14:] = 0.0

    result = forecast(series_of(y))

    assert "quiet_days" in codes(result)
    assert result.totals[0].yhat == 0.0
    assert result.totals[1].yhat > 0.0


def test_days_after_the_origin_do_not_change_a_total():
    series = a_shop(0.3, 6)

    assert forecast(series.head(250)).totals[1].yhat == forecast(DailySeries(MONDAY, series.y[:250])).totals[1].yhat


@pytest.mark.parametrize("anew", [False, True])
def test_a_model_that_is_carried_forward_has_the_totals_of_the_newest_days(anew):
    series = a_shop(0.3, 7)
    engine = BusinessMLEngine(USUAL)
    model = FittedModel.of(engine.forecast(series.head(290), Calendar()), {})

    carried = (engine.refresh if anew else engine.reanchor)(model, series, Calendar())

    rare = RareSales.of(series.y, np.ones(len(series), dtype=bool))
    assert carried.totals[1].yhat == pytest.approx(HORIZON * rare.mean, abs=0.01)
    assert "rare_sales" in codes(carried)
