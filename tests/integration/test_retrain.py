import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.postgres import PostgresGateway
from app.db.store import SystemStore, TenantStore
from app.errors import ConfigError, DatabaseUnavailable, TenantcastError
from app.services import runs
from app.services.drain import Event
from app.services.retrain import retrain
from app.services.team import Team
from tests.integration.shops import CHEAP, add_shop, shop_id

CHECKOUT = Path(__file__).parents[2]
SHOPS = 6
PATIENCE_SECONDS = 90


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=database_url, tenantcast_home=tmp_path / "home", ml_lease_seconds=2)


@pytest.fixture
def shops(gateway: Gateway) -> list[TenantStore]:
    return [add_shop(gateway, f"shop {n}", days=40 + 10 * n, seed=n) for n in range(SHOPS)]


def _hashes(stores: list[TenantStore]) -> dict[str, str | None]:
    found = {str(store.tenant_id): store.read_forecast()["current"] for store in stores}
    return {tenant: current["output_hash"] if current else None for tenant, current in found.items()}


def _states(gateway: Gateway) -> list[str]:
    return sorted(item["state"] for item in SystemStore(gateway).show_run(None)["items"])


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_shop_is_forecast_and_the_run_ends(gateway, settings, shops, jobs):
    add_shop(gateway, "no sales", days=0)
    told: list[tuple[int, int, str]] = []

    summary = retrain(settings, CHEAP, jobs=jobs, progress=lambda *line: told.append(line))

    run = SystemStore(gateway).list_runs(1)[0]
    assert (summary["total"], summary["published"], summary["no_sales_yet"], summary["failed"]) == (7, 6, 1, 0)
    assert run["run_id"] == summary["run_id"]
    assert run["finished_at"] is not None
    assert told[0][:2] == (0, 7)
    assert told[-1][:2] == (7, 7)
    assert all(outcome["total_7"] for outcome in summary["tenants"] if outcome["status"] == "published")


def test_the_second_retrain_has_nothing_to_do(settings, shops):
    retrain(settings, CHEAP)
    before = _hashes(shops)

    summary = retrain(settings, CHEAP, jobs=2)

    assert (summary["unchanged"], summary["published"]) == (SHOPS, 0)
    assert _hashes(shops) == before
    assert all(len(store.list_models()) == 1 for store in shops)


def test_forced_one_process_and_two_give_the_same_output(settings, shops):
    retrain(settings, CHEAP, jobs=1)
    alone = _hashes(shops)

    summary = retrain(settings, CHEAP, jobs=2, force=True)

    assert summary["published"] == SHOPS
    assert _hashes(shops) == alone
    assert None not in alone.values()


def test_only_the_given_tenants_are_forecast(settings, shops):
    summary = retrain(settings, CHEAP, tenants=[shops[0].tenant_id])

    assert [outcome["tenant_id"] for outcome in summary["tenants"]] == [str(shops[0].tenant_id)]
    assert [value is not None for value in _hashes(shops).values()] == [True] + [False] * (SHOPS - 1)


def test_only_allowed_tenants_are_forecast(settings, shops):
    allowed = CHEAP.model_copy(update={"tenant_ids": f"{shops[0].tenant_id},{shops[2].tenant_id}"})

    summary = retrain(settings, allowed)

    assert {o["tenant_id"] for o in summary["tenants"]} == {str(shops[n].tenant_id) for n in (0, 2)}
    with pytest.raises(ConfigError, match="ML_TENANT_IDS does not allow"):
        retrain(settings, allowed, tenants=[shops[1].tenant_id])


def test_a_failing_tenant_stops_no_other(settings, shops):
    stranger = shop_id("nobody")

    summary = retrain(settings, CHEAP, tenants=[*(store.tenant_id for store in shops), stranger], jobs=2)

    failed = [outcome for outcome in summary["tenants"] if outcome["status"] == "failed"]
    assert (summary["published"], summary["failed"]) == (SHOPS, 1)
    assert failed[0]["tenant_id"] == str(stranger)
    assert "no tenant" in failed[0]["reason"]
    assert failed[0]["next_step"]


def test_without_any_tenant_the_run_is_over_at_once(settings):
    summary = retrain(settings, CHEAP, jobs=2)

    assert (summary["total"], summary["tenants"]) == (0, [])


