"""A fitted model carried forward: the same forecast on the same days, a moved one on newer days, and never a fit."""

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.errors import ArtifactRefused, CandidateFailed, ModelOutdated
from app.services.ml.artifact import load_keys, open_model, seal_model
from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.candidates import CANDIDATES
from app.services.ml.candidates.weekday_mean import WeekdayMean
from app.services.ml.fitted_model import FittedModel
from app.services.ml.hashing import output_hash, rounded
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.model_version_manager import SavedModel
from app.services.ml.reanchoring import Anchor, judge
from app.services.ml.results import EngineResult
from app.services.ml.series import DailySeries
from tests.factories import MONDAY, WEEK, closed_on_sundays, hostile_values, series_of, weekly_series, with_day

CHEAP = MLSettings(model_candidates=("naive", "snaive", "weekday_mean"))
SEASONAL = MLSettings(model_candidates=("snaive", "weekday_mean"))
TENANT = UUID("aaaaaaaa-0000-4000-8000-000000000001")
LATER = MONDAY + timedelta(days=400)


class NeverFitted(WeekdayMean):
    """A method whose estimation must not be asked for."""

    def fit(self, series: DailySeries, calendar: Calendar) -> Any:
        raise AssertionError("estimated")


class Breaks(WeekdayMean):
    name: ClassVar[str] = "breaks"

    def observe(self, series: DailySeries, calendar: Calendar) -> Any:
        if len(series) > 280:
            raise RuntimeError("the filter diverged")
        return super().observe(series, calendar)


def fitted(series: DailySeries, settings: MLSettings = CHEAP, calendar: Calendar | None = None) -> FittedModel:
    return FittedModel.of(BusinessMLEngine(settings).forecast(series, calendar or Calendar()), {})


def carried(model: FittedModel, series: DailySeries, settings: MLSettings = CHEAP, **options: Any) -> EngineResult:
    calendar = options.pop("calendar", Calendar())
    return BusinessMLEngine(settings, **options).reanchor(model, series, calendar)


def unscored(model: FittedModel) -> FittedModel:
    """The model without what its members forecast for newer days: weights and bands stay those of the fit."""
    return replace(model, past=None)


def longer(series: DailySeries, days: DailySeries) -> DailySeries:
    return DailySeries(series.start, np.concatenate([series.y, days.y]))


BUSY = Calendar("DE-BY", (KnownDay(MONDAY + timedelta(days=404), "closure"), KnownDay(LATER, "promotion")))


@pytest.mark.parametrize(
    ("series", "settings", "calendar"),
    [
        (weekly_series(400, noise=0.2), MLSettings(), BUSY),
        (closed_on_sundays(280, noise=0.3), MLSettings(log_transform=True), Calendar()),
        (with_day(weekly_series(280, noise=0.2), -20, 200.0), MLSettings(select_best=True), Calendar("ES")),
        (weekly_series(60, noise=0.4), CHEAP, Calendar()),
    ],
    ids=["all candidates, busy calendar", "log space, closed on Sundays", "single best, an outlier", "two months"],
)
def test_on_the_days_of_the_fit_the_result_is_the_fits_own(series, settings, calendar):
    engine = BusinessMLEngine(settings)
    first = engine.forecast(series, calendar)

    again = engine.reanchor(FittedModel.of(first, {}), series, calendar)

    assert output_hash(again) == output_hash(first)
    assert (again.metrics, again.reason, again.level) == (first.metrics, first.reason, first.level)
    assert again.confidence_score == first.confidence_score
    assert [score.name for score in again.scores] == [score.name for score in first.scores]


