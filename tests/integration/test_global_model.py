"""The global model on a real database: its own run trains it, tenants that agreed are forecast with it."""

import json
import sys
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from app.cli import main
from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import SystemStore, TenantStore
from app.services import ml, runs
from app.services.bell import Silent
from app.services.global_training import GlobalTraining, start_training, train_now
from app.services.item_work import work_on
from app.services.ml import global_model
from app.services.ml.artifact import load_keys
from app.services.ml.candidates.global_levels import NAME
from app.services.ml.global_store import MODEL_TYPE, forget_global_models
from app.services.ml.predict import generate_predictions
from app.services.report.data import read_run
from app.tenancy import EVERYONE
from tests.integration.shops import CHEAP, add_shop, sale, shop_id, yesterday

AGREED = ("a", "b", "c", "d", "e")
LISTED = CHEAP.model_copy(update={"global_model": True})
THROUGH = yesterday() - timedelta(days=1)


@pytest.fixture(autouse=True)
def small_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few trees; and every test reads the stored model itself."""
    monkeypatch.setattr(global_model, "N_TREES", 8)
    forget_global_models()
    yield
    forget_global_models()


@pytest.fixture
def shops(gateway: Gateway) -> dict[str, TenantStore]:
    """Five shops that agree because the operator does, and one that says no."""
    found = {name: add_shop(gateway, name, days=150, seed=seed) for seed, name in enumerate((*AGREED, "out"))}
    found["out"].write_settings({"global_model": False})
    return found


@pytest.fixture
def teach(gateway: Gateway, environment: Settings) -> Callable[..., GlobalTraining]:
    def call(settings: MLSettings = LISTED, as_of: date | None = None) -> GlobalTraining:
        return train_now(gateway, environment, settings, load_keys(environment), as_of=as_of)

    return call


@pytest.fixture
def forecast(gateway: Gateway, environment: Settings) -> Callable[..., Any]:
    def call(name: str, **options: Any) -> Any:
        given: dict[str, Any] = {"gateway": gateway, "settings": LISTED, "environment": environment} | options
        return ml.train_and_predict_sales(shop_id(name), **given)

    return call


def row_of(report: Any) -> dict[str, Any]:
    """What the score table says about the global model."""
    return next((row for row in report["scores"] if row["name"] == NAME), {})


def codes(report: Any) -> list[str]:
    return [note["code"] for note in report["notes"]]


def versions(gateway: Gateway) -> list[dict[str, Any]]:
    return TenantStore(gateway, EVERYONE).list_models()


def test_a_run_of_its_own_trains_it_and_tenants_are_forecast_with_it(gateway, shops, teach, forecast):
    training = teach()

    report = forecast("a")
    run = SystemStore(gateway).show_run(UUID(forecast("a")["run_id"]))
    assert (training["status"], training["tenants"], training["as_of"]) == ("published", 5, THROUGH.isoformat())
    assert [(row["model_type"], row["model_version"], row["stage"]) for row in versions(gateway)] == [
        (MODEL_TYPE, training["model_version"], "production")
    ]
    assert row_of(report)["status"] == "scored"
    assert codes(report) == []
    assert run["items"][0]["state"] == "done"
    assert forecast("a")["status"] == "unchanged"
    assert {row["model_type"] for row in shops["a"].list_models()} == {"sales_forecast"}


def test_who_said_no_teaches_nothing_and_is_forecast_without_it(gateway, shops, teach, forecast):
    before = teach()
    days = [yesterday() - timedelta(days=back) for back in range(100)]
    shops["out"].import_sales({"name": "out"}, [sale(f"more-{day}", day, 5_000.0) for day in days])

    after = teach()

    assert (after["model_version"], after["tenants"]) == (before["model_version"], 5)
    report = forecast("out")
    assert (report["status"], row_of(report), codes(report)) == ("published", {}, [])


def test_one_may_agree_where_the_operator_does_not(shops, teach, forecast):
    assert (teach(CHEAP)["status"], teach(CHEAP)["tenants"]) == ("skipped", 0)
    for name in AGREED:
        shops[name].write_settings({"global_model": True})

    training = teach(CHEAP)

    assert (training["status"], training["tenants"]) == ("published", 5)
    assert row_of(forecast("a", settings=CHEAP))["status"] == "scored"


def test_a_newer_model_is_a_reason_to_forecast_again_and_nothing_else_is(gateway, shops, teach, forecast):
    teach(as_of=THROUGH - timedelta(days=7))
    first = forecast("a")
    teach(as_of=THROUGH - timedelta(days=7))

    same = forecast("a")
    teach()
    other = forecast("a")

    assert (first["status"], same["status"], other["status"]) == ("published", "unchanged", "published")
    assert [row["stage"] for row in versions(gateway)].count("production") == 1


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        ("update ml_models set model_data = 'AAAA'", "global_model_refused"),
        ("update ml_models set model_data = null", "global_model_refused"),
        ("delete from ml_models", "no_global_model"),
    ],
)
def test_without_a_model_that_verifies_it_is_left_out_and_said(database_url, shops, teach, forecast, spoil, code):
    teach()
    with psycopg.connect(database_url) as connection:
        connection.execute(spoil)

    report = forecast("a")

    assert report["status"] == "published"
    assert row_of(report)["status"] == "left_out"
    assert codes(report) == [code]


def test_a_model_that_has_seen_later_days_or_is_too_old_is_left_out(shops, teach, forecast):
    teach(as_of=yesterday() - timedelta(days=20))

    early = forecast("a", as_of=yesterday() - timedelta(days=30))
    late = forecast("b", settings=LISTED.model_copy(update={"model_max_age_days": 10}))

    assert (codes(early), row_of(early)["status"]) == (["global_model_newer"], "left_out")
    assert (codes(late), row_of(late)["status"]) == (["global_model_old"], "left_out")


def test_a_model_that_was_blended_with_it_is_carried_forward_with_the_same_version(
    gateway, environment, shops, teach, forecast
):
    teach(as_of=yesterday() - timedelta(days=12))
    fitted = forecast("a", as_of=yesterday() - timedelta(days=7))
    assert fitted["weights"][NAME] > 0
    teach()
    forget_global_models()

    found = generate_predictions(shop_id("a"), gateway=gateway, settings=LISTED, environment=environment)

    assert (found["reanchored"], found["refit_reason"]) == (True, "")
    assert found["report"]["weights"][NAME] > 0
    assert found["report"]["model_version"] == fitted["model_version"]


def test_a_worker_that_is_rung_trains_it_once(gateway, environment, shops):
    started = start_training(gateway, Silent(), environment)
    run_id = UUID(started["run_id"])

    looks = [work_on(gateway, Silent(), environment, LISTED, run_id, EVERYONE)["outcome"] for _ in range(2)]

    assert looks == ["published", "finished"]
    assert len(versions(gateway)) == 1


def test_the_report_shows_the_newest_run_over_tenants(gateway, shops, teach, forecast):
    report = forecast("a", settings=CHEAP)
    teach()

    page = read_run(gateway, None, 10)

    assert (page.run["run_id"], page.total) == (report["run_id"], 1)


def test_who_has_lost_the_lease_stores_nothing(gateway, environment, shops):
    store = TenantStore(gateway, EVERYONE)
    run_id = runs.start_run(gateway, runs.TRAINING, tenants=[EVERYONE], ring=False)
    claimed = runs.claim_item(store, run_id, 30)
    assert isinstance(claimed, runs.Claim)
    model = {"model_type": MODEL_TYPE, "model_version": "1", "model_data": None}

    assert store.publish_model(run_id, claimed.fence - 1, model, {})["outcome"] == "lost"
    assert versions(gateway) == []
    assert store.publish_model(run_id, claimed.fence, model, {})["outcome"] == "published"
    assert store.publish_model(run_id, claimed.fence, model, {})["outcome"] == "published"  # its answer was lost
    assert len(versions(gateway)) == 1


def test_the_command_trains_it_and_says_what_came_of_it(
    database_url: str, shops, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)

    assert main(["models", "train-global", "--json"]) == 0
    nobody = json.loads(capsys.readouterr().out)
    monkeypatch.setenv("ML_GLOBAL_MODEL", "true")
    assert main(["models", "train-global"]) == 0

    assert (nobody["status"], nobody["tenants"]) == ("skipped", 0)
    assert "Published: Trained on 5 tenants." in capsys.readouterr().out


def test_without_pytorch_the_trees_are_trained_and_tenants_are_told(
    shops, teach, forecast, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it raises ImportError
    settings = LISTED.model_copy(update={"global_lstm": True})

    training = teach(settings)

    report = forecast("a", settings=settings)
    assert training["status"] == "published"
    assert "pip install 'tenantcast[neural]'" in training["reason"]
    assert (row_of(report)["status"], codes(report)) == ("scored", ["no_network"])
    assert next(row["status"] for row in report["scores"] if row["name"] == "global_lstm") == "left_out"
