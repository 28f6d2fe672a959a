import base64
import dataclasses
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import psycopg
import pytest

from app import __version__
from app.config.settings import Settings
from app.db.gateway import Gateway, Json
from app.db.store import SystemStore, TenantStore
from app.errors import DatabaseUnavailable, LeaseLost, TenantBusy, UnknownModel, UnknownRun
from app.services import ml, runs
from app.services.ml import pipeline, planning
from app.services.ml.artifact import ArtifactKeys, load_keys
from app.services.ml.hashing import RestoredInput, output_hash, restore_snapshot
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.model_version_manager import ModelVersionManager
from app.services.serving import current_forecast
from app.services.tenants import TenantDirectory
from tests.integration.shops import CHEAP, add_shop, sale, shop_id, yesterday


@pytest.fixture
def train(gateway: Gateway, environment: Settings) -> Callable[..., Any]:
    """The public entry with this test's database and three quick candidates."""

    def call(name: str = "bakery", **options: Any) -> Any:
        given: dict[str, Any] = {"gateway": gateway, "settings": CHEAP, "environment": environment} | options
        return ml.train_and_predict_sales(shop_id(name), **given)

    return call


def _item(gateway: Gateway, run_id: str | None = None) -> Any:
    shown = SystemStore(gateway).show_run(None if run_id is None else UUID(run_id))
    assert len(shown["items"]) == 1
    return shown["items"][0]


def _replay(store: TenantStore, report: Any) -> RestoredInput:
    row = store.read_snapshot(report["input_hash"])
    assert row is not None
    return restore_snapshot(row["payload"])


def test_a_shop_with_sales_gets_a_published_forecast(gateway, train):
    store = add_shop(gateway, "bakery", country="ES")

    report = train()

    published = store.read_forecast()
    days = [row for row in published["predictions"] if row["prediction_type"] == "sales_forecast"]
    assert (report["status"], report["error"]) == ("published", None)
    assert report["as_of"] == yesterday().isoformat()
    assert [day["date"] for day in report["forecast"]] == [
        (yesterday() + timedelta(days=n)).isoformat() for n in range(1, 15)
    ]
    assert [(row["prediction_date"], row["predicted_values"]["yhat"]) for row in days] == [
        (day["date"], day["yhat"]) for day in report["forecast"]
    ]
    assert [row["predicted_values"]["parts"] for row in days] == [day["parts"] for day in report["forecast"]]
    assert (report["totals"].keys(), report["totals"]["total_7"]["yhat"]) == ({"total_7"}, report["total_7"])
    assert report["explanation"]["total"] == report["total_7"]
    assert report["explanation"]["es"].startswith("Próximos 7 días")
    assert report["total_7"] == pytest.approx(sum(day["yhat"] for day in report["forecast"][:7]), abs=0.01)
    assert report["model_version"].startswith(f"{yesterday():%Y%m%d}.")
    assert (report["tenant_name"], report["currency"], report["country"]) == ("bakery", "EUR", "ES")
    assert published["report"]["chosen"] == report["chosen"]
    assert _item(gateway, report["run_id"])["state"] == "done"
    assert SystemStore(gateway).list_runs(1)[0]["finished_at"] is not None


def test_a_second_run_on_the_same_sales_changes_nothing(gateway, train):
    store = add_shop(gateway, "bakery")
    first = train()
    before = store.read_forecast()

    second = train()

    assert second["status"] == "unchanged"
    assert (second["input_hash"], second["output_hash"]) == (first["input_hash"], first["output_hash"])
    assert store.read_forecast() == before
    assert len(store.list_models()) == 1
    assert _item(gateway, second["run_id"])["reason"] == "unchanged"


def test_force_computes_again_and_gives_the_same_output(gateway, train):
    store = add_shop(gateway, "bakery")
    first = train()

    second = train(force=True)

    assert second["status"] == "published"
    assert second["output_hash"] == first["output_hash"]
    assert second["forecast"] == first["forecast"]
    assert len(store.list_models()) == 2
    assert [row["stage"] for row in store.list_models()] == ["production", "archived"]


def test_a_shop_that_sells_now_and_then_is_told_what_it_sells_on_average(gateway, train):
    store = add_shop(gateway, "alba", days=0)
    days = [yesterday() - timedelta(days=int(back)) for back in np.random.default_rng(1).choice(140, 30, replace=False)]
    store.import_sales({}, [sale(f"alba-{day}", day, 100.0) for day in days])

    report = train("alba")

    served = current_forecast(gateway, TenantDirectory.read(gateway).find("alba"))
    days_alone = sum(day["yhat"] for day in report["forecast"])
    assert 14 * 100 * 30 / 140 * 0.6 < report["total_28"] < 14 * 100 * 30 / 140 * 1.6  # of the horizon, 14 days
    assert days_alone < 0.6 * report["total_28"]
    assert report["totals"]["total_7"]["yhat"] == report["total_7"] == report["explanation"]["total"]
    assert (served["total_7"], served["total_28"]) == (report["total_7"], report["total_28"])
    assert any("what is sold on average" in note for note in served["notes"])