def test_a_model_that_was_stored_and_read_back_gives_the_same(tmp_path: Path):
    series, keys = weekly_series(400, noise=0.2), load_keys(Settings(tenantcast_home=tmp_path))
    settings = MLSettings(model_candidates=("weekday_mean", "sarimax", "prophet", "xgboost"))
    first = BusinessMLEngine(settings).forecast(series, Calendar("DE"))
    whose: dict[str, Any] = {"tenant_id": TENANT, "model_type": "sales_forecast", "model_version": "1"}

    sealed = seal_model(FittedModel.of(first, {"a": [1, None]}).to_state(), keys, **whose, run_id="r", fence=1)
    read = FittedModel.from_state(open_model(sealed, keys, **whose).state)

    again = BusinessMLEngine(settings).reanchor(read, series, Calendar("DE"))
    assert output_hash(again) == output_hash(first)
    assert (read.trained_through, read.settings) == (series.end, {"a": [1, None]})
    assert len(sealed) < 150_000


def test_newer_days_move_the_forecast_and_leave_the_parameters():
    settings = MLSettings(model_candidates=("weekday_mean", "sarimax", "prophet", "xgboost"))
    past = weekly_series(400, noise=0.1)
    model = unscored(fitted(past, settings))
    doubled = longer(past, weekly_series(28, noise=0.1, level=2.0, seed=9, start=LATER))

    before, after = carried(model, past, settings), carried(model, doubled, settings)

    assert after.as_of == past.end + timedelta(days=28)
    assert after.forecast.start == after.as_of + timedelta(days=1)
    assert after.forecast.yhat.mean() > 1.2 * before.forecast.yhat.mean()
    assert {name: rounded(state) for name, state in after.members.items()} == {
        name: rounded(state) for name, state in model.members.items()
    }
    assert after.weights == before.weights


def test_the_forecast_is_the_weighted_mean_of_the_members_on_the_newest_days():
    past = weekly_series(400, noise=0.3)
    model = fitted(past, SEASONAL)
    new_week = WEEK * 3.0
    now = longer(past, weekly_series(8 * 7, level=3.0, start=LATER))  # starts on a Tuesday

    result = carried(model, now, SEASONAL)

    # Eight weeks alike: last week's sales and the mean of eight weeks are the same new week, whatever the weights.
    weekdays = (result.forecast.start.weekday() + np.arange(28)) % 7
    np.testing.assert_allclose(result.forecast.yhat, new_week[weekdays], rtol=1e-5)


def test_where_newer_days_cannot_be_scored_the_width_of_the_bands_is_that_of_the_fit():
    past = weekly_series(420, noise=0.2)  # whole weeks: weekdays of both forecasts are the same
    model = unscored(fitted(past))
    now = longer(past, weekly_series(28, noise=0.2, seed=5, start=past.end + timedelta(days=1)))

    before, after = carried(model, past), carried(model, now)

    for level in before.forecast.bands:
        upper = [result.forecast.bands[level][1] - result.forecast.yhat for result in (before, after)]
        np.testing.assert_allclose(upper[1], upper[0], rtol=1e-3)


def test_nothing_is_estimated():
    past = weekly_series(280, noise=0.2)
    settings = MLSettings(model_candidates=("weekday_mean",))

    result = carried(fitted(past, settings), past, settings, candidates=(NeverFitted,))

    assert result.weights == {"weekday_mean": 1.0}


def test_a_weekday_that_closed_since_the_fit_is_exactly_zero():
    open_daily = weekly_series(280, noise=0.2)
    now = longer(open_daily, closed_on_sundays(12 * 7, noise=0.2))  # 280 days: Monday again

    result = carried(fitted(open_daily), now)

    sundays = (result.forecast.start.weekday() + np.arange(28)) % 7 == 6
    assert result.closed_weekdays == (6,)
    for values in (result.forecast.yhat, *result.forecast.bands[0.95]):
        assert (values[sundays] == 0).all()
    assert (result.forecast.yhat[~sundays] > 0).all()


