"""The contract of a candidate, on every one of them: add a class to CANDIDATES and it is tested."""

import base64
import math
import zlib
from datetime import date, timedelta

import joblib
import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.errors import ArtifactRefused, CandidateFailed
from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.candidates import CANDIDATES, candidate_names
from app.services.ml.candidates.base import Forecaster, State
from app.services.ml.explanation import BLIND_TO_HOLIDAYS, BLIND_TO_PROMOTIONS
from app.services.ml.series import DailySeries, FloatArray

START = date(2023, 1, 2)  # a Monday
HORIZON = 28
SETTINGS = MLSettings(model_candidates=candidate_names())

pytestmark = pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)


def shop(n_days: int, seed: int = 7) -> FloatArray:
    """A weekly shop with a slow rise and noise, shape (n_days,)."""
    days = np.arange(n_days)
    week = np.array([80.0, 90.0, 100.0, 110.0, 160.0, 200.0, 60.0])
    noise = np.random.default_rng(seed).normal(0.0, 8.0, n_days)
    return week[days % 7] * (1 + days / 2000) + noise


def series(y: FloatArray) -> DailySeries:
    return DailySeries(START, y)


def busy_calendar(n_days: int) -> Calendar:
    """German holidays, a promotion every fortnight, an event a month and one closed week."""
    promotions = [KnownDay(START + timedelta(days=i), "promotion") for i in range(3, n_days + HORIZON, 14)]
    events = [KnownDay(START + timedelta(days=i), "event", "fair") for i in range(20, n_days + HORIZON, 30)]
    closures = [KnownDay(START + timedelta(days=i), "closure", "works") for i in range(100, 107)]
    return Calendar("DE-BY", tuple(promotions + events + closures))


def fitted(candidate: type[Forecaster], y: FloatArray, calendar: Calendar | None = None) -> Forecaster:
    return candidate.from_settings(SETTINGS).fit(series(y), calendar or Calendar())


def forecast_or_refusal(candidate: type[Forecaster], y: FloatArray) -> FloatArray | str:
    """The forecast, or the words in which the candidate refused to make one."""
    try:
        return fitted(candidate, y).predict(HORIZON)
    except CandidateFailed as refusal:
        return str(refusal)


def assert_sound(forecast: FloatArray, horizon: int = HORIZON) -> None:
    assert forecast.shape == (horizon,)
    assert forecast.dtype == np.float64
    assert np.isfinite(forecast).all()


def assert_plain(value: object) -> None:
    """Finite numbers, strings, None, bytes, number arrays, and lists and string-keyed dicts of these; nothing else."""
    if isinstance(value, dict):
        assert all(type(key) is str for key in value)
        for part in value.values():
            assert_plain(part)
    elif isinstance(value, list):
        for part in value:
            assert_plain(part)
    elif isinstance(value, np.ndarray):
        assert value.dtype.kind in "fiub"
        assert np.isfinite(value).all()
    elif type(value) is float:
        assert math.isfinite(value)
    else:
        assert value is None or type(value) in (bool, int, str, bytes), type(value)


def stored_size(state: State, folder) -> int:
    """Bytes of the state as an artefact holds it: joblib, zlib, base64."""
    path = folder / "state"
    joblib.dump(state, path)
    return len(base64.b64encode(zlib.compress(path.read_bytes())))


def test_fit_returns_the_candidate_itself_and_notes_its_last_day(candidate):
    unfitted = candidate.from_settings(SETTINGS)
    assert unfitted.trained_through is None

    returned = unfitted.fit(series(shop(200)), Calendar())

    assert returned is unfitted
    assert returned.trained_through == START + timedelta(days=199)


def test_forecast_has_the_horizons_shape_and_finite_numbers(candidate):
    model = fitted(candidate, shop(400), busy_calendar(400))

    for horizon in (1, 6, 7, 8, 28, 365):
        assert_sound(model.predict(horizon), horizon)


def test_a_shorter_horizon_is_the_start_of_a_longer_one(candidate):
    model = fitted(candidate, shop(200))

    np.testing.assert_allclose(model.predict(9), model.predict(60)[:9], rtol=1e-12)


