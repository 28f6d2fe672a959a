"""Cross-validation over horizons: the folds are where they should be, no day leaks, and errors grow with lead time."""

from typing import Any, ClassVar

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.services.ml.backtest import cross_validate, rolling_origins
from app.services.ml.calendar import Calendar
from app.services.ml.candidates import CANDIDATES
from app.services.ml.candidates.naive import Naive
from app.services.ml.candidates.snaive import SeasonalNaive
from app.services.ml.candidates.weekday_mean import WeekdayMean
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.series import DailySeries, FloatArray
from tests.factories import series_of, weekly_series

HORIZONS = (1, 7, 14, 28, 56, 90)
CHEAP = ("naive", "snaive", "weekday_mean")


def validate(series: DailySeries, horizon: int, candidates: Any, folds: int = 3) -> Any:
    return cross_validate(series, Calendar(), candidates, MLSettings(horizon_days=horizon, cv_folds=folds))


@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("n_folds", [1, 3, 6])
def test_folds_are_the_last_days_back_to_back_each_as_long_as_the_horizon(horizon, n_folds):
    folds = rolling_origins(1_000, horizon, n_folds)

    assert [fold.cutoff for fold in folds] == [1_000 - horizon * left for left in range(n_folds, 0, -1)]
    assert {fold.horizon for fold in folds} == {horizon}


@pytest.mark.parametrize("horizon", HORIZONS)
def test_the_engine_forecasts_every_horizon_with_scores(horizon):
    settings = MLSettings(horizon_days=horizon, model_candidates=CHEAP)

    result = BusinessMLEngine(settings).forecast(weekly_series(400, noise=0.2), Calendar())

    assert result.forecast.yhat.shape == (horizon,)
    assert all(lower.shape == upper.shape == (horizon,) for lower, upper in result.forecast.bands.values())
    assert all(score.status == "scored" for score in result.scores)


def test_the_errors_of_a_random_walk_grow_as_the_root_of_the_lead_time():
    """The naive error h days ahead has the variance of h steps: E|e| = sqrt(2 h / pi) for steps of variance one."""
    errors = np.zeros(28)
    walks = 300
    for seed in range(walks):
        walk = series_of(1_000 + np.cumsum(np.random.default_rng(seed).normal(0, 1, 200)))
        found = validate(walk, 28, (Naive,))
        errors += np.abs(found.actual - found.runs[0].forecasts).mean(axis=0) / walks

    expected = np.sqrt(2 * np.arange(1, 29) / np.pi)
    np.testing.assert_allclose(errors, expected, rtol=0.15)


def test_the_errors_of_a_steady_week_do_not_grow_with_the_lead_time():
    first, last = [], []
    for seed in range(40):
        found = validate(weekly_series(300, noise=0.2, seed=seed), 28, (SeasonalNaive,))
        errors = np.abs(found.actual - found.runs[0].forecasts).mean(axis=0)
        first.append(errors[:7].mean())
        last.append(errors[-7:].mean())

    assert np.mean(last) == pytest.approx(np.mean(first), rel=0.1)


def test_fold_metrics_are_those_computed_by_hand():
    series = series_of(np.tile([1.0, 2, 3, 4, 5, 6, 7], 20) + np.repeat(np.arange(20.0), 7))  # each week one more

    found = validate(series, 14, (SeasonalNaive,), folds=2)

    # Last week repeated: one too little in the first week ahead, two in the second.
    np.testing.assert_allclose(found.actual - found.runs[0].forecasts, np.tile(np.repeat([1.0, 2.0], 7), (2, 1)))
    assert found.metrics(found.runs[0].forecasts)["mae"] == pytest.approx(1.5)
    assert found.metrics(found.runs[0].forecasts)["mase"] == pytest.approx(1.5)  # the history changes by one a week


class Spy(WeekdayMean):
    """Keeps what it was shown."""

    name: ClassVar[str] = "spy"
    shown: ClassVar[list[FloatArray]] = []

    def fit(self, series: DailySeries, calendar: Calendar) -> Any:
        self.shown.append(series.y)
        return super().fit(series, calendar)

    def observe(self, series: DailySeries, calendar: Calendar) -> Any:
        self.shown.append(series.y)
        return super().observe(series, calendar)


@pytest.mark.parametrize("horizon", [7, 28])
def test_no_candidate_is_shown_a_day_of_its_fold_or_later(horizon):
    Spy.shown.clear()
    series = weekly_series(300, noise=0.2)

    found = validate(series, horizon, (Spy,))

    assert [y.size for y in Spy.shown] == [fold.cutoff for fold in found.folds]
    assert all((y == series.y[: y.size]).all() for y in Spy.shown)


@pytest.mark.parametrize("name", ["weekday_mean", "sarimax", "prophet", "xgboost"])
def test_what_happens_after_a_cutoff_changes_nothing_that_was_forecast_before(name):
    settings = MLSettings(model_candidates=(name,), horizon_days=14, cv_folds=2)
    engine = BusinessMLEngine(settings)
    y = weekly_series(250, noise=0.2).y.copy()
    candidates = tuple(candidate for candidate in CANDIDATES if candidate.name == name)
    first = cross_validate(series_of(y.copy()), Calendar(), candidates, settings)
    y[-14:] *= 7.0  # the days of the last fold

    second = cross_validate(series_of(y), Calendar(), candidates, settings)

    np.testing.assert_array_equal(first.runs[0].forecasts, second.runs[0].forecasts)
    assert engine.forecast(series_of(y), Calendar()).weights == {name: 1.0}


def test_a_longer_horizon_agrees_with_a_shorter_one_where_both_look():
    series = weekly_series(400, noise=0.2)
    settings = [MLSettings(horizon_days=h, model_candidates=("weekday_mean",)) for h in (7, 28)]

    short, long = (BusinessMLEngine(each).forecast(series, Calendar()) for each in settings)

    np.testing.assert_array_equal(short.forecast.yhat, long.forecast.yhat[:7])


def test_far_beyond_the_folds_the_bands_widen_and_never_narrow():
    settings = MLSettings(horizon_days=90, model_candidates=("weekday_mean",))

    result = BusinessMLEngine(settings).forecast(weekly_series(100, noise=0.2), Calendar())

    lower, upper = result.forecast.bands[0.8]
    by_weekday = (upper - lower)[:84].reshape(12, 7)
    assert (np.diff(by_weekday, axis=0) >= -1e-3).all()
    assert by_weekday[-1].mean() > 1.5 * by_weekday[0].mean()