def test_a_late_sale_makes_a_new_forecast_that_says_what_changed(gateway, train):
    store = add_shop(gateway, "bakery")
    first = train()
    store.import_sales({}, [sale("late", yesterday(), 500.0)])

    second = train()

    changes = second["changes"]
    assert second["status"] == "published"
    assert second["input_hash"] != first["input_hash"]
    assert changes["previous_run_id"] == first["run_id"]
    assert (changes["previous_as_of"], changes["days"]) == (first["as_of"], 14)
    assert changes["previous_total"] == first["total_28"]
    assert changes["total"] == second["total_28"]
    assert changes["chosen_before"] == first["chosen"]


def test_a_shop_without_sales_is_left_out_with_a_reason(gateway, train):
    store = add_shop(gateway, "new", days=0)

    report = train("new")

    item = _item(gateway, report["run_id"])
    assert report["status"] == "no_sales_yet"
    assert (item["state"], item["reason"]) == ("skipped", "no sales yet")
    assert store.read_forecast()["predictions"] == []


def test_one_day_of_sales_is_enough(gateway, train):
    add_shop(gateway, "young", days=2)  # one of them may be a Sunday

    report = train("young")

    assert report["status"] == "published"
    assert len(report["forecast"]) == 14


def test_a_bad_override_is_refused_and_the_shop_is_forecast_all_the_same(gateway, train):
    store = add_shop(gateway, "bakery")
    store.write_settings({"horizon_days": 7, "cv_folds": "many", "surprise": 1})

    report = train()

    assert report["status"] == "published"
    assert len(report["forecast"]) == report["horizon_days"] == 7
    assert [refusal["field"] for refusal in report["refused_settings"]] == ["cv_folds", "surprise"]
    assert _item(gateway, report["run_id"])["report"]["refused_settings"] == report["refused_settings"]


def test_overrides_that_change_what_is_read_are_read_again_with(gateway, train):
    store = add_shop(gateway, "bakery", days=120)
    store.write_settings({"max_train_window_days": 30})

    report = train()

    snapshot = _replay(store, report)
    assert len(snapshot.series) == 30
    assert report["quality"]["days_before_window"] > 0


def test_the_snapshot_replays_to_the_same_output(gateway, train):
    store = add_shop(gateway, "bakery")
    report = train()

    replay = _replay(store, report)

    assert replay.settings.horizon_days == CHEAP.horizon_days
    assert replay.code_version == __version__
    assert (
        output_hash(BusinessMLEngine(replay.settings).forecast(replay.series, replay.calendar))
        == (report["output_hash"])
    )


def test_an_unknown_tenant_is_a_failure_that_says_what_to_do(gateway, train):
    report = train("nobody")

    item = _item(gateway, report["run_id"])
    assert report["status"] == "failed"
    assert report["error"]["code"] == "unknown_tenant"
    assert item["state"] == "failed"
    assert item["error"]["next_step"]


def test_an_unforeseen_error_fails_one_tenant_and_never_repeats_a_sale(gateway, train, monkeypatch, caplog):
    store = add_shop(gateway, "bakery")
    published = train()

    class Broken(BusinessMLEngine):
        def forecast(self, series, calendar):
            raise ZeroDivisionError("a sale of 12345.67")

    monkeypatch.setattr(planning, "BusinessMLEngine", Broken)
    report = train(force=True)

    assert (report["status"], report["error"]["kind"]) == ("failed", "bug")
    assert "ZeroDivisionError" in report["reason"]
    assert "12345.67" not in str(report) + str(_item(gateway, report["run_id"])) + caplog.text
    assert store.read_forecast()["current"]["run_id"] == published["run_id"]


@dataclasses.dataclass
class _Flaky:
    """A gateway whose given function does not answer for the first ``times`` calls."""

    gateway: Gateway
    function: str
    times: int = 1
    name: str = "flaky"

    def call(self, function: str, params: Mapping[str, object]) -> Json:
        if function == self.function and self.times > 0:
            self.times -= 1
            raise DatabaseUnavailable("The database did not answer.", next_step="Try again.")
        return self.gateway.call(function, params)

    def close(self) -> None:
        self.gateway.close()


