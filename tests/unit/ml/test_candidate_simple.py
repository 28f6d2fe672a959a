"""Naive, seasonal naive and weekday mean: numbers by hand."""

from datetime import date, timedelta

import numpy as np
import pytest

from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.candidates.naive import Naive
from app.services.ml.candidates.snaive import SeasonalNaive
from app.services.ml.candidates.weekday_mean import WeekdayMean
from app.services.ml.series import DailySeries

START = date(2024, 1, 1)


def closures(*days: int) -> Calendar:
    return Calendar(known_days=tuple(KnownDay(START + timedelta(days=i), "closure") for i in days))


def test_naive_repeats_the_last_day():
    model = Naive().fit(DailySeries(START, np.array([3.0, 5.0, 4.0])), Calendar())

    assert model.predict(3).tolist() == [4.0, 4.0, 4.0]
    np.testing.assert_array_equal(model.fitted_values(), [np.nan, 3.0, 5.0])


def test_naive_repeats_the_last_open_day():
    model = Naive().fit(DailySeries(START, np.array([3.0, 5.0, 0.0])), closures(2))

    assert model.predict(2).tolist() == [5.0, 5.0]


def test_seasonal_naive_repeats_the_last_week_in_step_with_the_weekdays():
    model = SeasonalNaive().fit(DailySeries(START, np.arange(10.0)), Calendar())

    assert model.predict(9).tolist() == [3, 4, 5, 6, 7, 8, 9, 3, 4]
    np.testing.assert_array_equal(model.fitted_values(), [np.nan] * 7 + [0, 1, 2])


def test_seasonal_naive_goes_back_a_week_further_where_the_shop_was_closed():
    y = np.arange(14.0)
    y[8] = 0.0

    model = SeasonalNaive().fit(DailySeries(START, y), closures(8))

    assert model.predict(7).tolist() == [7, 1, 9, 10, 11, 12, 13]


def test_seasonal_naive_keeps_what_a_weekday_sold_that_was_always_announced_closed():
    y = np.full(14, 9.0)
    y[[6, 13]] = 0.0

    model = SeasonalNaive().fit(DailySeries(START, y), closures(6, 13))

    assert model.predict(7).tolist() == [9, 9, 9, 9, 9, 9, 0]


def test_weekday_mean_is_the_mean_of_the_last_eight_same_weekdays():
    weeks = np.arange(10.0)[:, None] * 10 + np.arange(7.0)  # Monday of week w sells 10 w

    model = WeekdayMean().fit(DailySeries(START, weeks.ravel()), Calendar())

    assert model.predict(8).tolist() == [55, 56, 57, 58, 59, 60, 61, 55]  # weeks 2 to 9: mean 5.5
    assert model.fitted_values()[63:].tolist() == [45, 46, 47, 48, 49, 50, 51]  # weeks 1 to 8
    assert model.fitted_values()[7:14].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_weekday_mean_leaves_announced_closures_out():
    y = np.full(21, 6.0)
    y[14] = 0.0

    model = WeekdayMean().fit(DailySeries(START, y), closures(14))

    assert model.predict(7).tolist() == pytest.approx([6.0] * 7)


def test_weekday_mean_leaves_out_a_zero_that_is_odd_whether_or_not_it_was_a_holiday():
    y = np.full(70, 6.0)
    y[56] = 0.0  # Monday 2022-12-26, a public holiday in Germany

    for calendar in (Calendar(), Calendar("DE")):
        model = WeekdayMean().fit(DailySeries(date(2022, 10, 31), y), calendar)

        assert model.predict(7).tolist() == [6.0] * 7