def test_an_odd_day_after_the_fit_is_flagged():
    past = weekly_series(280, noise=0.05)
    now = with_day(longer(past, weekly_series(14, noise=0.05, seed=3, start=past.end + timedelta(days=1))), -5, 300.0)

    result = carried(fitted(past), now)

    scores = {anomaly.day: abs(anomaly.score) for anomaly in result.anomalies}
    odd = scores.pop(now.end - timedelta(days=4))
    assert odd > 10
    assert len(scores) <= 1  # 90 days of noise may hold one that stands out a little
    assert all(score < odd / 2 for score in scores.values())


def test_whatever_the_new_days_are_the_result_is_sound_or_the_model_is_refused():
    sound = 0
    for seed in range(20):
        past = weekly_series(200, noise=0.3, seed=seed)
        now = series_of(np.concatenate([past.y, hostile_values(np.random.default_rng(seed), longest=200)]))
        for model in (fitted(past), unscored(fitted(past))):
            try:
                result = carried(model, now)
            except (CandidateFailed, ModelOutdated):
                continue
            sound += 1
            assert_sound(result, now)
    assert sound >= 15


def assert_sound(result: EngineResult, now: DailySeries) -> None:
    """The engine's promises: finite, ordered, no sales below zero where there never were any, closed days exactly 0."""
    weekdays = (result.forecast.start.weekday() + np.arange(28)) % 7
    for lower, upper in result.forecast.bands.values():
        assert np.isfinite([lower, upper, result.forecast.yhat]).all()
        assert (lower <= result.forecast.yhat).all()
        assert (result.forecast.yhat <= upper).all()
    assert now.y.min() < 0 or min(result.forecast.yhat) >= 0
    assert (result.forecast.yhat[np.isin(weekdays, result.closed_weekdays)] == 0).all()


def test_a_member_that_breaks_on_the_new_days_is_named():
    past = weekly_series(280, noise=0.2)
    settings = MLSettings(model_candidates=("breaks",))
    model = FittedModel.of(BusinessMLEngine(settings, (Breaks,)).forecast(past, Calendar()), {})
    now = longer(past, weekly_series(7, start=past.end + timedelta(days=1)))

    with pytest.raises(CandidateFailed, match="breaks raised RuntimeError"):
        carried(model, now, settings, candidates=(Breaks,))


@pytest.mark.parametrize("settings", [MLSettings(model_candidates=("naive",)), MLSettings(sarimax_order=(0, 1, 1))])
def test_a_member_that_the_settings_do_not_have_is_refused(settings):
    past = weekly_series(280, noise=0.2)
    model = fitted(past, MLSettings(model_candidates=("sarimax",)))

    with pytest.raises(CandidateFailed, match="sarimax"):
        carried(model, past, settings)


def test_a_history_that_became_shorter_than_a_member_needs_is_refused():
    model = fitted(weekly_series(280, noise=0.2), MLSettings(model_candidates=("sarimax",)))

    with pytest.raises(CandidateFailed, match="sarimax needs 42 days; there are 20"):
        carried(model, weekly_series(20, noise=0.2), MLSettings(model_candidates=("sarimax",)))


