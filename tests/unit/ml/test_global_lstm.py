"""The network of the global model, as far as it needs no PyTorch: what it sees and says, and when it takes part."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.config.overrides import apply_overrides
from app.errors import ArtifactRefused
from app.services.ml import global_model
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.direct_rows import Table
from app.services.ml.candidates.global_levels import GlobalModel
from app.services.ml.candidates.global_lstm import NAME, NO_NETWORK, global_candidates
from app.services.ml.candidates.network import N_HIDDEN, N_MEMORY, SHAPES, Network
from app.services.ml.candidates.ridge import N_COLUMNS
from app.services.ml.candidates.windows import N_SIGNALS, N_WEEKS, Windows
from app.services.ml.evaluate import evaluate
from app.services.ml.global_model import LEAST_TENANTS, Gatherer
from app.services.ml.lessons import HELD_OUT, WINDOWS_PER_TENANT, LessonBook
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.neural_training import device_for, why_not
from app.services.ml.series import DailySeries
from tests.factories import MONDAY, series_of, weekly_series

N_DAYS = 280
END = MONDAY + timedelta(days=N_DAYS - 1)
BEFORE_FOLDS = END - timedelta(days=84)
SETTINGS = MLSettings(model_candidates=("snaive", "weekday_mean"), global_model=True, global_lstm=True)


def network(seed: int = 1) -> Network:
    """Any weights: small enough for sensible forecasts."""
    rng = np.random.default_rng(seed)
    return Network(**{name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in SHAPES.items()})


def of_zeros() -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, dtype=np.float32) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def trees_only() -> Iterator[GlobalModel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(global_model, "N_TREES", 4)
        gatherer = Gatherer([BEFORE_FOLDS, END], LEAST_TENANTS)
        for seed in range(LEAST_TENANTS):
            gatherer.add(weekly_series(N_DAYS, noise=0.1, seed=seed), Calendar())
        yield gatherer.train()


@pytest.fixture(scope="module")
def model(trees_only: GlobalModel) -> GlobalModel:
    """Every fit with a network of its own."""
    fits = tuple(replace(fit, network=network(seed)) for seed, fit in enumerate(trees_only.fits))
    return replace(trees_only, fits=fits)


def windows_of(series: DailySeries, calendar: Calendar | None = None) -> Windows:
    calendar = calendar or Calendar()
    return Windows.of(Table.of(series, calendar).training(), series, calendar)


def candidate(model: GlobalModel | str):
    return global_candidates(model, SETTINGS)[1]


# --- what it sees


def test_a_window_is_the_half_year_before_an_origin_and_the_days_after_it():
    windows = windows_of(weekly_series(N_DAYS, noise=0.2))

    n = windows.origins.size
    assert windows.weeks.shape == (n, N_WEEKS, N_SIGNALS)
    assert (windows.days.shape, windows.target.shape) == ((n, 28, N_COLUMNS), (n, 28))
    assert np.isfinite(windows.weeks).all()
    assert np.isfinite(windows.days).all()
    assert (np.diff(windows.origins) == 7).all()
    assert np.isfinite(windows.target).sum() == windows.at[0].size


def test_a_week_like_the_last_ones_is_no_distance_and_a_larger_one_is():
    y = np.tile([100.0, 121.0, 144.0, 100.0, 196.0, 225.0, 81.0], 40)
    y[-14:-7] *= 4  # every root of that week doubles

    last_weeks = windows_of(series_of(y)).weeks[-1, :, :7]  # the origin is a week before the end: it sees the odd week

    assert (last_weeks[-1] > 0).all()
    assert np.ptp(last_weeks[:-8], axis=0).max() == 0  # all before are alike
    assert (last_weeks[-2] < 0).all()


def test_amounts_do_not_matter_only_their_shape():
    series = weekly_series(N_DAYS, noise=0.2)

    once, larger = windows_of(series), windows_of(series_of(series.y * 4))  # roots of fours are exact

    np.testing.assert_array_equal(larger.weeks, once.weeks)
    np.testing.assert_array_equal(larger.days, once.days)


def test_no_window_sees_a_day_from_its_origin_on():
    series = weekly_series(N_DAYS, noise=0.2)
    before = windows_of(series)
    origin = int(before.origins[20])

    changed = windows_of(series_of(np.r_[series.y[:origin], series.y[origin:] * 9]))

    np.testing.assert_array_equal(changed.weeks[:21], before.weeks[:21])
    assert not np.array_equal(changed.weeks[21], before.weeks[21])


def test_holidays_of_the_weeks_before_are_seen():
    series = weekly_series(N_DAYS, start=date(2024, 1, 1))
    origin_of_may_1 = (date(2024, 5, 1) - series.start).days // 7 * 7

    windows = windows_of(series, Calendar(country="DE"))

    row = int(np.flatnonzero(windows.origins == origin_of_may_1 + 7)[0])
    assert windows.weeks[row, -1, 7:14].tolist() == [0, 0, 1, 0, 0, 0, 0]  # a Wednesday


# --- what is learned from


def test_the_newest_weeks_are_held_out_and_nothing_known_reaches_into_them():
    windows = windows_of(weekly_series(N_DAYS, noise=0.2))
    book = LessonBook(n_tenants=1)
    book.add(windows, N_DAYS)

    lessons = book.lessons()

    assert lessons is not None
    known, held_out = lessons
    first = N_DAYS - HELD_OUT
    reaching = windows.origins[windows.origins < first][-1]  # a week before: 7 days ahead are known, 21 are not
    assert np.isfinite(known.target[-1]).tolist() == [True] * (first - reaching) + [False] * (28 - first + reaching)
    assert len(held_out.weeks) == (windows.origins >= first).sum() == HELD_OUT // 7
    assert len(known.weeks) == (windows.origins < first).sum()
    assert book.lessons() is None


def test_of_a_long_history_a_bounded_number_is_kept():
    book = LessonBook(n_tenants=1)
    book.add(windows_of(weekly_series(1_000, noise=0.2)), 1_000)

    lessons = book.lessons()

    assert lessons is not None
    assert len(lessons[0].weeks) == WINDOWS_PER_TENANT[1]


def test_tenants_too_young_to_hold_days_out_teach_no_network():
    book = LessonBook(n_tenants=1)
    book.add(windows_of(weekly_series(80, noise=0.2)), 80)

    assert book.lessons() is None


# --- how it forecasts


def test_with_constant_gates_the_memory_is_a_geometric_sum():
    parts = of_zeros()
    i, f, g, o = 0.3, 1.2, -0.7, 0.5
    parts["weeks_bias"][[0, N_MEMORY, 2 * N_MEMORY, 3 * N_MEMORY]] = i, f, g, o  # of the first cell
    parts["hidden"][0, N_COLUMNS] = -1.0  # the first unit is minus what it remembers
    parts["out"][0], parts["out_bias"][0] = 2.0, 0.25
    kept, let_in, let_out = (1 / (1 + np.exp(-x)) for x in (f, i, o))
    c = let_in * np.tanh(g) * (1 - kept**N_WEEKS) / (1 - kept)
    expected = 0.25 + 2.0 * max(0.0, -let_out * np.tanh(c))

    found = Network(**parts).predict(
        np.zeros((3, N_WEEKS, N_SIGNALS), dtype=np.float32), np.zeros((3, 5, N_COLUMNS), dtype=np.float32)
    )

    assert found.shape == (3, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_day_ahead_counts_by_its_columns_where_they_are_above_the_threshold():
    parts = of_zeros()
    parts["hidden"][0, 3], parts["hidden_bias"][0], parts["out"][0] = 2.0, -1.0, 10.0
    days = np.zeros((1, 3, N_COLUMNS), dtype=np.float32)
    days[0, :, 3] = 0.0, 1.0, 2.0

    found = Network(**parts).predict(np.zeros((1, N_WEEKS, N_SIGNALS), dtype=np.float32), days)

    assert found.tolist() == [[0.0, 10.0, 30.0]]


def test_a_network_that_says_nothing_gives_the_last_same_weekdays(trees_only):
    silent = tuple(replace(fit, network=Network(**of_zeros())) for fit in trees_only.fits)
    y = np.tile([100.0, 121.0, 144.0, 100.0, 196.0, 225.0, 81.0], 40)
    fitted = candidate(replace(trees_only, fits=silent)).from_settings(SETTINGS).fit(series_of(y), Calendar())

    np.testing.assert_allclose(fitted.predict(28), y[:28], rtol=1e-9)


@pytest.mark.parametrize("horizon", [1, 7, 28, 90])
def test_it_forecasts_any_number_of_days_and_a_shorter_forecast_is_the_start_of_a_longer(model, horizon):
    fitted = candidate(model).from_settings(SETTINGS).fit(weekly_series(N_DAYS, noise=0.1, seed=9), Calendar("DE"))

    found = fitted.predict(horizon)

    assert found.shape == (horizon,)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, fitted.predict(120)[:horizon], rtol=1e-9)


@pytest.mark.parametrize("y", [np.zeros(60), np.full(60, 7.0), np.r_[np.ones(59), 1e9], -np.ones(60)])
def test_odd_sales_give_finite_forecasts(model, y):
    series = series_of(y, END + timedelta(days=1))

    fitted = candidate(model).from_settings(SETTINGS).fit(series, Calendar())

    assert np.isfinite(fitted.predict(28)).all()
    assert fitted.fitted_values().shape == (60,)


def test_folds_use_the_network_before_them_and_its_state_names_the_model(model):
    series = weekly_series(N_DAYS, noise=0.1, seed=99)
    kind = candidate(model)

    early = kind.from_settings(SETTINGS).fit(series.head(N_DAYS - 84), Calendar())
    late = kind.from_settings(SETTINGS).fit(series, Calendar())
    restored = candidate(GlobalModel.from_state(model.to_state())).from_state(late.get_state(), SETTINGS)

    assert (early.trained_through, late.trained_through) == (BEFORE_FOLDS, END)
    assert not np.array_equal(early.observe(series, Calendar()).predict(28), late.predict(28))
    assert late.get_state() == {"name": NAME, "trained_through": END.isoformat(), "version": model.version}
    np.testing.assert_array_equal(restored.observe(series, Calendar()).predict(28), late.predict(28))


# --- how it is stored


def test_another_network_is_another_version(model, trees_only):
    other = replace(model, fits=(replace(model.fits[0], network=network(77)), model.fits[1]))

    assert len({model.version, other.version, trees_only.version}) == 3


def test_a_model_without_a_network_is_stored_as_before(trees_only):
    assert [set(fit) for fit in trees_only.to_state()["fits"]] == [{"trained_through", "trees"}] * 2


@pytest.mark.parametrize("part", ["weeks_in", "out_bias"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: a.astype(np.float64),
        lambda a: a[..., None],
        lambda a: a[:0],
        lambda a: np.full_like(a, np.nan),
        lambda a: np.full_like(a, np.inf),
        lambda a: "weights",
        lambda a: None,
    ],
)
def test_a_damaged_network_is_refused(model, part, spoil):
    state = model.to_state()
    damaged = state["fits"][1]["network"] | {part: spoil(getattr(model.fits[1].network, part))}

    with pytest.raises(ArtifactRefused):
        GlobalModel.from_state(state | {"fits": [state["fits"][0], state["fits"][1] | {"network": damaged}]})


@pytest.mark.parametrize("found", [None, {}, b"", {"weeks_in": 1}, {**of_zeros(), "more": np.zeros(1)}])
def test_what_is_no_network_is_refused(model, found):
    state = model.to_state()

    with pytest.raises(ArtifactRefused):
        GlobalModel.from_state(state | {"fits": [state["fits"][0], state["fits"][1] | {"network": found}]})


# --- when it takes part


def test_it_takes_part_beside_the_others_and_is_compared_like_them(model):
    series = weekly_series(N_DAYS, noise=0.1, seed=99)

    result = BusinessMLEngine(SETTINGS, others=global_candidates(model, SETTINGS)).forecast(series, Calendar())

    rows = {score.name: score.status for score in result.scores}
    assert rows == dict.fromkeys(("snaive", "weekday_mean", "global_levels", NAME), "scored")


def test_a_model_without_a_network_leaves_it_out_and_nothing_else(trees_only):
    series = weekly_series(N_DAYS, noise=0.1, seed=99)
    without = SETTINGS.model_copy(update={"global_lstm": False})

    result = BusinessMLEngine(SETTINGS, others=global_candidates(trees_only, SETTINGS)).forecast(series, Calendar())
    alone = BusinessMLEngine(without, others=global_candidates(trees_only, without)).forecast(series, Calendar())

    row = result.scores[-1]
    assert (row.name, row.status, row.reason) == (NAME, "left_out", NO_NETWORK)
    np.testing.assert_array_equal(result.forecast.yhat, alone.forecast.yhat)


def test_no_tenant_switches_it_on_for_itself():
    settings, refused = apply_overrides(MLSettings(), {"global_lstm": True})

    assert not settings.global_lstm
    assert refused[0].reason == "only the operator sets this"


def test_without_pytorch_the_words_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it raises ImportError

    assert "pip install 'tenantcast[neural]'" in why_not("auto")
    assert device_for(SETTINGS) == (None, why_not("auto"))
    assert device_for(MLSettings()) == (None, "")


def test_a_backtest_without_pytorch_goes_on_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(global_model, "N_TREES", 4)
    shops = {f"s{seed}": weekly_series(200, noise=0.1, seed=seed) for seed in range(LEAST_TENANTS)}
    rows = [(name, day, value) for name, s in shops.items() for day, value in zip(s.dates, s.y, strict=True)]

    result = evaluate(pd.DataFrame(rows, columns=["unique_id", "ds", "y"]), 28, 1, SETTINGS)

    assert result["pooled"]["failed"] == 0
    assert "tenantcast[neural]" in result["global_model"]["no_network"]


def test_the_widths_are_those_of_the_columns():
    assert SHAPES["hidden"] == (N_HIDDEN, N_COLUMNS + N_MEMORY)
