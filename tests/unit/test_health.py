"""What the ledger's numbers mean for an operator, and a health check that answers whatever is broken."""

import json
from typing import Any

import pytest

from app.config.settings import Settings
from app.db.migrate import status_of
from app.errors import DatabaseUnavailable
from app.services.doctor.database import WORKER_ROLES
from app.services.health import health_check, queue_checks
from tests.servers.postgres import free_port
from tests.unit.test_metrics_export import LEDGER

WELL: dict[str, Any] = LEDGER | dict.fromkeys(
    ("oldest_due_seconds", "oldest_pending_seconds", "expired_leases", "longest_expired_seconds", "failed_tenants",
     "parked_tenants"), 0,
)  # fmt: skip
SHIPPED = [label.partition("_")[0] for label in status_of(frozenset()).pending]
ROLES = {name: {"superuser": False, "bypass_row_security": False, "can_log_in": False} for name in WORKER_ROLES}


class Installed:
    """A gateway to an installation in which all is well, except what a test says."""

    name = "fake"

    def __init__(self, **answers: Any) -> None:
        health = {
            "version": "17.1", "lint": [], "roles": ROLES,
            "migrations": [{"version": version, "name": "x"} for version in SHIPPED],
        }  # fmt: skip
        self.answers = {"ml_health": health, "ml_metrics": WELL} | answers

    def call(self, function: str, _params: object) -> Any:
        answer = self.answers[function]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """Nothing is open."""


def statuses(metrics: dict[str, Any]) -> dict[str, str]:
    return {check.name: check.status for check in queue_checks(WELL | metrics)}


@pytest.mark.parametrize(
    ("numbers", "name", "status"),
    [
        ({"oldest_due_seconds": 899}, "queue", "ok"),
        ({"oldest_due_seconds": 901}, "queue", "warn"),
        ({"oldest_due_seconds": 7_201}, "queue", "fail"),
        ({"oldest_pending_seconds": 80_000}, "queue", "ok"),  # a run that is spread over a night
        ({"expired_leases": 1, "longest_expired_seconds": 200}, "leases", "ok"),
        ({"expired_leases": 1, "longest_expired_seconds": 301}, "leases", "fail"),
        ({"failed_tenants": 1}, "tenants", "warn"),
        ({"freshness_seconds": {"max": 8 * 86_400}}, "freshness", "ok"),
        ({"freshness_seconds": {"max": 10 * 86_400}}, "freshness", "warn"),
        ({"freshness_seconds": {"max": None}}, "freshness", "ok"),
    ],
)
def test_numbers_become_judgements(numbers: dict[str, Any], name: str, status: str) -> None:
    expected = dict.fromkeys(("queue", "leases", "tenants", "freshness"), "ok") | {name: status}

    assert statuses(numbers) == expected


def test_every_trouble_comes_with_a_next_step() -> None:
    bad = {
        "oldest_due_seconds": 10**6, "longest_expired_seconds": 10**6, "failed_tenants": 3, "parked_tenants": 1,
        "freshness_seconds": {"max": 10**7},
    }  # fmt: skip

    assert all(check.next_step for check in queue_checks(WELL | bad))


def test_a_healthy_installation_is_ok_in_json(redis_url: str) -> None:
    report = health_check(Installed(), Settings(redis_url=redis_url))

    assert report["status"] == "ok"
    assert [check["name"] for check in report["checks"]] == [
        "database", "migrations", "roles", "row security", "queue", "leases", "tenants", "freshness", "redis",
    ]  # fmt: skip
    json.dumps(report, allow_nan=False)


def test_without_a_database_the_rest_is_still_looked_at(redis_url: str) -> None:
    away = DatabaseUnavailable("The database did not answer.", next_step="Start it.")

    report = health_check(Installed(ml_health=away), Settings(redis_url=redis_url))

    assert (report["status"], report["metrics"]) == ("fail", None)
    assert [(check["name"], check["status"]) for check in report["checks"]] == [("database", "fail"), ("redis", "ok")]


def test_a_redis_that_is_away_fails_and_no_password_is_told() -> None:
    report = health_check(Installed(), Settings(redis_url=f"redis://:hunter22@127.0.0.1:{free_port()}/0"))

    assert report["status"] == "fail"
    assert "hunter22" not in json.dumps(report)


def test_a_cache_of_its_own_that_is_away_is_a_warning(redis_url: str) -> None:
    settings = Settings(redis_url=redis_url, cache_redis_url=f"redis://127.0.0.1:{free_port()}/0")

    report = health_check(Installed(), settings)

    assert report["status"] == "warn"
    assert report["checks"][-1]["name"] == "cache"


def test_a_pending_migration_and_a_row_security_gap_fail(redis_url: str) -> None:
    health = Installed().answers["ml_health"]
    behind = Installed(ml_health=health | {"migrations": health["migrations"][:-1]})
    open_table = Installed(ml_health=health | {"lint": [{"problem": "no policy", "object": "ml_x"}]})

    for installed, name in ((behind, "migrations"), (open_table, "row security")):
        report = health_check(installed, Settings(redis_url=redis_url))

        assert report["status"] == "fail"
        assert [check["name"] for check in report["checks"] if check["status"] == "fail"] == [name]
