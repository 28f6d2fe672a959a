"""Planted days are found, ordinary and explained ones are not."""

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.services.ml.anomalies import find_anomalies, robust_z
from app.services.ml.series import BoolArray, DailySeries
from tests.factories import WEEK, closed_on_sundays, series_of, weekly_series, with_day

METHODS = ("stl_resid", "isolation_forest")


def flagged(series: DailySeries, method="stl_resid", closed=None, holidays=None, **settings) -> list[int]:
    """Indices of flagged days, the model being the mean week; a threshold that normal noise does not reach."""
    never = np.zeros(len(series), dtype=bool)
    expected = WEEK[series.weekdays]
    found = find_anomalies(
        series,
        expected,
        never if closed is None else closed,
        never if holidays is None else holidays,
        MLSettings(anomaly_method=method, **({"stl_zthresh": 5.0} | settings)),
    )
    return [(anomaly.day - series.start).days for anomaly in found]


def calm_series(n_days: int = 280) -> DailySeries:
    """Sales around the mean week within fixed bounds: no day of it is a surprise."""
    series = weekly_series(n_days)
    return series_of(series.y + np.random.default_rng(4).uniform(-1.5, 1.5, n_days))


def only(index: int, n: int = 280) -> BoolArray:
    return np.isin(np.arange(n), [index])


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_peak_and_a_planted_zero_are_found(method):
    series = with_day(with_day(calm_series(), 250, 90.0), 229, 0.0)  # 229 is a Friday: 20 expected

    assert flagged(series, method) == [229, 250]


@pytest.mark.parametrize("method", METHODS)
def test_ordinary_noise_is_hardly_ever_flagged(method):
    share = [len(flagged(weekly_series(noise=0.1, seed=seed), method, stl_zthresh=3.5)) / 90 for seed in range(10)]

    assert np.mean(share) < 0.02


@pytest.mark.parametrize("method", METHODS)
def test_days_older_than_ninety_days_are_not_reported(method):
    series = with_day(with_day(calm_series(), 189, 90.0), 190, 90.0)

    assert flagged(series, method) == [190]


@pytest.mark.parametrize("method", METHODS)
def test_known_closures_are_no_anomalies(method):
    series = with_day(calm_series(), 250, 0.0)

    assert flagged(series, method) == [250]
    assert flagged(series, method, closed=only(250)) == []


@pytest.mark.parametrize("method", METHODS)
def test_closed_weekdays_are_no_anomalies_though_the_model_expects_sales(method):
    series = closed_on_sundays(noise=0.02)

    assert flagged(series, method, closed=series.weekdays == 6) == []


def test_a_holiday_must_surprise_twice_as_much():
    series = with_day(weekly_series(noise=0.1), 250, WEEK[250 % 7] + 9.0)

    assert flagged(series) == [250]
    assert flagged(series, holidays=only(250)) == []


def test_a_higher_threshold_flags_fewer_days():
    series = with_day(weekly_series(noise=0.1), 250, WEEK[250 % 7] + 12.0)

    assert flagged(series, stl_zthresh=5) == [250]
    assert flagged(series, stl_zthresh=20) == []


def test_the_stl_period_changes_what_counts_as_regular():
    period = 5
    bump = np.where(np.arange(280) % period == 0, 10.0, 0.0)  # every fifth day, which the weekly model does not know
    series = series_of(calm_series().y + bump)

    assert len(flagged(series, stl_period=period)) < len(flagged(series, stl_period=7))


def test_scores_are_signed_like_the_surprise_and_expected_is_the_models():
    series = with_day(calm_series(), 250, 0.0)
    never = np.zeros(280, dtype=bool)

    (anomaly,) = find_anomalies(series, WEEK[series.weekdays], never, never, MLSettings(stl_zthresh=5))

    assert anomaly.score < -3.5
    assert anomaly.y == 0.0
    assert anomaly.expected == pytest.approx(WEEK[250 % 7])
    assert anomaly.is_anomaly


@pytest.mark.parametrize("method", METHODS)
def test_days_without_a_fitted_value_are_never_flagged(method):
    series = with_day(calm_series(), 250, 90.0)
    never = np.zeros(280, dtype=bool)
    expected = np.where(only(250), np.nan, WEEK[series.weekdays])

    settings = MLSettings(anomaly_method=method, stl_zthresh=5)
    assert find_anomalies(series, expected, never, never, settings) == ()
    assert find_anomalies(series, np.full(280, np.nan), never, never, settings) == ()


@pytest.mark.parametrize("method", METHODS)
def test_a_perfectly_regular_series_has_none_and_its_one_odd_day_is_one(method):
    assert flagged(weekly_series(), method) == []
    assert flagged(with_day(weekly_series(), 250, 60.0), method) == [250]


def test_a_history_of_less_than_four_weeks_has_none():
    assert flagged(with_day(calm_series(27), 20, 900.0)) == []
    assert flagged(with_day(calm_series(28), 20, 900.0)) == [20]


def test_robust_z_matches_a_calculation_by_hand():
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    everyone = np.ones(5, dtype=bool)

    # Median 3, absolute deviations 2 1 0 1 97, MAD 1.
    np.testing.assert_allclose(robust_z(values, everyone, 0.0), (values - 3) / 1.4826)
    np.testing.assert_allclose(robust_z(values, everyone, 10.0), (values - 3) / 10)
    # More than half equal: the mean absolute deviation 10 / 5 stands in.
    np.testing.assert_allclose(robust_z(np.array([0.0, 0, 0, 0, 10]), everyone, 0.0)[-1], 10 / (1.2533 * 2))
