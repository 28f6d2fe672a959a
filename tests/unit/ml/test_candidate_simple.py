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
    weeks = np.tile(10 + np.arange(7.0), (10, 1))
    weeks[:2] = 1_000.0

    model = WeekdayMean().fit(DailySeries(START, weeks.ravel()), Calendar())

    # Days of one weekday are all alike in weeks 2 to 9, so that there is nothing to steady.
    np.testing.assert_allclose(model.predict(8), [10, 11, 12, 13, 14, 15, 16, 10])
    np.testing.assert_allclose(model.fitted_values()[7:14], 1_000)


def test_weekday_mean_is_shrunk_as_far_as_days_are_noisy_and_weekdays_alike():
    weeks = np.zeros((3, 7))
    weeks[:, 0], weeks[:, 1] = [8, 12, 16], [28, 32, 36]  # Mondays and Tuesdays; closed on the others

    forecast = WeekdayMean().fit(DailySeries(START, weeks.ravel()), Calendar()).predict(7)

    # Within weekdays the variance is 64 / 4; between their means, 12 and 32, it is 200 less the noise of a mean of 3.
    prior = 16 / (200 - 16 / 3)
    monday, tuesday = ((3 * mean + prior * 22) / (3 + prior) for mean in (12, 32))
    np.testing.assert_allclose(forecast, [monday, tuesday, 0, 0, 0, 0, 0])


def test_weekday_mean_takes_a_weekday_that_is_not_known_yet_to_be_like_the_others():
    forecast = WeekdayMean().fit(DailySeries(START, np.array([8.0, 16.0])), Calendar()).predict(7)

    # Each of the two known days counts one week, the mean of both three quarters of one.
    known = [(day + 0.75 * 12) / 1.75 for day in (8, 16)]
    np.testing.assert_allclose(forecast, [12, 12, 12, 12, 12, *known])


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
