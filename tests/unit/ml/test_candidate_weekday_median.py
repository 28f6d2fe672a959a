"""The weighted median of past days, by hand and on sales that are mostly zero."""

import numpy as np
import pytest

from app.services.ml.calendar import Calendar
from app.services.ml.candidates.weekday_mean import WeekdayMean
from app.services.ml.candidates.weekday_median import WeekdayMedian
from app.services.ml.series import FloatArray
from tests.factories import WEEK, series_of, weekly_series, with_day


def forecast(y: FloatArray, horizon: int = 7) -> FloatArray:
    return WeekdayMedian().fit(series_of(y), Calendar()).predict(horizon)


def test_a_known_week_is_found():
    np.testing.assert_array_equal(forecast(np.tile(WEEK, 20), 28), np.tile(WEEK, 4))


def test_newer_weeks_weigh_more():
    # After 8 weeks a week counts half: 9 new ones weigh 6.5 to the 5.3 of 43 old ones, 7 new ones 5.4 to 6.4.
    # By half only: a larger change is one of level (see `level_shift`).
    y = np.concatenate([np.full(52 * 7, 10.0), np.full(9 * 7, 15.0)])

    assert (forecast(y) == 15).all()
    assert (forecast(y[:-14]) == 10).all()


def test_one_huge_day_changes_next_to_nothing():
    clean = weekly_series(200, noise=0.1)

    np.testing.assert_allclose(forecast(with_day(clean, -3, 1e6).y), forecast(clean.y), rtol=0.05)


def test_rare_sales_cost_less_than_with_their_mean():
    """A third of the days sell: the median, zero, misses 2 of 6 days by 3; the mean, 1, misses 2 by 2 and 4 by 1."""
    y = 3.0 * (np.random.default_rng(4).random(700) < 1 / 3)
    series, truth = series_of(y[:672]), y[672:]

    median, mean = (c().fit(series, Calendar()).predict(28) for c in (WeekdayMedian, WeekdayMean))

    assert (median == 0).all()
    assert np.abs(truth - median).mean() < 0.9 * np.abs(truth - mean).mean()


@pytest.mark.parametrize("n_days", [14, 20, 365])
def test_the_fit_of_a_week_uses_earlier_weeks_only(n_days):
    series = weekly_series(n_days, noise=0.3)
    model = WeekdayMedian().fit(series, Calendar())

    before = WeekdayMedian().fit(series, Calendar()).observe(series.head(n_days - 7), Calendar())

    np.testing.assert_array_equal(model.fitted_values()[-7:], before.predict(7))
