"""What a shop does not announce: closures, one absurd day, the end of sales. The truth is a known week."""

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.errors import ModelOutdated
from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.fitted_model import FittedModel
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.results import EngineResult, Forecast
from app.services.ml.series import DailySeries
from tests.factories import WEEK, series_of, weekly_series, with_day

FAST = MLSettings(model_candidates=("fast",))
N_DAYS = 406  # whole weeks: the forecast starts on a Monday
TRUTH = np.tile(WEEK, 4)


def forecast(series: DailySeries, calendar: Calendar | None = None) -> EngineResult:
    return BusinessMLEngine(FAST).forecast(series, calendar or Calendar())


def closed(first: int, n_days: int) -> DailySeries:
    y = weekly_series(N_DAYS, noise=0.1).y.copy()
    y[first : first + n_days] = 0.0
    return series_of(y)


def share_of_truth(result: EngineResult) -> float:
    return float(result.forecast.yhat.sum() / TRUTH.sum())


@pytest.mark.parametrize(("days_ago", "n_days"), [(56, 28), (35, 28), (56, 14), (84, 49)])
def test_an_unannounced_closure_does_not_lower_the_forecast(days_ago, n_days):
    result = forecast(closed(N_DAYS - days_ago, n_days))

    assert share_of_truth(result) == pytest.approx(1.0, abs=0.05)
    assert result.metrics["wape"] < 0.2  # its days are in no error measure


def test_a_closure_is_learned_from_no_differently_whether_it_was_announced_or_not():
    series = closed(N_DAYS - 56, 28)
    announced = Calendar(known_days=tuple(KnownDay(day.item(), "closure") for day in series.dates[-56:-28]))

    np.testing.assert_array_equal(forecast(series).forecast.yhat, forecast(series, announced).forecast.yhat)


@pytest.mark.parametrize("days_ago", [1, 3, 6, 10])
def test_one_absurd_day_is_flagged_and_raises_no_forecast(days_ago):
    clean = weekly_series(N_DAYS, noise=0.1)
    spoiled = with_day(clean, -days_ago, 20 * clean.y[-days_ago])

    result = forecast(spoiled)

    np.testing.assert_allclose(result.forecast.yhat, forecast(clean).forecast.yhat, rtol=0.1)
    assert spoiled.dates[-days_ago].item() in {anomaly.day for anomaly in result.anomalies}


def test_sales_that_stay_high_are_believed():
    y = weekly_series(N_DAYS, noise=0.1).y.copy()
    y[-28:] *= 5

    assert share_of_truth(forecast(series_of(y))) > 3


@pytest.mark.parametrize(("n_quiet", "weeks_of_zeros"), [(14, 2), (21, 3), (28, 4)])
def test_a_shop_that_stopped_selling_is_expected_to_stay_quiet_for_as_long_again(n_quiet, weeks_of_zeros):
    result = forecast(closed(N_DAYS - n_quiet, n_quiet))

    by_week = result.forecast.yhat.reshape(4, 7).sum(axis=1) / WEEK.sum()
    assert (by_week[:weeks_of_zeros] == 0).all()
    np.testing.assert_allclose(by_week[weeks_of_zeros:], 1, atol=0.1)
    assert result.forecast.bands[0.8][1].min() > 0  # it may open tomorrow
    assert [note.code for note in result.notes] == ["quiet_days"]


def test_ten_quiet_days_are_a_holiday():
    result = forecast(closed(N_DAYS - 10, 10))

    assert share_of_truth(result) == pytest.approx(1.0, abs=0.1)
    assert result.notes == ()


@pytest.mark.parametrize("growth_a_year", [3.0, 10.0])
def test_strong_growth_is_kept_up_with(growth_a_year):
    level = growth_a_year ** (np.arange(N_DAYS + 28) / 364)
    y = weekly_series(N_DAYS + 28, noise=0.1).y * level

    result = forecast(series_of(y[:N_DAYS]))

    assert result.forecast.yhat.sum() == pytest.approx((TRUTH * level[N_DAYS:]).sum(), rel=0.06)


@pytest.mark.parametrize("n_closed", [14, 21])
def test_a_model_carried_over_a_closure_that_nobody_announced_forecasts_as_before_it(n_closed):
    series = closed(N_DAYS - 7 - n_closed, n_closed)
    before = series.head(N_DAYS - 7 - n_closed)
    model = FittedModel.of(forecast(before), {})

    result = BusinessMLEngine(FAST).reanchor(model, series, Calendar())

    assert share_of_truth(result) == pytest.approx(1.0, abs=0.06)
    assert result.forecast.bands[0.8][0].min() > 0


@pytest.mark.parametrize("days_ago", [70, 120])
def test_a_closure_of_many_weeks_does_not_lower_the_forecast_of_the_shop_that_has_just_reopened(days_ago):
    result = forecast(closed(N_DAYS - days_ago, days_ago - 3))

    np.testing.assert_allclose(result.forecast.yhat, TRUTH, rtol=0.2)
    assert share_of_truth(result) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("n_closed", [20, 70, 120])
def test_the_end_of_an_announced_closure_is_announced_too(n_closed):
    series = closed(N_DAYS - n_closed, n_closed)
    announced = Calendar(known_days=tuple(KnownDay(day.item(), "closure") for day in series.dates[-n_closed:]))

    result = forecast(series, announced)

    np.testing.assert_allclose(result.forecast.yhat, TRUTH, rtol=0.2)
    assert result.notes == ()


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("days_ago", [14, 28, 56, 77])
def test_a_level_that_has_changed_for_good_is_the_level_of_the_forecast(factor, days_ago):
    y = weekly_series(N_DAYS, noise=0.1).y.copy()
    y[-days_ago:] *= factor

    result = forecast(series_of(y))

    lower, upper = result.forecast.bands[0.8]
    assert share_of_truth(result) == pytest.approx(factor, rel=0.08)
    assert np.abs(result.forecast.yhat / factor - TRUTH).sum() < 0.12 * TRUTH.sum()
    assert 0.15 * factor < np.mean(upper - lower) / TRUTH.mean() < 0.5 * factor  # 0.26 for a normal error of 10 %
    assert "level_shift" in [note.code for note in result.notes]


def test_a_model_carried_over_a_change_of_level_says_that_it_no_longer_holds():
    y = weekly_series(N_DAYS, noise=0.1).y.copy()
    y[-21:] *= 0.5
    model = FittedModel.of(forecast(series_of(y[:-21])), {})

    with pytest.raises(ModelOutdated):
        BusinessMLEngine(FAST).reanchor(model, series_of(y), Calendar())


def test_bands_are_wider_where_more_is_sold():
    """A resort whose errors are a share of its sales: the band of the busy month is wider than the weeks before say."""
    busy = np.where(np.arange(3 * 364) % 364 >= 336, 1.0, 0.5)  # the last four weeks of every year
    y = np.tile(WEEK, 156) * busy * np.random.default_rng(3).lognormal(0, 0.2, 3 * 364)

    wide, usual = (forecast(series_of(y[:n])).forecast for n in (3 * 364 - 28, 3 * 364 - 56))

    assert wide.yhat.sum() > 1.5 * usual.yhat.sum()
    assert band_width(wide) > 1.05 * band_width(usual)  # 0.9 as the errors are; the busy days are in no fold


def band_width(made: Forecast) -> float:
    lower, upper = made.bands[0.8]
    return float((upper - lower).mean())