def test_a_weekly_shop_is_forecast_within_a_sixth_of_its_mean_by_all_but_naive(candidate):
    y = shop(428)

    error = np.abs(fitted(candidate, y[:400]).predict(HORIZON) - y[400:]).mean() / y[400:].mean()

    assert error < (0.6 if candidate.name == "naive" else 1 / 6)


def test_the_input_is_left_as_it_was(candidate):
    y = shop(200)
    before = y.copy()

    model = fitted(candidate, y, busy_calendar(200))
    model.predict(HORIZON)
    model.fitted_values()

    np.testing.assert_array_equal(y, before)


def test_the_same_input_gives_the_same_bytes(candidate):
    one, other = (fitted(candidate, shop(300), busy_calendar(300)) for _ in range(2))

    assert one.predict(HORIZON).tobytes() == other.predict(HORIZON).tobytes()
    assert one.fitted_values().tobytes() == other.fitted_values().tobytes()
    np.testing.assert_equal(one.get_state(), other.get_state())


def test_predicting_twice_gives_the_same_and_changes_nothing(candidate):
    model = fitted(candidate, shop(200))

    first = model.predict(HORIZON)
    model.predict(3)

    assert first.tobytes() == model.predict(HORIZON).tobytes()


def test_fitted_values_have_a_number_for_every_day_but_the_first_ones(candidate):
    model = fitted(candidate, shop(300), busy_calendar(300))

    values = model.fitted_values()

    assert values.shape == (300,)
    assert np.isfinite(values[56:]).all()
    assert not np.isinf(values).any()


def test_fitted_values_of_the_last_days_are_those_of_all_days(candidate):
    model = fitted(candidate, shop(300), busy_calendar(300))

    assert model.fitted_values(210)[210:].tobytes() == model.fitted_values()[210:].tobytes()


def test_the_shortest_history_is_enough(candidate):
    assert_sound(fitted(candidate, shop(candidate.min_history)).predict(HORIZON))


def test_a_day_less_than_the_shortest_history_is_refused_with_the_reason(candidate):
    if candidate.min_history == 1:
        with pytest.raises(CandidateFailed, match="0"):
            candidate.from_settings(SETTINGS).fit(series(shop(1)), Calendar()).predict(0)
        return

    with pytest.raises(CandidateFailed, match=f"{candidate.name} needs {candidate.min_history} days"):
        fitted(candidate, shop(candidate.min_history - 1))


@pytest.mark.parametrize("n_days", [60, 400])
def test_no_sales_at_all_are_forecast_as_none(candidate, n_days):
    forecast = fitted(candidate, np.zeros(n_days)).predict(HORIZON)

    np.testing.assert_allclose(forecast, 0.0, atol=1e-6)


@pytest.mark.parametrize("level", [1e-6, 250.0, 1e12])
def test_a_constant_shop_stays_constant(candidate, level):
    forecast = fitted(candidate, np.full(200, level)).predict(HORIZON)

    np.testing.assert_allclose(forecast, level, rtol=0.02)


def test_one_huge_day_long_ago_does_not_blow_up_the_forecast(candidate):
    y = shop(300)
    y[150] = 1e7

    forecast = fitted(candidate, y).predict(HORIZON)

    assert_sound(forecast)
    assert np.abs(forecast).max() < 1e7


@pytest.mark.parametrize("day", [0, 150, 199])
def test_numbers_near_the_end_of_floating_point_are_forecast_or_refused_never_nonsense(candidate, day):
    y = shop(200)
    y[day] = 1e300

    outcome = forecast_or_refusal(candidate, y)

    if isinstance(outcome, str):
        assert candidate.name in outcome
    else:
        assert_sound(outcome)


def test_days_of_refunds_may_be_negative(candidate):
    y = shop(200) - 120.0

    forecast = fitted(candidate, y).predict(HORIZON)

    assert_sound(forecast)
    assert forecast.min() < 0 or candidate.name == "naive"


def test_closed_weekdays_and_a_long_outage_are_survived(candidate):
    y = shop(400)
    y[6::7] = 0.0
    y[200:260] = 0.0

    assert_sound(fitted(candidate, y).predict(HORIZON))