def test_a_transient_error_puts_the_item_back_with_a_delay(gateway, train):
    add_shop(gateway, "bakery")
    run_id = runs.start_run(gateway, "retrain", tenants=[shop_id("bakery")])

    report = train(gateway=_Flaky(gateway, "ml_read_input"), run_id=run_id)

    item = _item(gateway)
    waits = SystemStore(gateway).pending_items(run_id, 10)[0]["retry_in_seconds"]
    assert (report["status"], report["error"]["kind"]) == ("failed", "transient")
    assert item["state"] == "pending"
    assert 0 <= waits <= 10


def test_alone_a_transient_error_is_a_failure_at_once(gateway, train):
    add_shop(gateway, "bakery")

    report = train(gateway=_Flaky(gateway, "ml_read_input"))

    assert _item(gateway, report["run_id"])["state"] == "failed"


def test_a_failure_that_cannot_be_noted_is_still_reported(gateway, train):
    add_shop(gateway, "bakery")
    flaky = _Flaky(_Flaky(gateway, "ml_read_input"), "ml_fail_item")

    report = train(gateway=flaky)

    assert report["status"] == "failed"


def _steal(database_url: str, store: TenantStore, run_id, lease: int = 60) -> int:
    """End the lease of the item and claim it anew, as another worker would when the first one was frozen."""
    with psycopg.connect(database_url) as connection:
        connection.execute("update ml_run_item set lease_until = now() - interval '1 s' where state = 'running'")
    claim = runs.claim_item(store, run_id, lease)
    assert isinstance(claim, runs.Claim)
    return claim.fence


def test_a_worker_that_lost_its_lease_writes_nothing(gateway, train, database_url, monkeypatch):
    store = add_shop(gateway, "bakery")
    run_id = runs.start_run(gateway, "retrain", tenants=[shop_id("bakery")])

    class Slow(BusinessMLEngine):
        def forecast(self, series, calendar):
            _steal(database_url, store, run_id)
            return super().forecast(series, calendar)

    monkeypatch.setattr(planning, "BusinessMLEngine", Slow)
    report = train(run_id=run_id)

    item = _item(gateway)
    assert (report["status"], report["error"]["code"]) == ("lost", "lease_lost")
    assert item["state"] == "running"  # the new owner's
    assert store.read_forecast()["predictions"] == []
    assert store.list_models() == []


def _enter_until_it_fails(item: runs.Item) -> None:
    for _ in range(100):  # a beat comes every 0.7 s
        item.enter("compute")
        time.sleep(0.1)


def test_the_heartbeat_notices_a_lost_lease_before_the_write(gateway, database_url):
    store = add_shop(gateway, "bakery", days=10)
    run_id = runs.start_run(gateway, "retrain", tenants=[shop_id("bakery")])
    claim = runs.claim_item(store, run_id, 2)
    assert isinstance(claim, runs.Claim)
    item = runs.Item(store, run_id, claim, lease_seconds=2)

    with item.held():
        _steal(database_url, store, run_id)
        with pytest.raises(LeaseLost):
            _enter_until_it_fails(item)


def test_the_heartbeat_keeps_a_lease_longer_than_it_lasts(gateway):
    store = add_shop(gateway, "bakery", days=10)
    run_id = runs.start_run(gateway, "retrain", tenants=[shop_id("bakery")])
    claim = runs.claim_item(store, run_id, 2)
    assert isinstance(claim, runs.Claim)

    with runs.Item(store, run_id, claim, lease_seconds=2).held():
        time.sleep(3)
        again = runs.claim_item(store, run_id, 2)

    assert isinstance(again, runs.NotClaimed)
    assert again.outcome == "busy"


def test_an_older_forecast_does_not_replace_a_newer_one(gateway, train):
    store = add_shop(gateway, "bakery")
    newer = train()

    older = train(as_of=yesterday() - timedelta(days=7))

    assert older["status"] == "older"
    assert newer["as_of"] in older["reason"]
    assert store.read_forecast()["current"]["run_id"] == newer["run_id"]
    assert _item(gateway, older["run_id"])["state"] == "skipped"


def test_as_of_leaves_later_sales_out(gateway, train):
    add_shop(gateway, "bakery")
    day = yesterday() - timedelta(days=7)

    report = train(as_of=day)

    assert report["as_of"] == day.isoformat()
    assert report["forecast"][0]["date"] == (day + timedelta(days=1)).isoformat()


def test_what_a_run_pins_holds_for_its_items(gateway, train):
    add_shop(gateway, "bakery")
    day = yesterday() - timedelta(days=3)
    first = train(as_of=day)
    run_id = runs.start_run(gateway, "retrain", tenants=[shop_id("bakery")], force=True, as_of=day)

    second = train(run_id=run_id)

    assert (second["status"], second["as_of"]) == ("published", day.isoformat())
    assert second["output_hash"] == first["output_hash"]


