"""The global model through both gateways: trained in one scope, read in it, invisible from every other."""

import psycopg
import pytest

from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import SystemStore, TenantStore
from app.errors import QueryRefused
from app.services.global_training import train_now
from app.services.ml import global_model
from app.services.ml.artifact import load_keys
from app.services.ml.candidates.global_levels import GlobalModel
from app.services.ml.global_store import MODEL_TYPE, GlobalModelStore, forget_global_models
from app.tenancy import EVERYONE
from tests.integration.shops import CHEAP, add_shop, shop_id, yesterday


def test_it_is_trained_stored_and_read_back_alike(gateway: Gateway, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(global_model, "N_TREES", 4)
    shops = [add_shop(gateway, name, days=70, seed=seed) for seed, name in enumerate("abcde")]
    keys = load_keys(Settings(tenantcast_home=tmp_path / "home"))

    training = train_now(gateway, Settings(), CHEAP.model_copy(update={"global_model": True}), keys)

    assert (training["status"], training["tenants"]) == ("published", 5)
    forget_global_models()
    found = GlobalModelStore(gateway, keys).find(yesterday(), 35)
    assert isinstance(found, GlobalModel)
    assert found.version == training["model_version"]
    assert shops[0].read_model(MODEL_TYPE) is None
    assert TenantStore(gateway, EVERYONE).read_input(None, 14, 28)["tenant"] is None


def test_what_many_tenants_set_for_themselves_is_read_at_once_and_of_no_other(gateway: Gateway) -> None:
    tenants = [shop_id(name) for name in "abcde"]
    settings = {tenants[n]: {"global_model": n > 2, "note": "é"} for n in (0, 3, 4)}
    for tenant_id, own in settings.items():
        TenantStore(gateway, tenant_id).write_settings(own)

    system = SystemStore(gateway)
    found = system.read_settings(tenants[:4], page=2)
    reads = [system.read_settings(asked) for asked in (tenants[1:2], [], [*tenants, *tenants])]

    assert found == {str(tenants[n]): settings[tenants[n]] for n in (0, 3)}
    assert reads == [{}, {}, {str(tenant_id): own for tenant_id, own in settings.items()}]


@pytest.mark.parametrize("asked", [None, {}, [None], ["nobody"], [str(EVERYONE)] * 1001])
def test_settings_are_read_of_a_list_of_tenants_alone(gateway: Gateway, asked: object) -> None:
    with pytest.raises(QueryRefused):
        gateway.call("ml_read_settings", {"p_tenant_ids": asked})


def test_having_read_settings_leaves_no_tenant_in_scope(gateway: Gateway, database_url: str) -> None:
    TenantStore(gateway, shop_id("a")).write_settings({"global_model": True})

    with psycopg.connect(database_url) as connection:
        connection.execute("select ml_read_settings(%s)", (f'["{shop_id("a")}"]',))
        scope = connection.execute("select current_setting('app.tenant_id', true)").fetchone()

    assert scope == ("",)
