"""What ledger, queue and database cost per tenant beside pure computing, with real Celery workers.

    make overhead                 1,000 tenants x 730 days on two workers
    make overhead TENANTS=50      a small one

Everything runs on this machine in a home of its own: a durable PostgreSQL, a Redis with an append-only file, one
worker with ``--jobs`` processes. The ratio is (processes x time from the first claim to the last publish) / (time that
they spent computing), both from the ledger, so a busy machine slows both alike. The start of the processes and their
first import of the libraries is not in it: a run of a few tenants goes before.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.embedded import EmbeddedPostgres
from app.db.gateway import Gateway
from app.db.migrate import migrate
from app.db.postgres import PostgresGateway
from app.db.store import SystemStore
from app.log import configure_logging
from app.services.embedded_redis import EmbeddedRedis
from app.services.retrain import start_retrain
from app.tenancy import TenantId, parse_tenant_id

POLL_SECONDS = 0.5
TARGET = 1.10
STOP_SECONDS = 90.0

FILL = """
insert into public.ventas (negocio_id, id, fecha, total)
select n.id, n.nombre || '-' || d, %(now)s::timestamptz - d * interval '1 day',
       round((100 + 15 * extract(dow from %(now)s::timestamptz - d * interval '1 day')
              + 25 * random() * (1 + d %% 3))::numeric, 2)
from public.negocios as n, generate_series(1, %(days)s) as d
"""
SPENT = """
select count(*), extract(epoch from max(finished_at) - min(started_at))::float8,
       sum((report #>> '{seconds,read}')::float8), sum((report #>> '{seconds,compute}')::float8),
       max(attempt)
from public.ml_run_item where run_id = %s and state = 'done'
"""


def main() -> int:
    """Measure, print the table; 0 when the ratio is within the target."""
    asked = _arguments()
    configure_logging(Settings(log_level="WARNING"))
    console = Console()
    with tempfile.TemporaryDirectory(prefix="tc-overhead-") as folder, _services(Path(folder)) as (settings, gateway):
        ids = _fill(settings, asked.tenants, asked.days)
        with _workers(settings, asked.jobs, Path(folder)):
            _run(gateway, settings, ids[: 2 * asked.jobs], "warming up", console)
            run_id = _run(gateway, settings, ids, "forecasting", console)
        spent = _spent(settings, run_id)
    ratio = _print(console, asked.jobs, spent)
    return 0 if spent["done"] == asked.tenants and ratio <= TARGET else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=int(os.environ.get("TENANTS", "1000")))
    parser.add_argument("--days", type=int, default=730)
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    return parser.parse_args()


@contextmanager
def _services(home: Path) -> Iterator[tuple[Settings, Gateway]]:
    """A database and a broker of this measurement's own."""
    postgres, redis = EmbeddedPostgres(home), EmbeddedRedis(home)
    try:
        database, broker = postgres.ensure_running(), redis.ensure_running()
        migrate(database, examples=True)
        settings = Settings(tenantcast_home=home, database_url=database, redis_url=broker, log_level="WARNING")
        gateway = PostgresGateway(database)
        try:
            yield settings, gateway
        finally:
            gateway.close()
    finally:
        redis.stop()
        postgres.discard()


def _fill(settings: Settings, tenants: int, days: int) -> list[TenantId]:
    ids = [parse_tenant_id(f"tenant {n}") for n in range(tenants)]
    with psycopg.connect(_database(settings), autocommit=True) as owner:
        with owner.cursor() as cursor:
            cursor.executemany(
                "insert into public.negocios (id, nombre, zona_horaria) values (%s, %s, 'UTC')",
                [(tenant, f"tenant {n}") for n, tenant in enumerate(ids)],
            )
        owner.execute("set session_replication_role = replica")
        owner.execute(FILL, {"now": datetime.now(UTC) - timedelta(hours=1), "days": days})
        owner.execute("vacuum analyze public.ventas")
    return ids


@contextmanager
def _workers(settings: Settings, jobs: int, folder: Path) -> Iterator[None]:
    """One Celery worker with ``jobs`` processes; its words go to a file in ``folder``."""
    environment = os.environ | {
        "DATABASE_URL": _database(settings),
        "REDIS_URL": _secret(settings.redis_url),
        "TENANTCAST_HOME": str(settings.tenantcast_home),
        "LOG_LEVEL": settings.log_level,
    }
    command = [sys.executable, "-m", "celery", "--quiet", "-A", "app.celery_app", "worker", "-Q",
               "ml_processing", "-c", str(jobs), "--without-mingle", "--without-gossip"]  # fmt: skip
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)  # noqa: S603 - our own interpreter
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _run(gateway: Gateway, settings: Settings, tenants: list[TenantId], what: str, console: Console) -> UUID:
    """A retrain of ``tenants`` by the workers; returns when no item is open."""
    from app.celery_app import make_celery
    from app.workers.bell import CeleryBell

    ml_settings, store = MLSettings(), SystemStore(gateway)
    bell = CeleryBell(make_celery(settings, ml_settings))
    run_id = UUID(start_retrain(gateway, bell, settings, ml_settings, tenants=tenants, force=True)["run_id"])
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        shown = bar.add_task(what, total=len(tenants))
        while True:
            state: dict[str, Any] = store.finish_run(run_id)
            bar.update(shown, completed=sum(state["counts"][name] for name in ("done", "failed", "skipped")))
            if state["finished"]:
                return run_id
            time.sleep(POLL_SECONDS)


def _spent(settings: Settings, run_id: UUID) -> dict[str, float]:
    with psycopg.connect(_database(settings)) as owner:
        row = owner.execute(SPENT, (run_id,)).fetchone()
    names = ("done", "elapsed", "read", "compute", "attempts")
    return {name: float(value or 0) for name, value in zip(names, row or (), strict=True)}


def _print(console: Console, jobs: int, spent: dict[str, float]) -> float:
    """The table; returns the ratio."""
    done, busy = max(spent["done"], 1.0), jobs * spent["elapsed"]
    rest = busy - spent["read"] - spent["compute"]
    table = Table(title=f"{int(spent['done'])} tenants, {jobs} processes, {spent['elapsed']:.1f} s")
    for heading in ("per tenant", "ms", "beside computing"):
        table.add_column(heading, justify="left" if heading == "per tenant" else "right")
    rows = {
        "computing": spent["compute"],
        "reading": spent["read"],
        "publish, claim, queue, waiting": rest,
        "all": busy,
    }
    for name, seconds in rows.items():
        table.add_row(name, f"{1e3 * seconds / done:.1f}", f"{seconds / spent['compute']:.3f}")
    console.print(table)
    ratio = busy / spent["compute"]
    console.print(
        f"ratio {ratio:.3f} (target: at most {TARGET:.2f}); most attempts for a tenant: {spent['attempts']:.0f}"
    )
    return ratio


def _database(settings: Settings) -> str:
    return _secret(settings.database_url)


def _secret(value: Any) -> str:
    return str(value.get_secret_value())


if __name__ == "__main__":
    raise SystemExit(main())
