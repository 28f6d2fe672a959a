"""The weekly path: newer days are scored with what was forecast for them, and a fit comes when it has to."""

import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.errors import ModelOutdated
from app.services.ml.backtest import cross_validate
from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.candidates import CANDIDATES
from app.services.ml.candidates.weekday_mean import WeekdayMean
from app.services.ml.fitted_model import FittedModel
from app.services.ml.hashing import output_hash
from app.services.ml.history_mark import HistoryMark
from app.services.ml.metrics import mae
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.past_forecasts import PastForecasts
from app.services.ml.reanchoring import comparison_phase, due
from app.services.ml.selection import PRIORS, blend_weights
from app.services.ml.series import DailySeries, FloatArray
from app.tenancy import parse_tenant_id
from tests.factories import MONDAY, series_of, weekly_series, with_day

CHEAP = MLSettings(model_candidates=("snaive", "weekday_mean", "calendar_ridge", "ridge"))
FAST = MLSettings(model_candidates=("snaive", "weekday_mean", "calendar_ridge", "ridge", "recursive", "levels"))
BY_NAME = {candidate.name: candidate for candidate in CANDIDATES if candidate.name in CHEAP.model_candidates}
YEAR = weekly_series(420, noise=0.2)
LONGER = weekly_series(448, noise=0.2)  # the same days, and four weeks more


def fitted(series: DailySeries = YEAR, settings: MLSettings = CHEAP) -> FittedModel:
    return FittedModel.of(
        BusinessMLEngine(settings).forecast(series, Calendar()), {}, HistoryMark.of(series, Calendar())
    )


MODEL = fitted()
IN_TURN = -YEAR.end.toordinal() % 28  # the phase of a tenant whose turn was on the last day of `YEAR`


def carried(model: FittedModel, series: DailySeries) -> Any:
    return BusinessMLEngine(CHEAP).reanchor(model, series, Calendar())


def past_of(model: FittedModel) -> PastForecasts:
    assert model.past is not None
    return model.past


def last_three_months(model: FittedModel, name: str, newer: int) -> FloatArray:
    return past_of(model).forecasts[name][newer : newer + 84]


def test_the_members_and_the_floor_leave_their_forecasts_of_the_folds_and_of_the_next_days():
    past = past_of(MODEL)
    fresh = BusinessMLEngine(CHEAP).forecast(YEAR, Calendar())

    assert past.start == YEAR.end - timedelta(days=83)
    assert set(past.forecasts) == {*MODEL.members, "snaive"}
    assert {days.size for days in past.forecasts.values()} == {84 + 28}
    blend = np.sum([MODEL.weights[name] * past.forecasts[name][84:] ** 0.5 for name in MODEL.weights], axis=0) ** 2
    np.testing.assert_allclose(blend, fresh.forecast.yhat, rtol=1e-5)


@pytest.mark.parametrize("newer", [1, 7, 20, 28])
def test_newer_days_are_scored_with_what_was_forecast_for_them(newer):
    series = LONGER.head(420 + newer)

    result = carried(MODEL, series)

    scores = {score.name: score for score in result.scores}
    for name in MODEL.members:
        folds = last_three_months(MODEL, name, newer).reshape(3, 28)
        by_hand = np.mean(
            [mae(actual, days) for actual, days in zip(series.y[-84:].reshape(3, 28), folds, strict=True)]
        )
        assert scores[name].metrics["mae"] == pytest.approx(by_hand, rel=1e-5)
        assert scores[name].scored_through == series.end.isoformat()


def test_the_scores_of_the_others_stand_with_their_date():
    stored = {score.name: score for score in MODEL.scores}
    result = carried(MODEL, LONGER.head(427))

    others = [score for score in result.scores if score.name not in past_of(MODEL).forecasts]

    assert [score.name for score in result.scores] == [score.name for score in MODEL.scores]
    for score in others:
        assert score.metrics == stored[score.name].metrics
        assert (score.weight, score.scored_through) == (0.0, YEAR.end.isoformat())


