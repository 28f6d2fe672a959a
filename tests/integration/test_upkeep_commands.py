"""`tenantcast health` and `tenantcast cleanup` on a real database."""

import json

import psycopg
import pytest

from app.cli import main
from tests.contract.test_maintenance_contract import many_notifications
from tests.servers.postgres import free_port


@pytest.fixture
def environment(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setattr("app.services.health.SLOW_DATABASE_SECONDS", 600.0)  # this machine may be busy


@pytest.mark.usefixtures("environment")
def test_health_is_json_for_a_monitor_and_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["status"] == "ok"
    assert {"database", "migrations", "row security", "redis", "queue"} <= {check["name"] for check in report["checks"]}

    assert main(["health"]) == 0
    assert "row security" in capsys.readouterr().out


@pytest.mark.usefixtures("environment")
def test_health_ends_with_1_and_the_next_step_when_redis_is_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")

    assert main(["health"]) == 1
    assert "Start Redis" in capsys.readouterr().out


@pytest.mark.usefixtures("environment")
def test_a_dry_run_tells_what_a_clean_up_would_do(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    many_notifications(database_url, 3, days=40)
    outcomes = []

    for arguments in (["cleanup", "--dry-run", "--json"], ["cleanup", "--json"], ["cleanup", "--json"]):
        assert main(arguments) == 0
        reports = {report["what"]: report for report in json.loads(capsys.readouterr().out)["clean_ups"]}
        outcomes.append((reports["notifications"]["due"], reports["notifications"]["deleted"]))

    assert outcomes == [(3, 0), (3, 3), (0, 0)]
    assert len(reports) == 7


@pytest.mark.usefixtures("environment")
def test_a_refused_clean_up_ends_with_1_and_says_why(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    many_notifications(database_url, 1_001, days=40)

    assert main(["cleanup"]) == 1

    assert "ML_FORCE_CLEAN_UP" in capsys.readouterr().out
    with psycopg.connect(database_url) as owner:
        assert owner.execute("select count(*) from notifications").fetchone() == (1_001,)
