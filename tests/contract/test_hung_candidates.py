"""What a worker was computing when it was lost is known to the next attempt, and to nobody later than that."""

from typing import Any
from uuid import UUID

import pytest

from app.db.gateway import Gateway
from app.db.store import TenantStore
from app.tenancy import TenantId
from tests.contract.ledger_factory import TENANT, claim, fail, let_leases_run_out, rows, start, wait_is_over

LEASE_SECONDS = 60


@pytest.fixture
def store(gateway: Gateway) -> TenantStore:
    return TenantStore(gateway, TenantId(TENANT))


def beat(store: TenantStore, run_id: str, fence: int, *computing: Any) -> bool:
    return bool(store.heartbeat_item(UUID(run_id), fence, LEASE_SECONDS, "compute", *computing)["alive"])


def lose(url: str, store: TenantStore, run_id: str, *computing: Any) -> dict[str, Any]:
    """Claim, say what is computed, be lost; gives the next claim's answer."""
    beat(store, run_id, claim(store.gateway, run_id)["fence"], *computing)
    let_leases_run_out(url)
    return claim(store.gateway, run_id)


def test_the_next_claim_says_what_was_computed_when_the_worker_was_lost(
    gateway: Gateway, store: TenantStore, database_url: str
) -> None:
    run_id = start(gateway, TENANT)
    first = claim(gateway, run_id)

    alive = beat(store, run_id, first["fence"], "sarimax", 301)
    let_leases_run_out(database_url)
    second = claim(gateway, run_id)

    assert (first["lost_in"], alive) == ([], True)
    assert second["lost_in"] == [{"candidate": "sarimax", "seconds": 301}]
    assert rows(database_url, "select computing from ml_run_item") == [(None,)]


def test_a_worker_that_was_done_with_a_candidate_blames_none(
    gateway: Gateway, store: TenantStore, database_url: str
) -> None:
    run_id = start(gateway, TENANT)
    fence = claim(gateway, run_id)["fence"]
    beat(store, run_id, fence, "sarimax", 301)

    beat(store, run_id, fence)
    let_leases_run_out(database_url)

    assert claim(gateway, run_id)["lost_in"] == []


def test_a_note_of_an_attempt_that_ended_is_not_put_on_the_next_one(
    gateway: Gateway, store: TenantStore, database_url: str
) -> None:
    run_id = start(gateway, TENANT)
    fence = claim(gateway, run_id)["fence"]
    beat(store, run_id, fence, "sarimax", 500)
    fail(gateway, run_id, fence, 1)  # the database was away for a moment; the item waits for its next attempt
    wait_is_over(database_url)

    claim(gateway, run_id)  # and dies before its first beat
    let_leases_run_out(database_url)
    answer = claim(gateway, run_id)

    assert answer["lost_in"] == []


def test_whoever_has_lost_the_item_notes_nothing(gateway: Gateway, store: TenantStore, database_url: str) -> None:
    run_id = start(gateway, TENANT)
    zombie = claim(gateway, run_id)["fence"]
    let_leases_run_out(database_url)
    claim(gateway, run_id)

    alive = beat(store, run_id, zombie, "sarimax", 9999)

    assert alive is False
    assert rows(database_url, "select computing from ml_run_item") == [(None,)]


def test_what_is_known_stays_over_a_failure_that_may_pass_and_goes_with_a_retry_by_hand(
    gateway: Gateway, store: TenantStore, database_url: str
) -> None:
    run_id = start(gateway, TENANT)
    second = lose(database_url, store, run_id, "prophet", 400)
    fail(gateway, run_id, second["fence"], None)
    kept = rows(database_url, "select lost_in from ml_run_item")

    gateway.call("ml_retry_items", {"p_run_id": run_id, "p_tenant_ids": None})
    by_hand = claim(gateway, run_id)

    assert kept == [([{"candidate": "prophet", "seconds": 400}],)]
    assert (by_hand["attempt"], by_hand["lost_in"]) == (1, [])


def test_a_parked_item_names_what_its_workers_were_lost_in(
    gateway: Gateway, store: TenantStore, database_url: str
) -> None:
    run_id = start(gateway, TENANT)
    second = lose(database_url, store, run_id, "prophet", 400)
    beat(store, run_id, second["fence"], "x" * 200, -1)
    let_leases_run_out(database_url)

    third = claim(gateway, run_id)

    error = rows(database_url, "select error ->> 'code', error -> 'lost_in' from ml_run_item")
    assert third == {"outcome": "finished", "state": "failed"}
    assert error == [("worker_lost", [{"candidate": "prophet", "seconds": 400}, {"candidate": "x" * 60, "seconds": 0}])]


def test_a_worker_of_the_release_before_beats_as_it_always_did(
    gateway: Gateway, store: TenantStore, database_url: str
) -> None:
    run_id = start(gateway, TENANT)
    fence = claim(gateway, run_id)["fence"]
    beat(store, run_id, fence, "sarimax", 301)
    call = {"p_tenant_id": TENANT, "p_run_id": run_id, "p_fence": fence, "p_lease_seconds": 60, "p_stage": "publish"}

    answer = gateway.call("ml_heartbeat_item", call)

    assert answer == {"alive": True}
    assert rows(database_url, "select stage, computing from ml_run_item") == [("publish", None)]
