"""A candidate that hangs where no signal reaches it costs its tenant one worker, and the tenant has its forecast."""

import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from app.celery_app import make_celery
from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.postgres import PostgresGateway
from app.db.store import TenantStore
from app.services.ml.hashing import output_hash, restore_snapshot
from app.services.ml.lookout import Lookout
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.retrain import start_retrain
from app.workers.bell import CeleryBell
from tests.integration.celery_processes import beat, wait_until, worker
from tests.integration.shops import add_shop, shop_id

HANGING = (sys.executable, "-m", "tests.integration.hanging_worker")
CANDIDATES = ["naive", "snaive", "weekday_mean"]
# Nine seconds to the hard limit and a beat every second: the last one is well above half of it.
QUICK = {"ML_TASK_SECONDS": "9", "ML_LEASE_SECONDS": "3", "ML_RECONCILE_SECONDS": "1"}


def _rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement.encode()).fetchall()


def _statuses(report: dict[str, Any]) -> dict[str, str]:
    return {score["name"]: score["status"] for score in report["scores"]}


def test_the_next_attempt_leaves_the_candidate_that_hung_out_and_no_other_tenant_notices(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    gateway = PostgresGateway(database_url, max_size=1)
    tenants = {name: shop_id(name) for name in ("hangs", "dies", "well")}
    for name in tenants:
        add_shop(gateway, name, days=60)
    fuse = tmp_path / "fuse"
    fuse.touch()
    environment = QUICK | {
        "DATABASE_URL": database_url, "REDIS_URL": redis_url, "TENANTCAST_HOME": str(tmp_path / "home"),
        "ML_MODEL_CANDIDATES": ",".join(CANDIDATES), "FUSE": str(fuse),
        "HANGS": str(tenants["hangs"]), "DIES": str(tenants["dies"]),
    }  # fmt: skip
    settings = Settings(database_url=database_url, redis_url=redis_url, ml_reconcile_seconds=1)
    bell = CeleryBell(make_celery(settings, MLSettings()))

    with beat(environment, tmp_path), worker(environment, tmp_path, program=HANGING) as running:
        start_retrain(gateway, bell, settings, MLSettings(), tenants=list(tenants.values()))
        wait_until(lambda: _rows(database_url, "select 1 from ml_run where finished_at is not null"), "it", running)

    found = {
        UUID(str(tenant)): (state, attempt, losses, report)
        for tenant, state, attempt, losses, report in _rows(
            database_url, "select tenant_id, state, attempt, losses, report from ml_run_item"
        )
    }
    items = {name: found[tenant][:3] for name, tenant in tenants.items()}
    reports = {name: found[tenant][3] for name, tenant in tenants.items()}
    # A lost lease counts double: tried, lost, and done.
    assert items == {"hangs": ("done", 3, 1), "dies": ("done", 3, 1), "well": ("done", 1, 0)}
    whole = dict.fromkeys(CANDIDATES, "scored")
    assert _statuses(reports["hangs"]) == {**whole, "weekday_mean": "left_out"}
    assert _statuses(reports["dies"]) == _statuses(reports["well"]) == whole  # killed at random: nothing is left out
    assert "hung" in next(s["reason"] for s in reports["hangs"]["scores"] if s["name"] == "weekday_mean")
    assert [note["code"] for note in reports["hangs"]["notes"]] == ["candidate_hung"]
    assert "weekday_mean" not in reports["hangs"]["weights"]
    assert len(reports["hangs"]["forecast"]) == MLSettings().horizon_days
    _assert_replays(TenantStore(gateway, tenants["hangs"]), reports["hangs"])
    gateway.close()


def _assert_replays(store: TenantStore, report: dict[str, Any]) -> None:
    """The snapshot says what was left out, so that the forecast can be made again from it."""
    row = store.read_snapshot(report["input_hash"])
    assert row
    kept = restore_snapshot(row["payload"])
    engine = BusinessMLEngine(kept.settings, lookout=Lookout(hung=dict.fromkeys(kept.left_out, 0)))
    assert kept.left_out == ("weekday_mean",)
    assert output_hash(engine.forecast(kept.series, kept.calendar)) == report["output_hash"]
