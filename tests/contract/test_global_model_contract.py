"""The global model through both gateways: trained in one scope, read in it, invisible from every other."""

import pytest

from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import TenantStore
from app.services.global_training import train_now
from app.services.ml import global_model
from app.services.ml.artifact import load_keys
from app.services.ml.candidates.global_levels import GlobalModel
from app.services.ml.global_store import MODEL_TYPE, GlobalModelStore, forget_global_models
from app.tenancy import EVERYONE
from tests.integration.shops import CHEAP, add_shop, yesterday


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