def test_the_weights_are_those_of_the_last_three_months():
    series = LONGER.head(441)
    names = [score.name for score in MODEL.scores if score.name in past_of(MODEL).forecasts]
    actual = series.y[-84:].reshape(3, 28)
    errors = np.array(
        [
            [mae(*fold) for fold in zip(actual, last_three_months(MODEL, n, 21).reshape(3, 28), strict=True)]
            for n in names
        ]
    )
    by_hand = blend_weights(errors, np.array([PRIORS.get(name, 1.0) for name in names]))

    result = carried(MODEL, series)

    assert result.weights == pytest.approx({n: w for n, w in zip(names, by_hand, strict=True) if w > 0}, rel=1e-4)
    assert result.weights != MODEL.weights


def test_the_bands_come_from_the_errors_of_the_last_three_months():
    calm = copy.deepcopy(LONGER.y)
    calm[420:] = np.sum([MODEL.weights[n] * past_of(MODEL).forecasts[n][84:] for n in MODEL.weights], axis=0)

    before, after = carried(MODEL, YEAR), carried(MODEL, DailySeries(YEAR.start, calm))

    def width(result: Any) -> float:
        return float(np.subtract(*result.forecast.bands[0.8][::-1]).mean())

    assert width(after) < 0.9 * width(before)


@pytest.mark.parametrize("newer", [0, 1, 13, 28])
def test_a_model_that_was_stored_and_read_back_carries_the_same(newer):
    series = LONGER.head(420 + newer)

    read = FittedModel.from_state(MODEL.to_state())

    assert output_hash(carried(read, series)) == output_hash(carried(MODEL, series))


def test_beyond_what_was_forecast_weights_and_bands_are_those_of_the_fit():
    series = weekly_series(449, noise=0.2)

    result = carried(MODEL, series)

    assert result.blend == MODEL.weights
    assert result.scores == MODEL.scores


def test_a_fit_that_fell_back_on_a_rule_leaves_nothing_to_score():
    assert fitted(weekly_series(15)).past is None


def test_an_error_that_has_risen_asks_for_a_fit():
    risen = np.where(np.arange(448) < 420, LONGER.y, 2.0 * LONGER.y)

    carried(MODEL, series_of(risen[:426]))  # six days are too few to say so

    with pytest.raises(ModelOutdated, match="clearly larger"):
        carried(MODEL, series_of(risen[:427]))


def test_a_single_absurd_day_does_not():
    result = carried(MODEL, with_day(LONGER.head(430), -3, 10_000.0))

    assert result.level in {"blend", "single"}


def test_when_last_weeks_pattern_does_better_on_the_newest_days_a_fit_is_asked_for():
    past = past_of(MODEL)
    spoiled = {name: days + (3.0 if name != "snaive" else 0.0) for name, days in past.forecasts.items()}
    model = replace(MODEL, past=replace(past, forecasts=spoiled | {"snaive": past.forecasts["snaive"]}))
    series = series_of(np.concatenate([YEAR.y[:343], np.tile(YEAR.y[336:343], 13)]))

    with pytest.raises(ModelOutdated, match="pattern of the last week"):
        carried(model, series)


def _forecasts(series: DailySeries, settings: MLSettings) -> dict[str, FloatArray]:
    classes = BusinessMLEngine(settings)._prepare(series, Calendar("DE")).candidates
    return {run.name: run.forecasts for run in cross_validate(series, Calendar("DE"), classes, settings).scored}


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_no_fold_of_a_fit_from_nothing_sees_a_day_after_its_cut_off(fold):
    cutoff = 420 - 28 * (3 - fold)
    changed = series_of(np.where(np.arange(420) < cutoff, YEAR.y, 5.0 * YEAR.y[::-1] + 3.0))

    before, after = _forecasts(YEAR, FAST), _forecasts(changed, FAST)

    assert set(before) == set(FAST.model_candidates)
    for name, forecasts in before.items():
        np.testing.assert_array_equal(after[name][: fold + 1], forecasts[: fold + 1], err_msg=name)


