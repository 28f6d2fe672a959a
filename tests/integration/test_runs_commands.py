"""`runs watch`, `retry` and `cancel` on a real ledger, with nobody at work but the test itself."""

import json
from uuid import UUID

import psycopg
import pytest

from app.cli import main
from app.db.gateway import Gateway
from app.db.store import SystemStore, TenantStore
from app.errors import DataError
from app.services import runs
from tests.integration.shops import add_shop


@pytest.fixture(autouse=True)
def _environment(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)


@pytest.fixture
def shops(gateway: Gateway) -> list[TenantStore]:
    return [add_shop(gateway, f"shop {n}", days=3) for n in range(3)]


@pytest.fixture
def run_id(gateway: Gateway, shops: list[TenantStore]) -> UUID:
    """A run over the three shops, all of them pending."""
    return runs.start_run(gateway, "retrain", tenants=[shop.tenant_id for shop in shops])


def _end(store: TenantStore, run_id: UUID, error: DataError | None = None) -> None:
    claim = runs.claim_item(store, run_id, 60)
    assert isinstance(claim, runs.Claim)
    item = runs.Item(store, run_id, claim, 60)
    if error is None:
        item.finish("done", "unchanged", {"status": "unchanged"}, None)
    else:
        item.fail(error, again=False)


def _states(gateway: Gateway, run_id: UUID) -> list[str]:
    return sorted(item["state"] for item in SystemStore(gateway).show_run(run_id)["items"])


def test_show_names_what_a_lost_worker_was_computing(database_url, gateway, shops, run_id, monkeypatch, capsys):
    claim = runs.claim_item(shops[0], run_id, 60)
    assert isinstance(claim, runs.Claim)
    shops[0].heartbeat_item(run_id, claim.fence, 60, "compute", "prophet", 400)
    with psycopg.connect(database_url) as connection:
        connection.execute("update ml_run_item set lease_until = now() - interval '1 s' where state = 'running'")
    SystemStore(gateway).finish_run(run_id)
    monkeypatch.setenv("COLUMNS", "200")

    assert main(["runs", "show", str(run_id)]) == 0

    shown = capsys.readouterr().out
    assert shown.count("Lost while computing prophet (400 s).") == 1


def test_watch_ends_with_a_run_that_went_well(gateway, shops, run_id, capsys):
    for shop in shops:
        _end(shop, run_id)

    code = main(["runs", "watch", "--json"])

    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0
    assert (last["run_id"], last["done"], last["finished"], last["failures"]) == (str(run_id), 3, True, [])


def test_watch_ends_with_1_and_names_what_failed(gateway, shops, run_id, capsys):
    _end(shops[0], run_id)
    _end(shops[1], run_id, DataError("The till was on fire.", next_step="Put it out."))
    _end(shops[2], run_id)

    as_json = main(["runs", "watch", str(run_id), "--json"])
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    as_text = main(["runs", "watch", str(run_id)])
    text = capsys.readouterr().out

    assert (as_json, as_text) == (1, 1)
    assert [failure["tenant_id"] for failure in document["failures"]] == [str(shops[1].tenant_id)]
    assert document["failures"][0]["error"]["message"] == "The till was on fire."
    assert "3 tenants: 2 done, 1 failed" in text
    assert "The till was on fire." in text
    assert f"tenantcast runs retry {run_id}" in text


def test_watch_of_a_run_that_is_not_there(shops, capsys):
    code = main(["runs", "watch", "5e1c0000-0000-4000-8000-000000000001", "--json"])

    assert code == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "unknown_run"


def test_retry_takes_up_what_failed_and_rings_for_it(gateway, shops, run_id, redis_server, capsys):
    _end(shops[0], run_id)
    for shop in shops[1:]:
        _end(shop, run_id, DataError("No."))
    redis_server.flush()

    code = main(["runs", "retry", str(run_id), "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out)["retried"] == 2
    assert _states(gateway, run_id) == ["done", "pending", "pending"]
    with redis_server.client() as client:
        assert client.llen("tenantcast:ml_processing") == 2


def test_retry_of_one_tenant_leaves_the_others(gateway, shops, run_id, capsys):
    for shop in shops:
        _end(shop, run_id, DataError("No."))

    main(["runs", "retry", str(run_id), "--tenant", "shop 1", "--json"])

    assert json.loads(capsys.readouterr().out)["retried"] == 1
    assert _states(gateway, run_id) == ["failed", "failed", "pending"]


def test_retry_with_redis_away_is_no_error_because_the_reconciler_rings(gateway, shops, run_id, capsys, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    _end(shops[0], run_id, DataError("No."))

    code = main(["runs", "retry", str(run_id), "--json"])

    assert code == 0
    assert _states(gateway, run_id) == ["pending", "pending", "pending"]


def test_cancel_skips_what_is_open_and_keeps_what_is_done(gateway, shops, run_id, capsys):
    _end(shops[0], run_id)

    code = main(["runs", "cancel", str(run_id), "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out)["cancelled"] == 2
    assert _states(gateway, run_id) == ["done", "skipped", "skipped"]


def test_nothing_to_retry_is_said(gateway, shops, run_id, capsys):
    code = main(["runs", "retry", str(run_id)])

    assert code == 0
    assert "Nothing of it has failed" in capsys.readouterr().out