def test_a_state_that_comes_back_and_observes_predicts_the_same(candidate):
    y, calendar = shop(400), busy_calendar(428)
    model = fitted(candidate, y, calendar)

    back = candidate.from_state(model.get_state(), SETTINGS).observe(series(y), calendar)

    assert back.trained_through == model.trained_through
    np.testing.assert_allclose(back.predict(HORIZON), model.predict(HORIZON), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(back.fitted_values(), model.fitted_values(), rtol=1e-9, atol=1e-9)


def test_a_state_is_plain_and_small(candidate, tmp_path):
    state = fitted(candidate, shop(1460), busy_calendar(1460)).get_state()

    assert_plain(state)
    assert_plain(fitted(candidate, np.zeros(100)).get_state())
    assert state["name"] == candidate.name
    assert state["trained_through"] == (START + timedelta(days=1459)).isoformat()
    assert stored_size(state, tmp_path) < 150_000


def damaged(state: State) -> list[State]:
    """The state of somebody else, without one entry each, and with each entry replaced by text."""
    others: list[State] = [{}, {**state, "name": "somebody_else"}, {**state, "trained_through": "yesterday"}]
    missing: list[State] = [{key: value for key, value in state.items() if key != left_out} for left_out in state]
    derived = {"error_size", "yearly"}  # told, not needed; any text is true
    wrong: list[State] = [{**state, key: "text"} for key in state if key not in derived]
    return others + [part for part in missing if "error_size" in part or "error_size" not in state] + wrong


def test_a_state_of_another_shape_is_refused(candidate):
    state = fitted(candidate, shop(200)).get_state()

    for wrong in damaged(state):
        with pytest.raises(ArtifactRefused, match=candidate.name):
            candidate.from_state(wrong, SETTINGS)


def test_a_restored_candidate_without_days_says_so(candidate):
    restored = candidate.from_state(fitted(candidate, shop(200)).get_state(), SETTINGS)

    with pytest.raises(CandidateFailed, match="no origin"):
        restored.predict(HORIZON)


def test_observing_before_fitting_says_so(candidate):
    with pytest.raises(CandidateFailed, match="observes only after"):
        candidate.from_settings(SETTINGS).observe(series(shop(200)), Calendar())


def test_observing_the_fitted_days_predicts_what_fit_predicts(candidate):
    y, calendar = shop(400), busy_calendar(400)
    model = fitted(candidate, y, calendar)

    observed = model.observe(series(y), calendar)

    np.testing.assert_allclose(observed.predict(HORIZON), model.predict(HORIZON), rtol=1e-9, atol=1e-9)


def test_observing_moves_the_origin_and_keeps_parameters_and_parent(candidate):
    y = shop(400)
    model = fitted(candidate, y[:372])
    before, state = model.predict(HORIZON), model.get_state()

    newer = model.observe(series(y), Calendar())

    assert newer is not model
    assert newer.fitted_values().shape == (400,)
    assert newer.trained_through == model.trained_through == START + timedelta(days=371)
    assert model.predict(HORIZON).tobytes() == before.tobytes()
    np.testing.assert_equal(model.get_state(), state)
    assert not np.array_equal(newer.predict(HORIZON), before)


def test_refitting_learns_all_days_and_leaves_no_trace_of_the_weeks_between(candidate):
    y, calendar = shop(400), busy_calendar(400)
    state = fitted(candidate, y[:372], calendar).get_state()
    between = candidate.from_settings(SETTINGS).refit(state, series(y[:386]), calendar).get_state()

    at_once, by_weeks = (
        candidate.from_settings(SETTINGS).refit(start, series(y), calendar) for start in (state, between)
    )

    assert at_once.trained_through == START + timedelta(days=399)
    np.testing.assert_equal(by_weeks.get_state(), at_once.get_state())
    assert by_weeks.predict(HORIZON).tobytes() == at_once.predict(HORIZON).tobytes()
    assert_sound(at_once.predict(HORIZON))


def test_refitting_from_a_state_of_another_shape_is_refused_or_fits_anew(candidate):
    try:
        model = candidate.from_settings(SETTINGS).refit({"name": candidate.name}, series(shop(300)), Calendar())
    except (KeyError, TypeError, ValueError):
        return
    assert model.predict(HORIZON).tobytes() == fitted(candidate, shop(300)).predict(HORIZON).tobytes()


def test_observing_a_later_start_is_allowed(candidate):
    y = shop(428)
    model = fitted(candidate, y[:400])

    newer = model.observe(DailySeries(START + timedelta(days=28), y[28:]), Calendar())

    assert_sound(newer.predict(HORIZON))
    assert newer.fitted_values().shape == (400,)


def test_a_new_level_is_followed_by_observing(candidate):
    y = shop(400)
    y[300:] *= 2.0
    model = fitted(candidate, y[:300])

    forecast = model.observe(series(y), Calendar()).predict(HORIZON)

    assert forecast.mean() > 1.5 * y[:300].mean() or candidate.name == "naive"


def changed_after(y: FloatArray, cut: int) -> FloatArray:
    later = y.copy()
    later[cut:] = np.random.default_rng(1).normal(500.0, 300.0, y.size - cut)
    return later


@pytest.mark.parametrize("act", ["fit", "refit", "observe"])
def test_changing_days_after_the_cut_off_changes_nothing(candidate, act):
    y, calendar, cut = shop(300), busy_calendar(300), 250
    forecasts = []

    for values in (y, changed_after(y, cut)):
        known = series(values).head(cut)
        if act == "fit":
            model = candidate.from_settings(SETTINGS).fit(known, calendar)
        elif act == "refit":
            model = candidate.from_settings(SETTINGS).refit(fitted(candidate, y[:200]).get_state(), known, calendar)
        else:
            model = fitted(candidate, y[:200], calendar).observe(known, calendar)
        forecasts.append(model.predict(HORIZON))

    assert forecasts[0].tobytes() == forecasts[1].tobytes()


def fitted_alone(candidate: type[Forecaster], calendar: Calendar, y: FloatArray) -> FloatArray:
    return fitted(candidate, y, calendar).predict(HORIZON)


@pytest.mark.parametrize(("kind", "blind"), [("event", BLIND_TO_HOLIDAYS), ("promotion", BLIND_TO_PROMOTIONS)])
def test_it_is_called_blind_exactly_if_a_day_ahead_that_is_known_changes_nothing(candidate, kind, blind):
    y = shop(280)
    past = range(20, 280, 17)
    y[list(past)] *= 2
    then, ahead = (tuple(KnownDay(START + timedelta(days=i), kind) for i in days) for days in (past, (282, 289)))
    model = fitted(candidate, y, Calendar(known_days=then))

    without, with_it = (
        model.observe(series(y), Calendar(known_days=known)).predict(HORIZON) for known in (then, then + ahead)
    )

    assert (candidate.name in blind) == np.allclose(without, with_it, rtol=1e-6)


def test_an_announced_closure_says_nothing_about_open_days(candidate):
    y = shop(300)
    closed = y.copy()
    closed[290:297] = 0.0
    days = tuple(KnownDay(START + timedelta(days=i), "closure") for i in range(290, 297))

    unannounced = fitted_alone(candidate, Calendar(), closed).mean()
    announced = fitted_alone(candidate, Calendar(known_days=days), closed).mean()

    usual = fitted_alone(candidate, Calendar(), y).mean()
    assert abs(announced - usual) <= abs(unannounced - usual)
    assert announced == pytest.approx(usual, rel=0.1)


def test_only_announced_closures_are_survived(candidate):
    days = tuple(KnownDay(START + timedelta(days=i), "closure") for i in range(200))

    forecast = fitted(candidate, np.zeros(200), Calendar(known_days=days)).predict(HORIZON)

    np.testing.assert_allclose(forecast, 0.0, atol=1e-6)


def test_an_unknown_country_and_far_dates_are_survived(candidate):
    y = shop(100)
    late = DailySeries(date(9998, 1, 1), y)

    unknown = fitted(candidate, y, Calendar("XX")).predict(HORIZON)
    far = candidate.from_settings(SETTINGS).fit(late, Calendar("DE")).predict(HORIZON)

    assert_sound(unknown)
    assert_sound(far)


def test_names_are_unique_identifiers(candidate):
    names = candidate_names()

    assert names.count(candidate.name) == 1
    assert candidate.name.isidentifier()
    assert 1 <= candidate.min_history <= 60


def test_the_unit_of_the_sales_does_not_matter(candidate):
    y = shop(200)

    euros, cents = (fitted(candidate, values).predict(HORIZON) for values in (y, 1000.0 * y))

    assert math.isclose(cents.sum(), 1000.0 * euros.sum(), rel_tol=1e-3)
