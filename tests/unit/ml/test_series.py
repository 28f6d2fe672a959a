"""Days that say nothing about the next ones: closures that nobody announced, and one-off days."""

import numpy as np

from app.services.ml.series import BoolArray, DailySeries, one_off_days, unannounced_closures
from tests.factories import series_of, weekly_series, with_day


def flagged(flags: BoolArray) -> list[int]:
    return [int(i) for i in np.flatnonzero(flags)]


def sold(n_days: int, *zeros: tuple[int, int]) -> DailySeries:
    y = np.full(n_days, 10.0)
    for first, last in zeros:
        y[first:last] = 0.0
    return series_of(y)


def test_two_weeks_without_a_sale_are_a_closure_and_thirteen_days_are_none():
    assert flagged(unannounced_closures(sold(100, (20, 34), (50, 63)))) == list(range(20, 34))


def test_a_closure_may_last_to_the_end():
    assert flagged(unannounced_closures(sold(100, (86, 100)))) == list(range(86, 100))


def test_a_tenant_that_sells_now_and_then_has_no_closures():
    y = np.zeros(300)
    y[::16] = 5.0

    assert not unannounced_closures(series_of(y)).any()


def test_a_year_of_closure_hides_no_shop_that_sold_every_day_before():
    assert unannounced_closures(sold(400, (30, 400))).sum() == 370


def test_a_series_without_sales_or_without_zeros_has_no_closures():
    assert not unannounced_closures(series_of(np.zeros(30))).any()
    assert not unannounced_closures(series_of(np.ones(30))).any()


def test_a_day_above_three_times_everything_lately_is_a_one_off():
    series = weekly_series(200)  # its largest day is 30

    assert flagged(one_off_days(with_day(series, 150, 91.0))) == [150]
    assert flagged(one_off_days(with_day(series, 150, 90.0))) == []
    assert flagged(one_off_days(with_day(series, -1, 91.0))) == [199]
    assert flagged(one_off_days(with_day(series, 150, -91.0))) == [150]


def test_a_second_such_day_is_believed():
    series = with_day(with_day(weekly_series(200), 150, 100.0), 190, 100.0)

    assert flagged(one_off_days(series)) == [150]


def test_a_peak_that_came_a_year_ago_too_is_the_season():
    series = with_day(with_day(weekly_series(500), 100, 200.0), 466, 200.0)

    assert flagged(one_off_days(series)) == [100]


def test_nothing_is_out_of_the_ordinary_in_the_first_week():
    assert flagged(one_off_days(series_of([1.0, 1.0, 900.0, 1.0, 1.0, 1.0, 1.0, 1.0]))) == []
    assert not one_off_days(series_of([7.0])).any()


def test_later_days_decide_nothing():
    series = with_day(weekly_series(200), 150, 100.0)

    np.testing.assert_array_equal(one_off_days(series)[:160], one_off_days(series.head(160)))