def test_an_unknown_candidate_is_refused_before_anything_starts(gateway, settings, shops):
    with pytest.raises(ConfigError, match="'oracle'"):
        retrain(settings, MLSettings(model_candidates=("naive", "oracle")))

    assert SystemStore(gateway).list_runs(1) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_tenant_that_another_run_holds_is_done_when_the_lease_ends(gateway, settings, shops, jobs):
    other = runs.start_run(gateway, "other", tenants=[shops[0].tenant_id])
    assert isinstance(runs.claim_item(shops[0], other, 5), runs.Claim)  # and is never heard of again
    told: list[str] = []

    summary = retrain(settings, CHEAP, jobs=jobs, progress=lambda _done, _total, text: told.append(text))

    assert summary["published"] == SHOPS
    assert any(str(shops[0].tenant_id) in text and "waiting" in text for text in told)


class _Outage:
    """A gateway to a database that is away for the first few looks at the ledger."""

    def __init__(self, gateway: Gateway, times: int) -> None:
        self.name, self._gateway, self._times = "outage", gateway, times

    def call(self, function: str, params: Mapping[str, object]):
        if function == "ml_pending_items" and self._times > 0:
            self._times -= 1
            raise DatabaseUnavailable("The database did not answer.")
        return self._gateway.call(function, params)

    def close(self) -> None:
        self._gateway.close()


def test_a_short_outage_of_the_database_is_ridden_out(gateway, settings, shops, monkeypatch):
    monkeypatch.setattr("app.db.connect.open_gateway", lambda _settings: _Outage(PostgresGateway(gateway._url), 2))
    monkeypatch.setattr("app.services.drain.random.uniform", lambda _low, _high: 0.01)

    assert retrain(settings, CHEAP)["published"] == SHOPS


def test_a_database_that_stays_away_is_an_error(gateway, settings, shops, monkeypatch):
    monkeypatch.setattr("app.db.connect.open_gateway", lambda _settings: _Outage(PostgresGateway(gateway._url), 99))
    monkeypatch.setattr("app.services.drain.random.uniform", lambda _low, _high: 0.001)

    with pytest.raises(DatabaseUnavailable):
        retrain(settings, CHEAP)


def test_an_error_travels_whole_from_a_worker_process(gateway, settings, shops):
    run_id = runs.start_run(gateway, "retrain", tenants=None)
    away = settings.model_copy(update={"database_url": SecretStr("mysql://nowhere")})
    team = Team(_work(away, run_id), jobs=1)

    try:
        team.fill()
        with pytest.raises(TenantcastError) as caught:
            _listen(team, until=lambda _events: False)
    finally:
        team.stop()

    assert (caught.value.kind, type(caught.value)) == ("config", ConfigError)
    assert caught.value.next_step


def _work(settings: Settings, run_id):
    from app.services.drain import Work

    return Work(settings, CHEAP, run_id)


def _listen(team: Team, until) -> list[Event]:
    heard: list[Event] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not until(heard):
        assert time.monotonic() < deadline, f"nothing more was heard after {heard}"
        heard += team.listen(0.2)
    return heard


def test_a_killed_worker_process_is_noticed_replaced_and_its_tenant_done(gateway, settings, shops):
    told: list[str] = []
    killed: list[int] = []

    def watch(_done: int, _total: int, text: str) -> None:
        told.append(text)
        if text.endswith("published") and not killed:
            victim = next(pid for pid in _workers_of(os.getpid()))
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

    summary = retrain(settings, CHEAP, jobs=2, progress=watch)

    assert killed
    assert summary["published"] == SHOPS
    assert any("ended with code -9" in text for text in told)
    assert set(_states(gateway)) == {"done"}


def _workers_of(pid: int) -> list[int]:
    import psutil

    servers = [p for p in psutil.Process(pid).children() if "forkserver" in " ".join(p.cmdline())]
    return [worker.pid for server in servers for worker in server.children()]


