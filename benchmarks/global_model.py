"""What training the global model costs in a database of many tenants: time, CPU and memory of its one item.

    make global                  2,000 tenants of 400 days
    make global TENANTS=200      a small one

The database is a PostgreSQL of this measurement's own, on the same machine; CPU and memory are those of the process
that trains, without the server's. Every twentieth tenant says no in its own settings.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from psycopg.types.json import Jsonb
from rich.console import Console
from rich.table import Table

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.embedded import EmbeddedPostgres
from app.db.postgres import PostgresGateway
from app.db.store import TenantStore
from app.log import configure_logging
from app.services.global_training import agreed, train_now
from app.services.ml.artifact import load_keys
from app.services.ml.cpu_time import cpu_seconds, warm_up
from app.tenancy import TenantId, parse_tenant_id
from benchmarks.overhead import FILL

SAYS_NO = 20  # one tenant in so many
READ_ALONE = 50


def main() -> int:
    """Measure and print; 1 when nothing was published."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=2000)
    parser.add_argument("--days", type=int, default=400)
    asked = parser.parse_args()
    configure_logging(Settings(log_level="WARNING"))
    settings, table = MLSettings(global_model=True), Table(title=f"{asked.tenants} tenants of {asked.days} days")
    for heading in ("", "s", "CPU s"):
        table.add_column(heading, justify="right" if heading else "left")
    with tempfile.TemporaryDirectory(prefix="tc-global-") as folder, _database(Path(folder)) as url:
        tenants = _fill(url, asked.tenants, asked.days)
        environment, gateway = Settings(database_url=url, tenantcast_home=Path(folder)), PostgresGateway(url)
        warm_up()
        before = _peak_mb()
        with _measured(table, "asking who agrees"):
            n_agreed = len(agreed(gateway, settings))
        with _measured(table, f"reading the input of {READ_ALONE}"):
            for tenant_id in tenants[:READ_ALONE]:
                TenantStore(gateway, tenant_id).read_input(
                    None, settings.max_train_window_days, settings.stale_after_days
                )
        with _measured(table, "the whole item"):
            report = train_now(gateway, environment, settings, load_keys(environment))
        gateway.close()
    console = Console()
    console.print(table)
    console.print(f"{n_agreed} agreed; {report['status']}: {report['tenants']} tenants, {report['rows']} rows")
    console.print(f"memory: at most {_peak_mb():.0f} MB, {before:.0f} MB before")
    return 0 if report["status"] == "published" else 1


@contextmanager
def _database(home: Path) -> Iterator[str]:
    postgres = EmbeddedPostgres(home)
    try:
        yield postgres.ensure_running()
    finally:
        postgres.discard()


def _fill(url: str, n_tenants: int, days: int) -> list[TenantId]:
    ids = [parse_tenant_id(f"tenant {n}") for n in range(n_tenants)]
    with psycopg.connect(url, autocommit=True) as owner, owner.cursor() as cursor:
        cursor.executemany(
            "insert into public.negocios (id, nombre, zona_horaria) values (%s, %s, 'UTC')",
            [(tenant, f"tenant {n}") for n, tenant in enumerate(ids)],
        )
        cursor.executemany(
            "insert into public.tenant_ml_settings (tenant_id, settings) values (%s, %s)",
            [(tenant, Jsonb({"global_model": False})) for tenant in ids[::SAYS_NO]],
        )
        cursor.execute("set session_replication_role = replica")
        cursor.execute(FILL, {"now": datetime.now(UTC) - timedelta(hours=1), "days": days})
        cursor.execute("vacuum analyze public.ventas")
    return ids


@contextmanager
def _measured(table: Table, what: str) -> Iterator[None]:
    started, spent = time.monotonic(), cpu_seconds()
    yield
    table.add_row(what, f"{time.monotonic() - started:.2f}", f"{cpu_seconds() - spent:.2f}")


def _peak_mb() -> float:
    """The most that this process has had in memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    raise SystemExit(main())