@pytest.mark.parametrize("seen", [28, 56, 84])
def test_what_is_kept_for_later_weeks_knows_no_day_that_it_forecasts(seen):
    changed = series_of(np.where(np.arange(420) < 336 + seen - 28, YEAR.y, 1.5 * YEAR.y[::-1]))
    settings = MLSettings(model_candidates=("ridge",))

    before, after = (past_of(fitted(series, settings)).forecasts for series in (YEAR, changed))

    for name in before.keys() & after.keys():
        np.testing.assert_array_equal(after[name][:seen], before[name][:seen], err_msg=name)
    assert before.keys() & after.keys()


def test_newer_days_change_neither_the_parameters_nor_what_was_forecast_before_them():
    one, other = LONGER.head(434), with_day(LONGER.head(434), -1, 33.0)

    results = [carried(MODEL, series) for series in (one, other)]

    np.testing.assert_equal(results[0].members, results[1].members)
    assert past_of(MODEL).forecasts.keys() == past_of(fitted()).forecasts.keys()
    for name, days in past_of(fitted()).forecasts.items():
        np.testing.assert_array_equal(past_of(MODEL).forecasts[name], days)


CLOSED = Calendar(known_days=(KnownDay(MONDAY + timedelta(days=100), "closure"),))
AHEAD = Calendar(known_days=(KnownDay(MONDAY + timedelta(days=430), "promotion"),))


@pytest.mark.parametrize(
    ("series", "calendar", "reason"),
    [
        (LONGER.head(427), Calendar(), ""),
        (LONGER.head(447), Calendar(), ""),
        (LONGER, Calendar(), "compared 28 days ago"),
        (with_day(LONGER.head(427), 400, 0.0), Calendar(), ""),
        (LONGER.head(441).tail(433), Calendar(), ""),  # the window has moved on
        (LONGER.head(427), AHEAD, ""),
        (YEAR, Calendar(), "no newer days"),
        (LONGER.head(427), CLOSED, "have changed"),
        (DailySeries(YEAR.start, 1.2 * LONGER.y[:427]), Calendar(), "are others"),
        (
            DailySeries(YEAR.start - timedelta(days=50), np.concatenate([YEAR.y[:50], LONGER.y[:427]])),
            Calendar(),
            "further back",
        ),
    ],
)
def test_a_history_that_is_another_one_asks_for_a_fit(series, calendar, reason):
    found = due(MODEL, series, calendar, 28, IN_TURN)

    assert (reason in found) if reason else found == ""


def test_a_young_shop_is_compared_anew_when_it_has_grown_by_a_tenth():
    young = fitted(LONGER.head(100))

    found = [due(young, LONGER.head(100 + days), Calendar(), 364, 0) for days in (10, 11)]

    assert found == ["", "The history has grown by a tenth since the candidates were compared."]


class AlwaysAlike:
    """A mark by which a shop never changes and never grows."""

    def change(self, *_: object) -> str:
        return ""


ALIKE: Any = AlwaysAlike()


def weeks_of_comparison(phase: int, weeks: int = 24, days: int = 28) -> list[int]:
    """The weeks, from 0 on, in which a shop that starts on the last day of `YEAR` is compared; its sales stay alike."""
    compared = [0]
    for week in range(1, weeks):
        model = replace(MODEL, scored_through=YEAR.end + timedelta(weeks=compared[-1]), history=ALIKE)
        if due(model, weekly_series(420 + 7 * week), Calendar(), days, phase):
            compared.append(week)
    return compared


@pytest.mark.parametrize("phase", [0, 1, 6, 7, 13, 14, 20, 21, 27])
def test_the_second_comparison_comes_in_the_tenants_own_week_and_then_every_fourth(phase):
    weeks = weeks_of_comparison(phase)

    between = np.diff(weeks)

    assert 1 <= between[0] <= 4
    assert set(between[1:]) == {4}


def test_tenants_that_start_on_one_day_are_spread_evenly_over_the_weeks():
    turns = [weeks_of_comparison(comparison_phase(parse_tenant_id(f"shop {n}"), 28), 5)[1] for n in range(400)]

    assert sorted(set(turns)) == [1, 2, 3, 4]
    assert all(75 <= turns.count(week) <= 125 for week in range(1, 5))  # 100 each; four standard deviations are 35