def _command(database_url: str, home: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    variables = {
        **os.environ,
        "DATABASE_URL": database_url,
        "TENANTCAST_HOME": str(home),
        "ML_LEASE_SECONDS": "2",
        "PYTHONPATH": str(CHECKOUT),
        **environment,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.retrain_command", *arguments],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def _finish(command: subprocess.Popen[str]) -> Any:
    out, _ = command.communicate(timeout=PATIENCE_SECONDS)
    assert command.returncode == 0
    return json.loads(out)


def _undisturbed(settings: Settings, shops: list[TenantStore], database_url: str) -> dict[str, str | None]:
    """The hashes of a run that nobody kills; afterwards the database is as before it."""
    retrain(settings, CHEAP)
    hashes = _hashes(shops)
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "truncate ml_run, ml_run_item, ml_predictions, ml_models, ml_forecast_ledger, ml_input_snapshot,"
            " ml_active_forecast, notifications, notification_deliveries"
        )
    return hashes


def _assert_complete_and_nothing_doubled(database_url: str, shops: list[TenantStore], hashes) -> None:
    assert _hashes(shops) == hashes
    with psycopg.connect(database_url) as connection:

        def numbers(query: str) -> list:
            return connection.execute(query).fetchall()

        forecasts = numbers(
            "select count(*), count(distinct run_id), count(distinct fence) from ml_predictions"
            " where prediction_type = 'sales_forecast' group by tenant_id"
        )
        assert forecasts == [(CHEAP.horizon_days, 1, 1)] * SHOPS
        production = numbers("select count(*) from ml_models where stage = 'production' group by tenant_id")
        assert production == [(1,)] * SHOPS
        assert numbers("select count(*) from ml_run_item where state in ('pending', 'running')") == [(0,)]
        assert numbers("select count(*) from ml_run where finished_at is null") == [(0,)]


@pytest.mark.parametrize("failpoint", ["read:3", "compute:3", "publish:3", "published:3"])
def test_killed_at_any_stage_and_run_again_the_result_is_that_of_an_undisturbed_run(
    failpoint, settings, shops, database_url, tmp_path
):
    hashes = _undisturbed(settings, shops, database_url)
    killed = _command(database_url, tmp_path / "home", "1", TENANTCAST_FAILPOINT=failpoint)
    killed.communicate(timeout=PATIENCE_SECONDS)
    assert killed.returncode == -signal.SIGKILL
    done = sum(value is not None for value in _hashes(shops).values())
    assert done == (3 if failpoint == "published:3" else 2)

    summary = _finish(_command(database_url, tmp_path / "home", "1"))

    assert (summary["published"], summary["unchanged"], summary["failed"]) == (SHOPS - done, done, 0)
    _assert_complete_and_nothing_doubled(database_url, shops, hashes)


def test_the_whole_command_with_its_processes_killed_in_the_middle_and_run_again(
    settings, shops, database_url, tmp_path
):
    hashes = _undisturbed(settings, shops, database_url)
    killed = _command(database_url, tmp_path / "home", "2")
    _kill_group_when(killed, lambda: any(_hashes(shops).values()))
    assert killed.returncode == -signal.SIGKILL

    summary = _finish(_command(database_url, tmp_path / "home", "2"))

    assert summary["published"] + summary["unchanged"] == SHOPS
    assert summary["unchanged"] >= 1
    _assert_complete_and_nothing_doubled(database_url, shops, hashes)


def test_workers_whose_parent_was_killed_end_by_themselves(settings, shops, database_url, tmp_path):
    import psutil

    command = _command(database_url, tmp_path / "home", "2")
    workers = _wait_for(lambda: _workers_of(command.pid))

    command.kill()
    command.communicate(timeout=PATIENCE_SECONDS)

    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in workers if psutil.pid_exists(pid)], PATIENCE_SECONDS)
    assert alive == []


def _wait_for(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def _kill_group_when(command: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    group = os.getpgid(command.pid)
    _wait_for(condition)
    os.killpg(group, signal.SIGKILL)
    command.communicate(timeout=PATIENCE_SECONDS)


def test_two_retrains_at_once_give_every_shop_one_forecast(gateway, settings, shops, database_url):
    summaries: list[dict] = []
    threads = [
        threading.Thread(target=lambda: summaries.append(dict(retrain(settings, CHEAP, force=True)))) for _ in range(2)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(summaries) == 2
    assert sum(summary["failed"] for summary in summaries) == 0
    _assert_complete_and_nothing_doubled(database_url, shops, _hashes(shops))
