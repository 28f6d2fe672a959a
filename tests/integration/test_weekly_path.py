"""The weekly run on a real database: it carries the model forward for four weeks, and fits when it has to."""

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
import pytest

from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import TenantStore
from app.services import ml
from app.services.ml.artifact import load_keys
from app.services.ml.fitted_model import FittedModel
from app.services.ml.hashing import output_hash, restore_snapshot
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.model_version_manager import ModelVersionManager
from app.services.ml.predict import generate_predictions
from app.services.ml.reanchoring import comparison_phase
from app.services.retrain import retrain
from tests.integration.shops import CHEAP, add_shop, sale, shop_id, yesterday

SETTINGS = CHEAP.model_copy(update={"horizon_days": 28, "cv_folds": 3})


def _shop_whose_turn_was(days_ago: int) -> str:
    """A name by which a shop's comparisons of all candidates come so many days ago, and four weeks before and after."""
    phase = -(yesterday() - timedelta(days=days_ago)).toordinal() % SETTINGS.rescore_days
    names = (f"bakery {n}" for n in count())
    return next(name for name in names if comparison_phase(shop_id(name), SETTINGS.rescore_days) == phase)


SHOP = _shop_whose_turn_was(21)


@pytest.fixture
def bakery(gateway: Gateway) -> TenantStore:
    return add_shop(gateway, SHOP, days=400)


@pytest.fixture
def train(gateway: Gateway, environment: Settings, bakery: TenantStore) -> Callable[..., Any]:
    """The shop's run as of so many days ago."""

    def call(days_ago: int = 0, **options: Any) -> Any:
        given: dict[str, Any] = {"gateway": gateway, "settings": SETTINGS, "environment": environment} | options
        as_of = yesterday() - timedelta(days=days_ago) if days_ago else None
        return ml.train_and_predict_sales(shop_id(SHOP), as_of=as_of, **given)

    return call


def _version(store: TenantStore) -> list[str]:
    return [str(row["model_version"]) for row in store.list_models()]


def _compared(report: Any) -> bool:
    """Were all candidates compared on the newest days?"""
    return {row["scored_through"] for row in report["scores"]} == {report["as_of"]}


def test_a_comparison_lives_four_weeks_and_every_week_has_its_own_model(bakery, train):
    reports = [train(days_ago) for days_ago in (49, 42, 35, 28, 21)]

    assert [report["status"] for report in reports] == ["published"] * 5
    assert [_compared(report) for report in reports] == [True, False, False, False, True]
    assert reports[4]["refit_reason"] == "The candidates were compared 28 days ago: it is this tenant's turn."
    assert len({report["output_hash"] for report in reports}) == 5
    assert len(set(_version(bakery))) == 5
    days = [row["prediction_date"] for row in bakery.read_forecast()["predictions"]]
    assert max(days) == (yesterday() + timedelta(days=7)).isoformat()


def test_the_second_comparison_comes_in_the_tenants_own_week(train):
    reports = [train(days_ago) for days_ago in (35, 28, 21, 14)]

    assert [_compared(report) for report in reports] == [True, False, True, False]
    assert reports[2]["refit_reason"] == "The candidates were compared 14 days ago: it is this tenant's turn."


def test_a_week_does_not_depend_on_the_weeks_between(bakery, train):
    compared = train(21)
    train(14)
    step_by_step = train()
    bakery.activate_model("sales_forecast", compared["model_version"])

    at_once = train(force=True)

    assert not _compared(step_by_step)
    assert (at_once["input_hash"], at_once["output_hash"]) == (step_by_step["input_hash"], step_by_step["output_hash"])


def test_the_same_days_again_are_unchanged_and_forced_give_the_same_output(train):
    train(7)
    carried = train()

    again, forced = train(), [train(force=True), train(force=True)]

    assert again["status"] == "unchanged"
    assert (again["input_hash"], again["output_hash"]) == (carried["input_hash"], carried["output_hash"])
    assert {report["output_hash"] for report in forced} == {carried["output_hash"]}
    assert {report["input_hash"] for report in forced} == {carried["input_hash"]}


def test_scores_and_weights_are_those_of_the_newest_days_and_the_others_keep_their_date(train):
    train(7)

    scores = {row["name"]: row for row in train()["scores"]}

    through = {row["scored_through"] for row in scores.values() if row["weight"] > 0}
    assert through == {yesterday().isoformat()}
    assert scores["naive"]["scored_through"] == (yesterday() - timedelta(days=7)).isoformat()


def test_the_snapshot_and_the_model_replay_the_forecast(environment, bakery, train):
    train(7)
    report = train()

    row = bakery.read_snapshot(report["input_hash"])
    assert row is not None
    restored = restore_snapshot(row["payload"])
    active = ModelVersionManager(bakery, load_keys(environment)).load_active_model()
    assert active is not None
    model = FittedModel.from_state(active.state)
    replayed = BusinessMLEngine(restored.settings).refresh(model, restored.series, restored.calendar)

    assert restored.scored == model.scored_hash
    assert output_hash(replayed) == report["output_hash"]


@pytest.mark.parametrize("days", [1, 7])
def test_a_shorter_life_of_a_model_can_be_chosen(train, days):
    train(7)

    report = train(settings=SETTINGS.model_copy(update={"rescore_days": days}))

    assert report["status"] == "published"
    assert _compared(report)


def test_sales_that_no_longer_follow_the_forecast_make_a_fit(bakery, train):
    train(14)
    bakery.import_sales({}, [sale(f"more-{n}", yesterday() - timedelta(days=n), 400.0) for n in range(10)])

    report = train()

    assert _compared(report)
    assert "clearly larger than before" in report["refit_reason"]


def test_a_history_that_was_imported_anew_makes_a_fit(bakery, train):
    train(7)
    days = [yesterday() - timedelta(days=n) for n in range(400, 700)]
    bakery.import_sales({}, [sale(f"old-{day}", day, 120.0) for day in days])

    report = train()

    assert report["refit_reason"] == "The history reaches further back than when the candidates were compared."


def test_a_model_that_cannot_be_read_is_fitted_anew(database_url, bakery, train):
    train(7)
    with psycopg.connect(database_url) as owner:
        owner.execute("update public.ml_models set model_data = 'A' || substr(model_data, 2)")

    report = train()

    assert report["status"] == "published"
    assert _compared(report)


def test_on_demand_after_a_weekly_run_gives_its_forecast_again(gateway, environment, bakery, train):
    train(7)
    weekly = train()

    found = generate_predictions(shop_id(SHOP), gateway=gateway, settings=SETTINGS, environment=environment, force=True)

    assert found["reanchored"]
    assert found["report"]["output_hash"] == weekly["output_hash"]
    assert len(_version(bakery)) == 2


def test_a_whole_run_of_carried_models_gives_what_each_shop_alone_gives(gateway, environment, bakery, train):
    train(7)
    alone = train()

    retrain(environment, SETTINGS, force=True)

    assert bakery.read_forecast()["current"]["output_hash"] == alone["output_hash"]
    assert UUID(str(bakery.read_forecast()["current"]["run_id"])) != UUID(alone["run_id"])
