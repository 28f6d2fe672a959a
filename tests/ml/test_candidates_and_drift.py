"""Candidates against known truth: who should win where, and what happens when the truth changes under a model."""

from datetime import timedelta

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.services.ml.calendar import Calendar
from app.services.ml.fitted_model import FittedModel
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.results import EngineResult
from app.services.ml.series import FloatArray
from tests.factories import MONDAY, WEEK, series_of, weekly_series

QUICK = MLSettings(model_candidates=("naive", "snaive", "weekday_mean"))
SLOW = MLSettings(model_candidates=("snaive", "weekday_mean", "sarimax"))


def forecast(y: FloatArray, settings: MLSettings = QUICK) -> EngineResult:
    return BusinessMLEngine(settings).forecast(series_of(y), Calendar())


def weeks(n_days: int, level: FloatArray | float = 1.0, noise: float = 0.0, seed: int = 1) -> FloatArray:
    """The known week times a level, plus normal noise of a share of its mean."""
    shape = WEEK[np.arange(n_days) % 7]
    return shape * level + np.random.default_rng(seed).normal(0, noise * WEEK.mean(), n_days)


def error(result: EngineResult, truth: FloatArray) -> float:
    return float(np.abs(result.forecast.yhat - truth).mean() / np.abs(truth).mean())


def test_on_a_random_walk_without_a_week_the_last_value_is_chosen():
    steps = np.random.default_rng(3).normal(0, 1.0, 400)

    result = forecast(
        1_000 + np.cumsum(steps), MLSettings(model_candidates=("naive", "weekday_mean"), select_best=True)
    )

    assert result.chosen == "naive"


def test_on_a_noisy_steady_week_the_mean_of_weeks_beats_the_last_week():
    both = MLSettings(model_candidates=("snaive", "weekday_mean"), select_best=True)

    results = [forecast(weeks(400, noise=0.3, seed=seed), both) for seed in range(40)]

    # A mean of eight has an error variance of 1 + 1/8 against 1 + 1 of the last value: a quarter less in size.
    errors = np.array([[score.metrics["mae"] for score in result.scores] for result in results]).mean(axis=0)
    assert sum(result.chosen == "weekday_mean" for result in results) > 35
    assert errors[1] / errors[0] == pytest.approx(np.sqrt(1.125 / 2), abs=0.03)


@pytest.mark.parametrize("name", ["snaive", "weekday_mean", "sarimax", "prophet", "xgboost"])
def test_every_seasonal_method_finds_the_known_week(name):
    result = forecast(weeks(400, noise=0.05), MLSettings(model_candidates=(name,)))

    assert error(result, weeks(428)[400:]) < 0.1


def test_a_trend_is_continued_by_the_method_that_knows_trends():
    level = 1 + np.arange(428) / 200  # doubles in 200 days
    past, truth = weeks(400, level[:400], noise=0.03), weeks(428, level)[400:]

    trended, flat = (
        error(forecast(past, MLSettings(model_candidates=(name,))), truth) for name in ("sarimax", "weekday_mean")
    )

    # The mean of eight weeks lies four and a half weeks behind the middle of the next four: a level of 0.2 of 3.
    assert flat == pytest.approx(0.07, abs=0.015)
    assert trended < flat / 1.5


def test_the_blend_is_no_worse_than_its_best_member_by_more_than_a_tenth():
    y = weeks(400, noise=0.25, seed=11)
    result = forecast(y, MLSettings())

    best = min(score.metrics["mae"] for score in result.scores if score.status == "scored")

    assert result.metrics["mae"] < 1.1 * best
    assert result.level == "blend"


def test_after_a_jump_of_the_level_the_forecast_is_at_the_new_one_within_weeks():
    """Sales double for good: four weeks later the forecast has gone most of the way, and twelve later all of it."""
    errors = {}
    for after in (0, 28, 84):
        y = weeks(400, np.where(np.arange(400) < 400 - after, 1.0, 2.0), noise=0.05)
        errors[after] = error(forecast(y, SLOW), weeks(428, 2.0)[400:])

    assert errors[0] == pytest.approx(0.5, abs=0.05)
    assert errors[28] < 0.15
    assert errors[84] < 0.05


def test_a_carried_model_follows_drift_and_a_fresh_fit_at_least_as_well():
    drifting = weeks(456, 1 + np.maximum(np.arange(456) - 400, 0) / 56 * 0.5, noise=0.05)
    engine, past, now = BusinessMLEngine(SLOW), series_of(drifting[:400]), series_of(drifting)
    model = FittedModel.of(engine.forecast(past, Calendar()), {})
    truth = weeks(484, 1.5)[456:]

    stale = error(engine.forecast(past, Calendar()), truth)
    carried = error(engine.reanchor(model, now, Calendar()), truth)
    fresh = error(engine.forecast(now, Calendar()), truth)

    assert carried < 0.7 * stale
    assert fresh < 0.7 * stale
    assert fresh <= carried  # it may choose another method now


def test_when_the_week_itself_changes_the_forecast_takes_the_new_one():
    old, new = WEEK, np.roll(WEEK, 3)  # the busy Saturday becomes a busy Tuesday
    y = np.concatenate([np.tile(old, 40), np.tile(new, 20)])

    result = forecast(y + np.random.default_rng(2).normal(0, 0.5, y.size))

    np.testing.assert_allclose(result.forecast.yhat[:7], new, rtol=0.1)


def test_drift_widens_the_bands():
    calm, wild = (forecast(weeks(400, noise=noise)) for noise in (0.05, 0.5))

    widths = [float((result.forecast.bands[0.8][1] - result.forecast.bands[0.8][0]).mean()) for result in (calm, wild)]

    assert widths[1] > 5 * widths[0]


def test_the_bands_hold_what_they_promise_on_days_that_nobody_has_seen():
    inside = {0.8: [], 0.95: []}  # type: dict[float, list[float]]
    for seed in range(40):
        y = weeks(308, noise=0.2, seed=seed)
        result = forecast(y[:280])
        for level, hits in inside.items():
            lower, upper = result.forecast.bands[level]
            hits.append(float(((y[280:] >= lower) & (y[280:] <= upper)).mean()))

    assert np.mean(inside[0.8]) == pytest.approx(0.80, abs=0.05)
    assert np.mean(inside[0.95]) == pytest.approx(0.95, abs=0.03)


def test_the_forecast_starts_the_day_after_the_last_one_and_is_as_long_as_asked():
    result = BusinessMLEngine(QUICK).forecast(weekly_series(200), Calendar())

    assert result.forecast.start == MONDAY + timedelta(days=200)
    assert result.forecast.yhat.shape == (28,)
