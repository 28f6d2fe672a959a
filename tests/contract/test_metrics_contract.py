"""The ledger in numbers, through both gateways."""

from typing import Any
from uuid import UUID

import psycopg
import pytest

from app.config.settings import Settings
from app.db.gateway import Gateway
from app.services.health import health_check
from tests.contract.ledger_factory import (
    STRANGER,
    TENANT,
    claim,
    fail,
    give_tenants,
    let_leases_run_out,
    published,
    result,
    start,
)

THIRD, FOURTH = UUID(int=3), UUID(int=4)


def metrics(gateway: Gateway, top: int = 10) -> dict[str, Any]:
    answer = gateway.call("ml_metrics", {"p_top": top})
    assert isinstance(answer, dict)
    return answer


def make_older(url: str, seconds: int) -> None:
    """Everything in the ledger happened so much earlier."""
    with psycopg.connect(url) as owner:
        for column in ("not_before", "created_at", "finished_at", "started_at"):
            owner.execute(f"update ml_run_item set {column} = {column} - make_interval(secs => %s)", (seconds,))


def test_an_empty_ledger_has_numbers_too(gateway: Gateway) -> None:
    found = metrics(gateway)

    numbers = {key: value for key, value in found.items() if key not in {"at", "freshness_seconds", "stalest"}}
    assert set(numbers) == {
        "open_runs", "pending", "running", "oldest_due_seconds", "oldest_pending_seconds", "expired_leases",
        "longest_expired_seconds", "lost_leases_last_day", "re_rings_last_day", "failed_items_last_day", "tenants",
        "tenants_without_forecast", "failed_tenants", "parked_tenants",
    }  # fmt: skip
    assert set(numbers.values()) == {0}
    assert found["freshness_seconds"] == {"p50": None, "p90": None, "p99": None, "max": None}
    assert found["stalest"] == []


def test_the_queue_is_counted_and_its_age_begins_when_an_item_could_be_taken(
    gateway: Gateway, database_url: str
) -> None:
    run = start(gateway, TENANT, STRANGER, THIRD)
    claim(gateway, run, TENANT)
    make_older(database_url, 100)
    with psycopg.connect(database_url) as owner:  # spread over the night: not due for an hour
        owner.execute("update ml_run_item set not_before = now() + interval '1 hour' where tenant_id = %s", (THIRD,))

    found = metrics(gateway)

    assert (found["open_runs"], found["pending"], found["running"]) == (1, 2, 1)
    assert 100 <= found["oldest_due_seconds"] <= 400
    assert 100 <= found["oldest_pending_seconds"] <= 400
    assert found["expired_leases"] == 0
    with psycopg.connect(database_url) as owner:
        owner.execute("update ml_run_item set state = 'skipped', finished_at = now() where tenant_id = %s", (STRANGER,))
    assert metrics(gateway)["oldest_due_seconds"] == 0  # what is not due yet is not late
    assert metrics(gateway)["oldest_pending_seconds"] >= 100


def test_a_lease_that_ran_out_is_seen_until_it_is_taken_back_and_two_park_the_tenant(
    gateway: Gateway, database_url: str
) -> None:
    give_tenants(database_url, {TENANT: "A", STRANGER: "B"})
    run = start(gateway, TENANT)
    for lost in (1, 2):
        claim(gateway, run)
        let_leases_run_out(database_url)
        assert metrics(gateway)["expired_leases"] == 1
        gateway.call("ml_finish_run", {"p_run_id": run})
        found = metrics(gateway)
        assert (found["expired_leases"], found["lost_leases_last_day"]) == (0, lost)

    assert (found["parked_tenants"], found["failed_tenants"], found["failed_items_last_day"]) == (1, 1, 1)
    published(gateway, result())  # a later success
    assert metrics(gateway)["parked_tenants"] == 0


def test_an_error_that_will_not_pass_is_failed_and_not_parked(gateway: Gateway, database_url: str) -> None:
    give_tenants(database_url, {TENANT: "A"})
    run = start(gateway, TENANT)
    fail(gateway, run, claim(gateway, run)["fence"], retry=None)

    found = metrics(gateway)

    assert (found["failed_tenants"], found["parked_tenants"]) == (1, 0)
    make_older(database_url, 2 * 86_400)
    assert metrics(gateway)["failed_items_last_day"] == 0
    assert metrics(gateway)["failed_tenants"] == 1


def test_messages_beyond_the_attempts_are_re_rings(gateway: Gateway, database_url: str) -> None:
    start(gateway, TENANT, STRANGER)
    with psycopg.connect(database_url) as owner:
        owner.execute("update ml_run_item set rings = 4, attempt = 2 where tenant_id = %s", (TENANT,))
        owner.execute("update ml_run_item set rings = 1 where tenant_id = %s", (STRANGER,))

    assert metrics(gateway)["re_rings_last_day"] == 2


def test_how_fresh_forecasts_are_counts_active_tenants_alone(gateway: Gateway, database_url: str) -> None:
    give_tenants(database_url, {TENANT: "A", STRANGER: "B", THIRD: "C", FOURTH: "D"}, inactive=[FOURTH])
    published(gateway, result(), FOURTH)
    published(gateway, result(), TENANT)
    make_older(database_url, 3_000)
    published(gateway, result(), STRANGER)
    make_older(database_url, 1_000)

    found, one = metrics(gateway), metrics(gateway, top=1)

    assert (found["tenants"], found["tenants_without_forecast"]) == (3, 1)
    assert [tenant["tenant_id"] for tenant in found["stalest"]] == [str(TENANT), str(STRANGER)]
    assert [tenant["tenant_id"] for tenant in one["stalest"]] == [str(TENANT)]
    oldest, newest = (tenant["seconds"] for tenant in found["stalest"])
    assert 4_000 <= oldest <= 4_300
    assert 1_000 <= newest <= 1_300
    assert found["freshness_seconds"]["max"] == pytest.approx(oldest, abs=60)
    assert found["freshness_seconds"]["p50"] == pytest.approx((oldest + newest) / 2, abs=60)


def test_a_new_installation_is_healthy(gateway: Gateway, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.health.SLOW_DATABASE_SECONDS", 600.0)  # this machine may be busy

    report = health_check(gateway, Settings(redis_url=redis_url))

    assert [(check["name"], check["detail"]) for check in report["checks"] if check["status"] != "ok"] == []
    assert report["metrics"] is not None


def test_a_gap_in_row_security_is_not(gateway: Gateway, database_url: str, redis_url: str) -> None:
    with psycopg.connect(database_url) as owner:
        owner.execute("alter table ml_models no force row level security")

    report = health_check(gateway, Settings(redis_url=redis_url))

    assert report["status"] == "fail"
    assert [check["name"] for check in report["checks"] if check["status"] == "fail"] == ["row security"]