@pytest.mark.parametrize("days", [2, 7, 10, 28, 29, 364])
def test_nobody_waits_longer_than_the_setting_says(days):
    for name in ("bakery", "kiosk", "café"):
        phase = comparison_phase(parse_tenant_id(name), days)
        assert 0 <= phase < days
        grown = replace(MODEL, history=ALIKE)
        assert due(grown, weekly_series(420 + days), Calendar(), days, phase)


@pytest.mark.parametrize("model", [replace(MODEL, past=None), replace(MODEL, history=None)])
def test_a_comparison_that_left_something_out_is_made_anew(model):
    assert "no past forecasts" in due(model, LONGER.head(427), Calendar(), 28, IN_TURN)


def refreshed(model: FittedModel, series: DailySeries, settings: MLSettings = CHEAP, **options: Any) -> Any:
    return BusinessMLEngine(settings, **options).refresh(model, series, Calendar())


def test_the_members_are_estimated_on_all_days_and_weighed_as_when_they_are_not():
    series = LONGER.head(434)

    result = refreshed(MODEL, series)

    own = {name: candidate().fit(series, Calendar()).get_state() for name, candidate in BY_NAME.items()}
    np.testing.assert_equal(result.members, {name: own[name] for name in result.weights})
    assert result.weights == carried(MODEL, series).weights
    assert result.scores == carried(MODEL, series).scores


def test_a_week_depends_on_the_comparison_and_not_on_the_weeks_between():
    steps = MODEL
    for newer in (7, 14):
        steps = FittedModel.from_state(steps.refreshed(refreshed(steps, LONGER.head(420 + newer))).to_state())

    assert steps.trained_through == YEAR.end + timedelta(days=14)
    assert steps.scored_through == YEAR.end
    assert output_hash(refreshed(steps, LONGER.head(441))) == output_hash(refreshed(MODEL, LONGER.head(441)))


SPLITS = ("roots", "left", "right", "feature", "missing_left", "base")


def test_trees_keep_their_splits_and_a_week_of_them_depends_on_the_comparison_alone():
    settings = MLSettings(model_candidates=("recursive", "levels"))
    model = FittedModel.of(BusinessMLEngine(settings).forecast(YEAR, Calendar()), {})
    steps = model
    for newer in (7, 14):
        steps = FittedModel.from_state(steps.refreshed(refreshed(steps, LONGER.head(420 + newer), settings)).to_state())

    step_by_step, at_once = (refreshed(start, LONGER.head(441), settings) for start in (steps, model))

    assert output_hash(step_by_step) == output_hash(at_once)
    for name, state in at_once.members.items():
        before = model.members[name]
        np.testing.assert_equal([state[key] for key in SPLITS], [before[key] for key in SPLITS])
        assert not np.array_equal(np.asarray(state["value"]), np.asarray(before["value"]))


def test_on_the_days_of_a_refresh_its_model_gives_its_forecast_again():
    result = refreshed(MODEL, LONGER.head(427))

    again = carried(MODEL.refreshed(result), LONGER.head(427))

    assert output_hash(again) == output_hash(result)


class Slow(WeekdayMean):
    name: ClassVar[str] = "slow"
    expensive: ClassVar[bool] = True


class NeverFitted(Slow):
    def fit(self, series: DailySeries, calendar: Calendar) -> Any:
        raise AssertionError("estimated")


def test_expensive_members_keep_their_parameters_and_follow_the_newest_days():
    settings = MLSettings(model_candidates=("slow",))
    model = FittedModel.of(BusinessMLEngine(settings, (Slow,)).forecast(YEAR, Calendar()), {})

    result = refreshed(model, LONGER.head(434), settings, candidates=(NeverFitted,))

    assert result.weights == {"slow": 1.0}
    assert result.members["slow"]["trained_through"] == YEAR.end.isoformat()
    assert result.forecast.start == YEAR.end + timedelta(days=15)


def test_no_refresh_sees_a_day_after_its_own():
    head = DailySeries(LONGER.start, np.concatenate([LONGER.y[:434], 9.0 * LONGER.y[434:]])).head(434)

    assert output_hash(refreshed(MODEL, head)) == output_hash(refreshed(MODEL, LONGER.head(434)))
