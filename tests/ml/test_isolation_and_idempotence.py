"""Many tenants on one database: none changes another's forecast, and doing it again changes nothing."""

import pytest

from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import TenantStore
from app.services import ml
from app.services.ml.predict import generate_predictions
from app.services.retrain import retrain
from tests.integration.shops import CHEAP, add_shop, sale, shop_id, yesterday

NAMES = ("bakery", "bar", "books", "bikes")


@pytest.fixture
def settings(database_url: str, tmp_path) -> Settings:
    return Settings(database_url=database_url, tenantcast_home=tmp_path / "home")


@pytest.fixture
def shops(gateway: Gateway) -> dict[str, TenantStore]:
    return {name: add_shop(gateway, name, days=90, seed=n) for n, name in enumerate(NAMES)}


def _outputs(shops: dict[str, TenantStore]) -> dict[str, str]:
    return {name: store.read_forecast()["current"]["output_hash"] for name, store in shops.items()}


def test_a_tenants_forecast_is_the_same_alone_and_among_others(settings, gateway, shops):
    alone = ml.train_and_predict_sales(shop_id("bar"), gateway=gateway, settings=CHEAP, environment=settings)

    retrain(settings, CHEAP, force=True)

    assert _outputs(shops)["bar"] == alone["output_hash"]
    assert len(set(_outputs(shops).values())) == len(NAMES)


def test_sales_of_one_tenant_move_its_own_forecast_alone(settings, shops):
    retrain(settings, CHEAP)
    before = {name: store.read_forecast() for name, store in shops.items()}
    shops["bar"].import_sales({}, [sale("big", yesterday(), 9_999.0)])

    summary = retrain(settings, CHEAP)

    after = {name: store.read_forecast() for name, store in shops.items()}
    assert (summary["published"], summary["unchanged"]) == (1, len(NAMES) - 1)
    assert [name for name in NAMES if before[name] != after[name]] == ["bar"]


def test_a_sale_of_the_same_id_belongs_to_each_tenant_by_itself(settings, shops):
    for n, store in enumerate(shops.values()):
        store.import_sales({}, [sale("same id", yesterday(), 1_000.0 * (n + 1))])

    totals = [store.read_input(None, 365, 28)["sales"][-1] for store in shops.values()]

    assert [round((total - totals[0]) / 1_000) for total in totals] == [0, 1, 2, 3]


def test_a_tenants_broken_settings_calendar_and_model_are_its_own_affair(settings, shops):
    retrain(settings, CHEAP)
    before = {name: store.read_forecast() for name, store in shops.items() if name != "bar"}
    shops["bar"].write_settings({"cv_folds": "∞", "horizon_days": 7})
    shops["bar"].write_calendar([{"day": yesterday().isoformat(), "kind": "closure", "name": "flood"}])

    retrain(settings, CHEAP)

    assert {name: store.read_forecast() for name, store in shops.items() if name != "bar"} == before


def test_importing_and_forecasting_twice_gives_what_once_gives(settings, gateway, shops):
    retrain(settings, CHEAP)
    once = {name: store.read_forecast() for name, store in shops.items()}
    for n, name in enumerate(NAMES):
        add_shop(gateway, name, days=90, seed=n)

    summary = retrain(settings, CHEAP)

    assert summary["unchanged"] == len(NAMES)
    assert {name: store.read_forecast() for name, store in shops.items()} == once


def test_on_demand_for_one_tenant_touches_no_other(settings, gateway, shops):
    retrain(settings, CHEAP)
    before = {name: store.read_forecast() for name, store in shops.items()}
    shops["books"].import_sales({}, [sale("late", yesterday(), 400.0)])

    found = generate_predictions(shop_id("books"), gateway=gateway, settings=CHEAP, environment=settings)

    assert found["reanchored"]
    assert [name for name in NAMES if before[name] != shops[name].read_forecast()] == ["books"]
