"""Series as shops really send them, each with a known truth: gaps, outliers, short histories, a season that moves."""

from datetime import date, timedelta

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.quality import suspected_outages
from app.services.ml.results import EngineResult
from app.services.ml.series import DailySeries, FloatArray
from tests.factories import MONDAY, WEEK, series_of, weekly_series, with_day

QUICK = MLSettings(model_candidates=("naive", "snaive", "weekday_mean"))
ALL = MLSettings()
TRUTH = np.tile(WEEK, 4)


def forecast(series: DailySeries, settings: MLSettings = QUICK, calendar: Calendar | None = None) -> EngineResult:
    return BusinessMLEngine(settings).forecast(series, calendar or Calendar())


def error(result: EngineResult, truth: FloatArray = TRUTH) -> float:
    return float(np.abs(result.forecast.yhat - truth).mean() / np.abs(truth).mean())


def with_zeros(series: DailySeries, first: int, n_days: int) -> DailySeries:
    y = series.y.copy()
    y[first : first + n_days] = 0.0
    return DailySeries(series.start, y)


@pytest.mark.parametrize("settings", [QUICK, ALL], ids=["quick", "all"])
def test_a_week_of_outage_in_the_middle_is_forgotten(settings):
    series = with_zeros(weekly_series(406, noise=0.05), 200, 7)

    assert error(forecast(series, settings)) < 0.08


def test_a_short_outage_at_the_end_does_not_become_the_forecast():
    series = with_zeros(weekly_series(406, noise=0.05), 403, 3)  # Friday to Sunday

    result = forecast(series)

    assert (result.forecast.yhat > 0.5 * TRUTH).all()
    assert [span["days"] for span in suspected_outages(series, Calendar())] == [3]


def test_scattered_days_without_data_cost_little():
    gaps = np.random.default_rng(5).choice(406, size=12, replace=False)
    y = weekly_series(406, noise=0.05).y.copy()
    y[gaps] = 0.0

    assert error(forecast(series_of(y))) < 0.1


def test_an_announced_closure_explains_its_zeros():
    series = with_zeros(weekly_series(406, noise=0.05), 392, 7)
    closed = Calendar(
        known_days=tuple(KnownDay(series.start + timedelta(days=392 + n), "closure", "holidays") for n in range(7))
    )

    assert error(forecast(series, calendar=closed)) < 0.08
    assert suspected_outages(series, closed) == []


@pytest.mark.parametrize("factor", [20.0, 1_000.0])
def test_one_absurd_day_long_ago_changes_next_to_nothing(factor):
    clean = weekly_series(406, noise=0.05)

    spoiled = forecast(with_day(clean, 250, clean.y[250] * factor))

    np.testing.assert_allclose(spoiled.forecast.yhat, forecast(clean).forecast.yhat, rtol=0.1)


def test_one_absurd_day_in_the_last_week_is_flagged_and_leaves_the_other_weekdays_alone():
    clean = weekly_series(406, noise=0.05)
    series = with_day(clean, -3, clean.y[-3] * 20)  # a Friday

    result = forecast(series)

    others = np.delete(np.arange(28), np.arange(4, 28, 7))
    assert series.end - timedelta(days=2) in {anomaly.day for anomaly in result.anomalies}
    np.testing.assert_allclose(result.forecast.yhat[others], forecast(clean).forecast.yhat[others], rtol=0.1)


def test_sold_out_days_are_flagged_and_the_next_weeks_are_not_taken_for_sold_out():
    clean = weekly_series(406, noise=0.05)
    series = with_day(clean, -9, 0.5)  # a Saturday with next to nothing

    result = forecast(series)

    scores = {anomaly.day: anomaly.score for anomaly in result.anomalies}
    assert scores[series.end - timedelta(days=8)] < -5
    assert error(result) < 0.12


@pytest.mark.parametrize("n_days", [1, 2, 3, 6, 7, 8, 13, 14, 20, 21, 22, 27, 28, 29, 41, 42, 55, 56, 57])
def test_every_short_history_is_forecast_within_what_it_has_shown(n_days):
    series = weekly_series(n_days, noise=0.05)

    result = forecast(series, ALL)

    assert result.forecast.yhat.shape == (28,)
    assert result.forecast.yhat.min() >= 0
    assert result.forecast.yhat.max() <= 1.5 * series.y.max()
    assert 0 < result.confidence_score < 1


def test_with_three_weeks_the_week_is_known():
    result = forecast(weekly_series(21, noise=0.02))

    assert error(result) < 0.06


def test_the_longer_the_history_the_more_it_is_trusted():
    scores = [forecast(weekly_series(n_days, noise=0.1)).confidence_score for n_days in (7, 28, 90, 400)]

    assert scores == sorted(scores)
    assert scores[-1] > 1.5 * scores[0]