def _spoil(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    state = copy.deepcopy(fitted(weekly_series(120, noise=0.2)).to_state())
    change(state)
    return state


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("format"),
        lambda state: state.update(format=3),
        lambda state: state.pop("past"),
        lambda state: state.update(past={}),
        lambda state: state.pop("residuals"),
        lambda state: state.update(residuals=np.array([1.0, np.nan]), residual_weekdays=np.array([0, 1])),
        lambda state: state.update(residual_weekdays=np.array([0])),
        lambda state: state["residual_weekdays"].__setitem__(0, 7),
        lambda state: state["residual_weekdays"].__setitem__(0, -1),
        lambda state: state.update(residuals=np.zeros(0), residual_weekdays=np.zeros(0)),
        lambda state: state.update(weights={}),
        lambda state: state.update(weights=dict.fromkeys(state["members"], 0.1)),
        lambda state: state.update(weights=dict.fromkeys(state["members"], float("nan"))),
        lambda state: state.update(members={}),
        lambda state: state.update(members=[1]),
        lambda state: state.update(level="oracle"),
        lambda state: state.update(trained_through="yesterday"),
        lambda state: state.update(shrinkage=-1.0),
        lambda state: state.pop("errors"),
        lambda state: state.update(errors=np.array([[1.0, np.nan]])),
        lambda state: state.update(errors=np.array([1.0])),
        lambda state: state.update(errors=np.zeros((3, 0))),
        lambda state: state.update(tested_horizon=0),
        lambda state: state.update(metrics={"mae": "small"}),
        lambda state: state.update(scores=[{"name": "x", "surprise": 1}]),
        lambda state: state.update(settings=None),
        lambda state: state["past"].update(start="monday"),
        lambda state: state["past"].update(n_folds=0),
        lambda state: state["past"].update(fold_days=40),
        lambda state: state["past"].update(forecasts={}),
        lambda state: state["past"]["forecasts"].update(snaive=np.full(112, np.nan)),
        lambda state: state.pop("history"),
        lambda state: state.update(history={"start": "2024-01-01"}),
    ],
)
def test_a_state_of_another_shape_is_refused(change):
    with pytest.raises(ArtifactRefused):
        FittedModel.from_state(_spoil(change))


def saved(model: FittedModel) -> SavedModel:
    return SavedModel("sales_forecast", "20240101.7", "…", model.to_state())


@pytest.mark.parametrize(
    ("settings", "as_of", "reason"),
    [
        ({"horizon_days": 14, "country": "ES"}, 0, "horizon_days"),
        ({"horizon_days": 28, "country": "DE"}, 0, "country"),
        ({"horizon_days": 28, "country": "ES", "new": 1}, 0, "new"),
        ({"country": "ES"}, 0, "horizon_days"),
        ({"horizon_days": 28, "country": "ES"}, -1, "has seen sales after"),
        ({"horizon_days": 28, "country": "ES"}, 36, "36 days old; 35 are allowed"),
    ],
)
def test_a_model_of_other_settings_of_later_days_or_too_old_is_fitted_anew(settings, as_of, reason):
    series = weekly_series(120, noise=0.2)
    model = FittedModel.of(BusinessMLEngine(CHEAP).forecast(series, Calendar()), {"horizon_days": 28, "country": "ES"})

    judged = judge(saved(model), settings, series.end + timedelta(days=as_of), 35)

    assert isinstance(judged, str)
    assert reason in judged


@pytest.mark.parametrize("age", [0, 1, 35])
def test_a_model_within_its_age_is_carried_forward(age):
    model = fitted(weekly_series(120, noise=0.2))

    judged = judge(saved(model), {}, model.trained_through + timedelta(days=age), 35)

    assert isinstance(judged, Anchor)
    assert judged.model_version == "20240101.7"


def test_a_model_by_rule_none_at_all_and_one_of_an_older_format_are_fitted_anew():
    by_rule = fitted(weekly_series(10))
    old = SavedModel("sales_forecast", "1", "…", {"members": {}, "weights": {}, "chosen": "blend"})

    reasons = [judge(model, {}, date(2024, 1, 10), 35) for model in (saved(by_rule), None, old)]

    assert [str(reason).split(":")[0] for reason in reasons] == [
        "The model was chosen by rule",
        "There is no stored model that verifies.",
        "The stored model was written by another version of tenantcast.",
    ]


def test_every_candidate_can_be_carried_forward():
    past = weekly_series(280, noise=0.2)
    now = longer(past, weekly_series(7, noise=0.2, start=past.end + timedelta(days=1)))

    for candidate in CANDIDATES:
        settings = MLSettings(model_candidates=(candidate.name,))
        result = carried(fitted(past, settings), now, settings)
        assert result.weights == {candidate.name: 1.0}
        assert result.as_of == now.end
