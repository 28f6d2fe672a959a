"""Predictions on demand, end to end on a real database: one publish, fenced, without a fit where that is right."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from functools import partial
from typing import Any, ClassVar, cast
from uuid import UUID

import numpy as np
import psycopg
import pytest

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.gateway import Gateway, Json
from app.db.store import SystemStore, TenantStore
from app.errors import ConfigError, TenantBusy, UnknownPredictionType
from app.services import ml, runs
from app.services.doctor.countries import country_notes
from app.services.ml import planning
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.naive import Naive
from app.services.ml.hashing import restore_snapshot
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.predict import Predictions, generate_predictions
from app.services.tenants import TenantDirectory
from tests.integration.shops import CHEAP, add_shop, sale, shop_id, yesterday

WEEK_AGO = yesterday() - timedelta(days=7)
BAKERY = shop_id("bakery")


@pytest.fixture
def bakery(gateway: Gateway) -> TenantStore:
    return add_shop(gateway, "bakery", days=200)


@pytest.fixture
def train(gateway: Gateway, environment: Settings, bakery: TenantStore) -> Callable[..., Any]:
    def call(**options: Any) -> Any:
        given: dict[str, Any] = {"gateway": gateway, "settings": CHEAP, "environment": environment} | options
        return ml.train_and_predict_sales(BAKERY, **given)

    return call


@pytest.fixture
def predict(gateway: Gateway, environment: Settings, bakery: TenantStore) -> Callable[..., Predictions]:
    def call(*kind: str, **options: Any) -> Predictions:
        given: dict[str, Any] = {"gateway": gateway, "settings": CHEAP, "environment": environment} | options
        return generate_predictions(BAKERY, *kind, **given)

    return call


def _forecast_rows(store: TenantStore) -> list[dict[str, Any]]:
    rows = store.read_forecast()["predictions"]
    return [row for row in rows if row["prediction_type"] == "sales_forecast"]


def _run_of(gateway: Gateway, report: Mapping[str, Any]) -> dict[str, Any]:
    return SystemStore(gateway).show_run(UUID(report["run_id"]))


def test_newer_days_are_forecast_with_the_active_model(gateway, bakery, train, predict):
    before = train(as_of=WEEK_AGO)
    models = bakery.list_models()

    found = predict()

    report, run = found["report"], _run_of(gateway, found["report"])
    assert (report["status"], found["reanchored"], found["refit_reason"]) == ("published", True, "")
    assert report["as_of"] == yesterday().isoformat()
    assert [row["date"] for row in found["rows"]] == [
        (yesterday() + timedelta(days=n)).isoformat() for n in range(1, 15)
    ]
    assert found["rows"] == report["forecast"] != before["forecast"]
    assert report["model_version"] == before["model_version"]
    assert report["weights"] == before["weights"]
    assert bakery.list_models() == models  # neither a new version, nor a younger one
    assert (run["run"]["kind"], run["items"][0]["state"]) == ("predict", "done")
    assert run["run"]["finished_at"] is not None


def test_the_published_rows_are_of_that_one_run(gateway, bakery, train, predict):
    train(as_of=WEEK_AGO)

    report = predict()["report"]

    rows = [row for row in _forecast_rows(bakery) if row["prediction_date"] > report["as_of"]]
    current = bakery.read_forecast()["current"]
    assert {row["run_id"] for row in rows} == {report["run_id"]} == {current["run_id"]}
    assert [row["predicted_values"]["yhat"] for row in rows] == [day["yhat"] for day in report["forecast"]]
    assert {row["model_version"] for row in rows} == {report["model_version"]}
    assert (current["output_hash"], current["input_hash"]) == (report["output_hash"], report["input_hash"])


def test_what_was_fitted_on_the_same_days_is_left_as_it_is(bakery, train, predict):
    fitted = train()
    before = bakery.read_forecast()

    found = predict()

    assert found["report"]["status"] == "unchanged"
    assert found["report"]["model_version"] == fitted["model_version"]
    assert found["rows"] == []
    assert bakery.read_forecast() == before


def test_forced_on_the_days_of_the_fit_it_publishes_the_fits_own_forecast(bakery, train, predict):
    fitted = train()

    found = predict(force=True)

    assert (found["report"]["status"], found["reanchored"]) == ("published", True)
    assert found["rows"] == fitted["forecast"]
    assert found["report"]["output_hash"] == fitted["output_hash"]
    assert found["report"]["anomalies"] == fitted["anomalies"]
    assert found["report"]["scores"] == [{**score, "seconds": 0.0} for score in fitted["scores"]]
    assert len(bakery.list_models()) == 1


def test_the_second_call_has_nothing_to_do_and_a_late_sale_has(bakery, train, predict):
    train(as_of=WEEK_AGO)
    first = predict()

    second = predict()
    bakery.import_sales({}, [sale("late", yesterday(), 500.0)])
    third = predict()

    assert [found["report"]["status"] for found in (first, second, third)] == ["published", "unchanged", "published"]
    assert third["reanchored"]
    assert third["rows"] != first["rows"]


def test_a_retrain_on_the_same_days_still_fits(bakery, train, predict):
    train(as_of=WEEK_AGO)
    carried = predict()["report"]

    fitted = train()

    assert (fitted["status"], fitted["reanchored"]) == ("published", False)
    assert fitted["input_hash"] != carried["input_hash"]
    assert [row["stage"] for row in bakery.list_models()] == ["production", "archived"]


def test_flagged_days_can_be_asked_for_and_the_forecast_is_published_with_them(bakery, train, predict):
    train(as_of=WEEK_AGO)
    odd = yesterday() - timedelta(days=2 if (yesterday() - timedelta(days=2)).weekday() != 6 else 3)
    bakery.import_sales({}, [sale("odd", odd, 5_000.0)])

    found = predict("sales_anomaly")

    published = bakery.read_forecast()["predictions"]
    assert [row["date"] for row in found["rows"]] == [odd.isoformat()]
    assert found["rows"][0]["y"] > 5_000
    assert [row["prediction_date"] for row in published if row["prediction_type"] == "sales_anomaly"] == [
        odd.isoformat()
    ]
    assert {row["run_id"] for row in published if row["prediction_date"] > yesterday().isoformat()} == {
        found["report"]["run_id"]
    }


def _spoil_artefact(database_url: str) -> None:
    with psycopg.connect(database_url) as owner:
        owner.execute("update public.ml_models set model_data = 'A' || substr(model_data, 2)")


def _lose_artefact(database_url: str) -> None:
    with psycopg.connect(database_url) as owner:
        owner.execute("update public.ml_models set model_data = null")


@pytest.mark.parametrize("harm", [_spoil_artefact, _lose_artefact])
def test_a_model_that_does_not_verify_is_fitted_anew(database_url, bakery, train, predict, harm):
    train(as_of=WEEK_AGO)
    harm(database_url)

    found = predict()

    assert (found["report"]["status"], found["reanchored"]) == ("published", False)
    assert found["refit_reason"] == "There is no stored model that verifies."
    assert len(bakery.list_models()) == 2
    assert predict(force=True)["reanchored"]


def test_without_any_model_one_is_fitted(bakery, predict):
    found = predict()

    assert (found["report"]["status"], found["reanchored"]) == ("published", False)
    assert len(bakery.list_models()) == 1


@pytest.mark.parametrize(("limit", "reanchored"), [("6", False), ("7", True)])
def test_a_model_older_than_its_limit_is_fitted_anew(train, predict, monkeypatch, limit, reanchored):
    train(as_of=WEEK_AGO)
    monkeypatch.setenv("ML_MODEL_MAX_AGE_DAYS", limit)

    found = predict(settings=CHEAP.model_copy(update={"model_max_age_days": MLSettings().model_max_age_days}))

    assert found["report"]["status"] == "published"
    assert found["reanchored"] is reanchored
    assert found["refit_reason"] == ("" if reanchored else "The model is 7 days old; 6 are allowed.")


def test_changed_settings_need_a_fit(bakery, train, predict):
    train(as_of=WEEK_AGO)
    bakery.write_settings({"horizon_days": 7})

    found = predict()

    assert found["refit_reason"] == "Settings have changed since the model was fitted: horizon_days."
    assert len(found["rows"]) == 7


def test_a_model_never_forecasts_days_that_it_has_seen(bakery, train, predict):
    train()

    found = predict(as_of=WEEK_AGO)

    assert "has seen sales after" in found["refit_reason"]
    assert found["report"]["status"] == "older"  # and what was computed from fewer days is not published
    assert bakery.read_forecast()["current"]["as_of"] == yesterday().isoformat()


def test_a_member_that_breaks_on_the_new_days_is_fitted_anew(bakery, train, predict, monkeypatch):
    class Fragile(Naive):
        name: ClassVar[str] = "naive"

        @classmethod
        def from_state(cls, state: Any, settings: MLSettings) -> Any:
            raise RuntimeError("a number of the tenant")

    only = CHEAP.model_copy(update={"model_candidates": ("naive",)})
    train(as_of=WEEK_AGO, settings=only)
    monkeypatch.setattr(planning, "BusinessMLEngine", partial(BusinessMLEngine, candidates=(Fragile,)))

    found = predict(settings=only)

    assert (found["report"]["status"], found["reanchored"]) == ("published", False)
    assert found["refit_reason"] == "naive raised RuntimeError."
    assert found["report"]["input_hash"] == bakery.read_forecast()["current"]["input_hash"]
    assert len(bakery.list_models()) == 2


def test_after_a_roll_back_the_older_version_is_carried_forward(bakery, train, predict):
    first = train(as_of=WEEK_AGO)
    second = train(as_of=yesterday() - timedelta(days=1))
    bakery.activate_model("sales_forecast", first["model_version"])

    found = predict()

    ahead = [row for row in _forecast_rows(bakery) if row["prediction_date"] > yesterday().isoformat()]
    assert second["model_version"] != found["report"]["model_version"] == first["model_version"]
    assert {row["model_version"] for row in ahead} == {first["model_version"]}


class Interrupting:
    """A gateway that lets someone else act just before a publish."""

    name = "interrupting"

    def __init__(self, inner: Gateway, act: Callable[[], object]) -> None:
        self._inner, self._act = inner, act

    def call(self, function: str, params: Mapping[str, object]) -> Json:
        if function == "ml_publish_item":
            self._act()
        return self._inner.call(function, params)

    def close(self) -> None:
        pass


def test_a_roll_back_in_the_last_moment_is_not_undone(gateway, bakery, train, predict):
    first = train(as_of=WEEK_AGO)
    train(as_of=yesterday() - timedelta(days=1))
    before = bakery.read_forecast()

    found = predict(
        gateway=Interrupting(gateway, lambda: bakery.activate_model("sales_forecast", first["model_version"]))
    )

    item = _run_of(gateway, found["report"])["items"][0]
    assert (found["report"]["status"], found["report"]["error"]["kind"]) == ("failed", "transient")
    assert bakery.read_forecast() == before
    assert item["state"] == "pending"  # the next attempt carries the version forward that is active then


def test_an_item_that_another_worker_takes_up_is_carried_forward_too(gateway, bakery, train):
    fitted = train(as_of=WEEK_AGO)
    run_id = runs.start_run(gateway, "predict", tenants=[BAKERY], reanchor=True)

    report = train(run_id=run_id)  # it knows of nothing but the run

    item = SystemStore(gateway).show_run(run_id)["items"][0]
    assert (report["status"], report["reanchored"]) == ("published", True)
    assert item["report"]["model_version"] == fitted["model_version"]


def test_a_worker_that_lost_its_lease_publishes_nothing(gateway, bakery, train, predict, database_url):
    train(as_of=WEEK_AGO)
    before = bakery.read_forecast()

    def steal() -> None:
        with psycopg.connect(database_url) as owner:
            owner.execute("update public.ml_run_item set fence = fence + 1 where state = 'running'")

    found = predict(gateway=Interrupting(gateway, steal))

    assert found["report"]["status"] == "lost"
    assert bakery.read_forecast() == before


def test_while_another_run_holds_the_tenant_the_item_waits_in_the_ledger(gateway, bakery, train, predict):
    train(as_of=WEEK_AGO)
    held = runs.start_run(gateway, "retrain", tenants=[BAKERY])
    assert isinstance(runs.claim_item(bakery, held, 600), runs.Claim)

    with pytest.raises(TenantBusy):
        predict()

    waiting = next(run for run in SystemStore(gateway).list_runs(5) if run["kind"] == "predict")
    assert waiting["counts"]["pending"] == 1


def test_a_tenant_without_sales_has_no_rows(gateway, environment):
    add_shop(gateway, "new", days=0)

    found = generate_predictions(shop_id("new"), gateway=gateway, settings=CHEAP, environment=environment)

    assert (found["report"]["status"], found["rows"]) == ("no_sales_yet", [])


@pytest.mark.parametrize("kind", ["", "sales", "SALES_FORECAST", "'; drop table ml_run; --", None, 7])
def test_an_unknown_type_is_refused_with_the_known_ones(gateway, bakery, kind):
    with pytest.raises(UnknownPredictionType, match="sales_forecast, sales_anomaly"):
        generate_predictions(BAKERY, kind, gateway=gateway)

    assert SystemStore(gateway).list_runs(1) == []


def test_a_tenant_outside_the_list_is_refused(gateway, bakery):
    with pytest.raises(ConfigError, match="ML_TENANT_IDS does not allow"):
        generate_predictions(BAKERY, gateway=gateway, settings=CHEAP.model_copy(update={"tenant_ids": "another"}))

    assert SystemStore(gateway).list_runs(1) == []


def test_the_snapshot_names_the_model_that_was_carried_forward(bakery, train, predict):
    fitted = train(as_of=WEEK_AGO)
    report = predict()["report"]

    row = cast("dict[str, Any]", bakery.read_snapshot(report["input_hash"]))
    restored = restore_snapshot(row["payload"])

    assert restored.model_version == fitted["model_version"]
    assert (restored.as_of, restored.series.end) == (date.fromisoformat(report["as_of"]), yesterday())


def test_a_missing_country_is_noted_with_a_fit_kept_on_demand_and_found_by_doctor(gateway, environment):
    """A shop of Bogota that nobody gave a country; it closes on Colombia's public holidays."""
    last, n_days = date(2026, 6, 28), 900  # no public holiday in its last week: the model is carried forward
    start = last - timedelta(days=n_days - 1)
    closed = Calendar("CO").holidays(start, n_days)
    rng = np.random.default_rng(3)
    days = [start + timedelta(days=int(n)) for n in np.flatnonzero(~closed)]
    rows = [sale(f"tienda-{day}", day, round(100 + 10 * day.weekday() + float(rng.normal(0, 5)), 2)) for day in days]
    store = TenantStore(gateway, shop_id("tienda"))
    store.import_sales({"name": "tienda", "time_zone": "UTC", "currency": "COP", "language": "es"}, rows)
    options: dict[str, Any] = {"gateway": gateway, "settings": CHEAP, "environment": environment}

    fitted = ml.train_and_predict_sales(shop_id("tienda"), as_of=last - timedelta(days=7), **options)
    carried = generate_predictions(shop_id("tienda"), **options)

    assert carried["reanchored"]
    for report in (fitted, carried["report"]):
        (noted,) = [note for note in report["notes"] if note["code"] == "country_missing"]
        assert noted["values"] == {"country": "CO"}
    assert fitted["country"] == ""  # suggested, not applied
    found = country_notes(gateway, TenantDirectory.read(gateway).tenants)
    assert list(found) == ["tienda"]
    assert "CO" in found["tienda"]