def test_a_busy_season_that_comes_earlier_this_year_does_not_last_for_ever():
    """Every December doubles; this year it was November. By the end of December the forecast is at the usual level."""
    start, n_days = date(2023, 1, 2), 1_090  # to the end of December 2025
    days = [start + timedelta(days=n) for n in range(n_days)]
    busy = np.array([day.month == (11 if day.year == 2025 else 12) for day in days])
    y = WEEK[np.arange(n_days) % 7] * np.where(busy, 2.0, 1.0)
    noise = np.random.default_rng(4).normal(0, 0.5, n_days)

    result = forecast(series_of(y + noise, start), MLSettings())

    weekdays = (result.forecast.start.weekday() + np.arange(28)) % 7
    assert error(result, WEEK[weekdays]) < 0.25


def test_a_season_that_shifts_by_a_day_is_followed():
    """From the last ten weeks on the shop's rhythm is a day later (say, a market moved from Saturday to Sunday)."""
    y = np.concatenate([np.tile(WEEK, 48), np.tile(np.roll(WEEK, 1), 10)])
    noise = np.random.default_rng(6).normal(0, 0.5, y.size)

    result = forecast(series_of(y + noise), ALL)

    assert error(result, np.tile(np.roll(WEEK, 1), 4)) < 0.15


def test_a_shop_that_announces_its_summer_closure_is_forecast_after_it_as_before():
    series = with_zeros(weekly_series(406, noise=0.05), 350, 28)
    summer = Calendar(known_days=tuple(KnownDay(series.start + timedelta(days=350 + n), "closure") for n in range(28)))

    assert error(forecast(series, calendar=summer)) < 0.08


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.zeros(200), 0.0),
        (np.full(200, 7.0), 7.0),
        (np.full(200, 1e12), 1e12),
        (np.full(200, 0.01), 0.01),
    ],
    ids=["nothing sold", "constant", "huge", "tiny"],
)
def test_a_constant_series_is_continued_exactly_with_every_method(values, expected):
    result = forecast(series_of(values), ALL)

    np.testing.assert_allclose(result.forecast.yhat, expected, rtol=1e-4, atol=1e-9)


def test_rare_sales_are_forecast_near_their_mean_and_not_below_zero():
    y = (np.random.default_rng(8).random(400) < 0.15) * 100.0

    result = forecast(series_of(y))

    assert result.forecast.yhat.min() >= 0
    assert result.forecast.yhat.mean() == pytest.approx(15, abs=12)


def croston_sba(y: FloatArray, smoothing: float = 0.1) -> float:
    """Syntetos & Boylan (2005), IJF 21(2), 303-314: Croston's size over interval, less its bias."""
    at = np.flatnonzero(y)
    size, interval = y[at[0]], float(at[0] + 1)
    for day, gap in zip(at[1:], np.diff(at), strict=True):
        size += smoothing * (y[day] - size)
        interval += smoothing * (gap - interval)
    return float((1 - smoothing / 2) * size / interval)


def tsb(y: FloatArray, smoothing: float = 0.1) -> float:
    """Teunter, Syntetos & Babai (2011), EJOR 214(3), 606-615: the chance of a sale times its size."""
    size, chance = y[y > 0].mean(), (y > 0).mean()
    for sold in y:
        chance += smoothing * ((sold > 0) - chance)
        size += smoothing * (sold - size) * (sold > 0)
    return float(size * chance)


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_rare_sales_are_forecast_better_than_by_the_methods_made_for_them(share):
    errors = dict.fromkeys(("ours", "sba", "tsb"), 0.0)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        y = (rng.random(428) < share) * rng.gamma(4.0, 25.0, 428)
        history, truth = y[:400], y[400:]
        ours = forecast(series_of(history), MLSettings(model_candidates=("fast",))).forecast.yhat
        for name, yhat in {"ours": ours, "sba": croston_sba(history), "tsb": tsb(history)}.items():
            errors[name] += float(np.abs(truth - yhat).sum())

    assert errors["ours"] < 0.95 * min(errors["sba"], errors["tsb"])


def test_refunds_stay_finite_and_may_be_forecast_below_zero():
    y = weekly_series(300, noise=0.1).y.copy()
    y[::9] = -50.0

    result = forecast(series_of(y), ALL)

    assert np.isfinite(result.forecast.yhat).all()
    assert result.forecast.bands[0.95][0].min() < 0


def test_the_first_days_of_an_opening_are_not_the_shop_for_ever():
    y = np.concatenate([np.full(14, 500.0), weekly_series(392, noise=0.05, start=MONDAY + timedelta(days=14)).y])

    assert error(forecast(series_of(y))) < 0.08
