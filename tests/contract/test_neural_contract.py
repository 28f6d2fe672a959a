"""The network that PyTorch trains: what it learns, what it may know, and that numpy forecasts the same with it."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from app.config.settings import Settings
from app.db.gateway import Gateway
from app.services import ml
from app.services.global_training import train_now
from app.services.ml import global_model, neural_training
from app.services.ml.artifact import load_keys
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.global_levels import GlobalModel
from app.services.ml.candidates.global_lstm import NAME
from app.services.ml.candidates.ridge import N_COLUMNS
from app.services.ml.candidates.windows import N_SIGNALS
from app.services.ml.global_model import LEAST_TENANTS, Gatherer
from app.services.ml.global_store import GlobalModelStore, forget_global_models
from app.services.ml.lessons import Lessons
from app.services.ml.neural_training import INSTALL, train_network, why_not
from app.services.ml.series import DailySeries
from tests.factories import MONDAY, series_of, weekly_series
from tests.integration.shops import CHEAP, add_shop, shop_id, yesterday

torch: Any = pytest.importorskip("torch", reason=f"needs the extra `neural`: {INSTALL}", exc_type=ImportError)

N_DAYS = 280
END = MONDAY + timedelta(days=N_DAYS - 1)
BEFORE_FOLDS = END - timedelta(days=84)
LISTED = CHEAP.model_copy(update={"global_model": True, "global_lstm": True, "global_lstm_device": "cpu"})


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few trees and epochs: what is tested here does not depend on how many there are."""
    monkeypatch.setattr(global_model, "N_TREES", 4)
    monkeypatch.setattr(neural_training, "MOST_EPOCHS", 3)


def windows(n: int, seed: int) -> Lessons:
    """Random weeks and days; a target is its day's first column plus the last week's first signal, where it is > 0."""
    rng = np.random.default_rng(seed)
    weeks = rng.normal(0, 1, (n, 4, N_SIGNALS)).astype(np.float32)  # any number of weeks will do
    days = rng.normal(0, 1, (n, 28, N_COLUMNS)).astype(np.float32)
    target = days[..., 0] + np.maximum(weeks[:, -1, :1], 0)
    return Lessons(weeks, days, np.where(rng.random(target.shape) < 0.2, np.nan, target).astype(np.float32))


def trained(tenants: list[DailySeries]) -> GlobalModel:
    gatherer = Gatherer([BEFORE_FOLDS, END], len(tenants), "cpu")
    for series in tenants:
        gatherer.add(series, Calendar())
    return gatherer.train()


def shops() -> list[DailySeries]:
    return [weekly_series(N_DAYS, noise=0.1, seed=seed) for seed in range(LEAST_TENANTS)]


def test_numpy_forecasts_what_pytorch_does() -> None:
    torch.manual_seed(3)
    net, seen = neural_training._Net(torch, "cpu"), windows(40, seed=1)

    with torch.no_grad():
        expected = net.forward(torch.from_numpy(seen.weeks), torch.from_numpy(seen.days), learning=False).numpy()

    np.testing.assert_allclose(net.network().predict(seen.weeks, seen.days), expected, rtol=1e-5, atol=1e-5)


def test_it_learns_what_the_days_ahead_and_the_weeks_before_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neural_training, "MOST_EPOCHS", 15)
    known, held_out, new = windows(1200, seed=1), windows(100, seed=2), windows(100, seed=3)

    found = train_network(known, held_out, "cpu").predict(new.weeks, new.days)

    missed = np.nanmean(np.abs(found - new.target))
    of_weeks_alone = np.nanmean(np.abs(new.days[..., 0]))
    of_days_alone = np.nanmean(np.abs(new.target - new.days[..., 0] - np.nanmean(known.target)))
    assert missed < 0.3 * of_weeks_alone
    assert missed < 0.7 * of_days_alone


def test_equal_windows_give_equal_weights_whatever_the_random_state_around() -> None:
    known, held_out = windows(100, seed=1), windows(20, seed=2)
    torch.manual_seed(1)
    first = train_network(known, held_out, "cpu")
    state, threads = torch.manual_seed(2).get_state(), torch.get_num_threads()

    second = train_network(known, held_out, "cpu")

    assert first.digest == second.digest
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_what_is_kept_did_best_on_the_days_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out days that say the opposite of the others: the longer it learns, the worse, so it stops at once."""
    monkeypatch.setattr(neural_training, "MOST_EPOCHS", 50)
    known, held_out = windows(100, seed=1), windows(20, seed=2)
    opposite = Lessons(held_out.weeks, held_out.days, -held_out.target)
    monkeypatch.setattr(neural_training, "PATIENCE", 2)

    stopped = train_network(known, opposite, "cpu")
    monkeypatch.setattr(neural_training, "MOST_EPOCHS", 1)

    assert train_network(known, opposite, "cpu").digest == stopped.digest


def test_days_after_the_day_of_a_fit_change_nothing_of_its_network() -> None:
    n_known = (BEFORE_FOLDS - MONDAY).days + 1
    changed = [series_of(np.r_[series.y[:n_known], series.y[n_known:] * 7], series.start) for series in shops()]
    longer = [series_of(np.r_[series.y, np.full(50, 1e6)], series.start) for series in shops()]

    first, other, more = trained(shops()), trained(changed), trained(longer)

    assert first.has_network
    assert first.fits[0].digest == other.fits[0].digest
    assert first.fits[1].digest != other.fits[1].digest
    assert first.version == more.version


def test_a_device_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert "ML_GLOBAL_LSTM_DEVICE" in why_not("cuda")
    assert (why_not("auto"), why_not("cpu")) == ("", "")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch sees")
def test_a_gpu_learns_the_same_things() -> None:
    known, held_out, new = windows(1200, seed=1), windows(100, seed=2), windows(100, seed=3)

    found = train_network(known, held_out, "cuda").predict(new.weeks, new.days)

    assert np.nanmean(np.abs(found - new.target)) < 0.7 * np.nanmean(np.abs(new.target))


def test_it_is_trained_stored_and_forecast_with(gateway: Gateway, tmp_path) -> None:
    environment = Settings(tenantcast_home=tmp_path / "home")
    keys = load_keys(environment)
    for seed, name in enumerate("abcde"):
        add_shop(gateway, name, days=160, seed=seed)

    training = train_now(gateway, environment, LISTED, keys)
    forget_global_models()
    found = GlobalModelStore(gateway, keys).find(yesterday(), 35)
    report = ml.train_and_predict_sales(shop_id("a"), gateway=gateway, settings=LISTED, environment=environment)

    assert (training["status"], training["reason"]) == ("published", "Trained on 5 tenants.")
    assert isinstance(found, GlobalModel)
    assert found.has_network
    assert {row["name"]: row["status"] for row in report["scores"]}[NAME] == "scored"
    assert report["notes"] == []