def test_a_tenant_that_another_worker_holds_is_busy(gateway, train):
    store = add_shop(gateway, "bakery")
    run_id = runs.start_run(gateway, "retrain", tenants=[shop_id("bakery")])
    assert isinstance(runs.claim_item(store, run_id, 60), runs.Claim)

    with pytest.raises(TenantBusy, match="Another worker"):
        train(run_id=run_id)


def test_alone_a_dead_workers_lease_is_waited_for(gateway, train):
    store = add_shop(gateway, "bakery")
    run_id = runs.start_run(gateway, "retrain", tenants=[shop_id("bakery")])
    assert isinstance(runs.claim_item(store, run_id, 1), runs.Claim)

    assert train()["status"] == "published"


def test_a_repeated_call_for_a_finished_item_is_harmless(gateway, train):
    store = add_shop(gateway, "bakery")
    run_id = runs.start_run(gateway, "retrain", tenants=[shop_id("bakery")])
    train(run_id=run_id)
    before = store.read_forecast()

    again = train(run_id=run_id)

    assert again["status"] == "unchanged"
    assert "finished" in again["reason"]
    assert store.read_forecast() == before


def test_a_run_that_does_not_exist_is_named(gateway, train):
    run_id = uuid4()

    with pytest.raises(UnknownRun, match=str(run_id)):
        train(run_id=run_id)


def test_the_published_model_verifies_and_comes_back(gateway, train, environment):
    store = add_shop(gateway, "bakery")
    report = train()

    model = ModelVersionManager(store, load_keys(environment)).load_active_model()

    assert model is not None
    assert (model.model_version, model.stage) == (report["model_version"], "production")
    assert model.state["weights"] == report["weights"]
    assert set(model.state["members"]) == set(report["weights"])  # type: ignore[call-overload]
    assert model.accuracy == pytest.approx(1 - report["metrics"]["wape"])
    assert model.other_versions == {}


def test_a_model_that_does_not_verify_is_not_loaded(gateway, train, environment, database_url):
    store = add_shop(gateway, "bakery")
    stranger = add_shop(gateway, "stranger", seed=2)
    train()
    train("stranger")
    keys = load_keys(environment)
    other = ArtifactKeys((("other", b"x" * 32),))

    assert ModelVersionManager(store, other).load_active_model() is None
    with psycopg.connect(database_url) as connection:
        data = connection.execute(
            "select model_data from ml_models where tenant_id = %s", (stranger.tenant_id,)
        ).fetchone()
        assert data is not None
        connection.execute("update ml_models set model_data = %s where tenant_id = %s", (data[0], store.tenant_id))
    assert ModelVersionManager(store, keys).load_active_model() is None
    assert ModelVersionManager(stranger, keys).load_active_model() is not None
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "update ml_models set model_data = %s where tenant_id = %s",
            (base64.b64encode(b"pickle").decode(), store.tenant_id),
        )
    assert ModelVersionManager(store, keys).load_active_model() is None


def test_a_version_can_be_rolled_back_and_activated_again(gateway, train, environment):
    store = add_shop(gateway, "bakery")
    manager = ModelVersionManager(store, load_keys(environment))
    first, second = train(), train(force=True)

    assert manager.roll_back() == first["model_version"]
    active = manager.load_active_model()
    assert active is not None
    assert active.model_version == first["model_version"]
    assert manager.activate(second["model_version"]) == first["model_version"]
    manager.roll_back()
    with pytest.raises(UnknownModel, match="no earlier"):
        manager.roll_back()
    with pytest.raises(UnknownModel, match=r"'20000101\.1'"):
        manager.activate("20000101.1")


def test_the_sales_of_one_shop_never_reach_another(gateway, train):
    bakery, bar = add_shop(gateway, "bakery"), add_shop(gateway, "bar", days=50, seed=9)
    train()
    before = bakery.read_forecast()

    train("bar")

    assert bakery.read_forecast() == before
    assert bar.read_forecast()["tenant"]["name"] == "bar"


def test_a_stopped_feed_is_forecast_from_its_last_sale(gateway, train):
    last = yesterday() - timedelta(days=100)
    last -= timedelta(days=last.weekday() == 6)  # the shop is closed on Sundays
    add_shop(gateway, "closed-down", last_day=last)

    report = train("closed-down")

    assert (report["stale"], report["as_of"]) == (True, last.isoformat())
    assert report["forecast"][0]["date"] == (last + timedelta(days=1)).isoformat()


def test_the_four_names_are_exported():
    assert ml.BusinessMLEngine is BusinessMLEngine
    assert ml.ModelVersionManager is ModelVersionManager
    assert ml.train_and_predict_sales is pipeline.train_and_predict_sales
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ml.nothing
