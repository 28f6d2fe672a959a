"""The demo from start to end: make shops, import, forecast, write the page; all in a database of its own."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import structlog

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.connect import open_gateway
from app.db.embedded import EmbeddedPostgres
from app.db.gateway import Gateway
from app.db.store import TenantStore
from app.services.demo.generator import DemoTruth, generate_demo
from app.services.report.data import read_run
from app.services.report.page import write_page
from app.services.report.view import Summary, view_tenant
from app.services.retrain import retrain
from app.services.sales_import import ImportOptions, ImportReport, TenantFacts, import_file

SEED = 7
MAX_JOBS = 8
LIMIT = 100  # shops on the page; there are a dozen

Progress = Callable[[str, int, int], None]  # what is being done, how far, out of how much

log = structlog.get_logger()


@dataclass(frozen=True)
class DemoRow:
    """One line of the demo's table: what tenantcast says, and what is special about the shop."""

    shop: str
    summary: Summary
    special: str


@dataclass(frozen=True)
class DemoResult:
    """What the demo did; ``truth`` is what its forecasts and reports can be held against."""

    truth: DemoTruth
    imported: ImportReport
    run_id: str
    counts: dict[str, int]
    rows: tuple[DemoRow, ...]
    page: Path
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        shops = [{"shop": row.shop, **vars(row.summary), "special": row.special} for row in self.rows]
        return {
            "run_id": self.run_id,
            "counts": self.counts,
            "shops": shops,
            "sales_file": str(self.truth.sales),
            "imported_rows": sum(tenant["rows"] for tenant in self.imported["tenants"]),
            "page": str(self.page),
            "seconds": round(self.seconds, 1),
        }


def run_demo(
    settings: Settings,
    ml_settings: MLSettings | None = None,
    *,
    out: Path | None = None,
    jobs: int | None = None,
    seed: int = SEED,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> DemoResult:
    """Forecast a dozen made-up shops and write the page; the database of the settings is never touched.

    Parameters
    ----------
    settings : only home and logging count; the demo's own database lives below the home, is made anew and
        stopped at the end
    out : the page; default ``demo/report.html`` in the home
    jobs : processes; default one per core, at most 8
    now : aware; until when the shops have sold (default: now)
    """
    started = time.monotonic()
    tell = progress or _silent
    own = _own_settings(settings)
    home = own.tenantcast_home
    with _own_database(own, tell) as gateway:
        tell("shops", 0, 1)
        truth = generate_demo(home / "files", seed, now or datetime.now(UTC))
        tell("shops", 1, 1)
        imported = load_demo(gateway, truth, lambda done, total: tell("import", done, total))
        run = retrain(
            own,
            (ml_settings or MLSettings()).model_copy(update={"tenant_ids": "*"}),
            jobs=jobs or min(os.cpu_count() or 1, MAX_JOBS),
            progress=lambda done, total, _line: tell("forecast", done, total),
        )
        page = read_run(gateway, UUID(run["run_id"]), LIMIT)
        path = write_page(page, out or home / "report.html")
        views = {part.name: view_tenant(part, number) for number, part in enumerate(page.parts)}
    return DemoResult(
        truth=truth,
        imported=imported,
        run_id=run["run_id"],
        counts=page.counts,
        rows=tuple(
            DemoRow(name, views[name].summary, shop.shop.note)
            for shop in truth.shops
            if (name := shop.shop.name) in views
        ),
        page=path,
        seconds=time.monotonic() - started,
    )


def load_demo(gateway: Gateway, truth: DemoTruth, progress: Callable[[int, int], None] | None = None) -> ImportReport:
    """Bring the shops in the way a customer does: their facts and sales by the import, then their calendars."""
    facts = {shop.shop.name: cast("TenantFacts", shop.facts) for shop in truth.shops}
    report = import_file(truth.sales, gateway, ImportOptions(tenants=facts), progress)
    for shop in truth.shops:
        if shop.calendar:
            TenantStore(gateway, shop.tenant_id).write_calendar([dict(row) for row in shop.calendar], replace=True)
    return report


def _own_settings(settings: Settings) -> Settings:
    """The same settings with the demo's own home and no database of the user's."""
    nobody = {"database_url": None, "supabase_url": None, "supabase_service_role_key": None}
    return settings.model_copy(update={**nobody, "tenantcast_home": settings.tenantcast_home / "demo"})


@contextmanager
def _own_database(own: Settings, tell: Progress) -> Iterator[Gateway]:
    """The demo's database, made anew; stopped at the end, so that the demo leaves nothing running."""
    tell("database", 0, 1)
    server = EmbeddedPostgres(own.tenantcast_home)
    try:
        server.discard()
        gateway = open_gateway(own)
        tell("database", 1, 1)
        try:
            yield gateway
        finally:
            gateway.close()
    finally:
        server.stop()


def _silent(_step: str, _done: int, _total: int) -> None:
    """Nobody is watching."""
