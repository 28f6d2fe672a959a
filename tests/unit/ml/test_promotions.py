"""What promotions sell: numbers by hand, and how little is believed when little was seen."""

from datetime import timedelta

import numpy as np
import pytest

from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.promotions import LARGEST, Promotions, measure_promotions
from tests.factories import MONDAY, series_of, weekly_series


def promoted_on(*days: int) -> Calendar:
    return Calendar(known_days=tuple(KnownDay(MONDAY + timedelta(days=day), "promotion") for day in days))


def test_a_promotion_day_is_compared_with_the_same_weekdays_around_it():
    y = np.full(70, 10.0)
    y[35] = 20.0

    measured = measure_promotions(series_of(y), promoted_on(35))

    assert measured == Promotions((20.0 + 10.0) / (10.0 + 10.0), 1)  # one day as usual is added to both


@pytest.mark.parametrize(("n_days", "factor"), [(1, 1.5), (3, 1.75), (9, 1.9)])
def test_the_more_days_the_more_they_are_believed(n_days, factor):
    y = np.full(140, 10.0)
    days = range(30, 30 + 8 * n_days, 8)
    y[list(days)] = 20.0

    assert measure_promotions(series_of(y), promoted_on(*days)).factor == pytest.approx(factor)


def test_other_promotions_closures_and_holidays_are_not_what_is_usual():
    y = np.full(70, 10.0)
    y[[28, 35]] = 20.0
    y[42] = 0.0
    y[21] = 90.0
    closed = KnownDay(MONDAY + timedelta(days=42), "closure")
    calendar = Calendar("DE", (*promoted_on(28, 35).known_days, closed))
    start = MONDAY + timedelta(days=121 - 22)  # so that day 22, a Wednesday, is the first of May

    assert calendar.holidays(start, 70)[22]
    y[[21, 22]] = 10.0, 90.0
    shifted = Calendar("DE", tuple(KnownDay(start + (one.day - MONDAY), one.kind) for one in calendar.known_days))
    measured = measure_promotions(series_of(y, start), shifted)

    assert measured == Promotions((20.0 + 20.0 + 10.0) / 30.0, 2)


def test_one_absurd_day_counts_as_five_usual_ones():
    y = np.full(70, 10.0)
    y[35] = 1e6

    assert measure_promotions(series_of(y), promoted_on(35)).factor == pytest.approx((50.0 + 10.0) / 20.0)


def test_a_promotion_that_sold_nothing_is_not_believed_to_sell_nothing():
    y = np.full(70, 10.0)
    days = range(14, 56)
    y[list(days)[::2]] = 0.0

    assert measure_promotions(series_of(y), promoted_on(*list(days)[::2])).factor == 1 / LARGEST


@pytest.mark.parametrize("y", [np.zeros(70), np.full(70, -5.0), np.full(3, 10.0)])
def test_without_usual_sales_nothing_is_measured(y):
    assert measure_promotions(series_of(y), promoted_on(0, 1, 2)) == Promotions()


def test_a_shop_that_is_always_on_promotion_has_no_usual_days():
    assert measure_promotions(weekly_series(140), promoted_on(*range(140))) == Promotions()


def test_without_promotions_the_series_is_left_as_it_is():
    series = weekly_series(140)

    measured = measure_promotions(series, Calendar())

    assert measured == Promotions()
    assert measured.taken_from(series, Calendar()) is series
    assert measured.factors(promoted_on(150), series.start, 160).tolist() == [1.0] * 160


def test_taking_promotions_out_gives_the_usual_week_back():
    series = weekly_series(420)
    days = np.arange(3, 420, 10)
    y = series.y.copy()
    y[days] *= 1.6

    measured = measure_promotions(series_of(y), promoted_on(*days.tolist()))

    assert measured.factor == pytest.approx(1.6, abs=0.03)
    np.testing.assert_allclose(measured.taken_from(series_of(y), promoted_on(*days.tolist())).y, series.y, rtol=0.02)
