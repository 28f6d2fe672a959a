"""A publish that names the active model version again, over both gateways: nothing of the version changes."""

from datetime import timedelta

import pytest

from app.db.gateway import Gateway
from app.errors import DatabaseUnavailable
from tests.contract.ledger_factory import AS_OF, TENANT, claim, give_tenants, publish, published, result, start

REUSED = {"model_type": "sales_forecast", "model_version": "v1", "reused": True}


@pytest.fixture(autouse=True)
def _tenant(database_url: str) -> None:
    give_tenants(database_url, {TENANT: "shop"})


def _models(gateway: Gateway) -> object:
    return gateway.call("ml_list_models", {"p_tenant_id": TENANT})


def _current(gateway: Gateway) -> object:
    read = gateway.call("ml_read_forecast", {"p_tenant_id": TENANT})
    assert isinstance(read, dict)
    return read["current"]


def test_a_forecast_of_the_active_version_is_published_and_the_version_stays(gateway: Gateway) -> None:
    published(gateway, result())
    before = _models(gateway)
    run_id = start(gateway, TENANT, kind="predict")
    fence = claim(gateway, run_id)["fence"]
    newer = result(AS_OF + timedelta(days=7)) | {"model": REUSED}

    answer = publish(gateway, run_id, fence, newer)

    assert (answer["outcome"], answer["predictions"]) == ("published", 3)
    assert publish(gateway, run_id, fence, newer) == answer  # a repeat after a lost answer
    assert _models(gateway) == before
    assert _current(gateway) == {
        "input_hash": newer["input_hash"], "output_hash": newer["output_hash"], "as_of": newer["as_of"],
        "run_id": run_id, "model_version": "v1",
    }  # fmt: skip


@pytest.mark.parametrize("version", ["v1", "never stored"])
def test_a_version_that_is_not_the_active_one_is_refused_as_a_whole(gateway: Gateway, version: str) -> None:
    published(gateway, result())
    published(gateway, result(version="v2"))
    before = _current(gateway)
    run_id = start(gateway, TENANT, kind="predict")
    fence = claim(gateway, run_id)["fence"]

    with pytest.raises(DatabaseUnavailable):
        publish(
            gateway, run_id, fence, result(AS_OF + timedelta(days=7)) | {"model": REUSED | {"model_version": version}}
        )

    assert _current(gateway) == before
    forecast = gateway.call("ml_read_forecast", {"p_tenant_id": TENANT})
    assert isinstance(forecast, dict)
    assert {row["model_version"] for row in forecast["predictions"]} == {"v2"}  # type: ignore[index,call-overload,union-attr]
