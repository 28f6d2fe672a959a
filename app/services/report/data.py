"""What the page shows, read through the stores: one run, its items, and the history behind each forecast."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import structlog

from app.db.gateway import Gateway
from app.db.store import Row, SystemStore, TenantStore
from app.errors import TenantcastError, UnknownRun
from app.services.ml.calendar import Calendar
from app.services.runs import TRAINING
from app.tenancy import parse_tenant_id

LOOKED_AT = 20  # runs, for the newest that forecast anyone

log = structlog.get_logger()


@dataclass(frozen=True)
class History:
    """Sales per business day from ``start`` on, as they were when the forecast was made."""

    start: date
    y: tuple[float, ...]
    calendar: Calendar

    @property
    def end(self) -> date:
        return self.start + timedelta(days=len(self.y) - 1)

    def tail(self, n_days: int) -> "History":
        n = min(n_days, len(self.y))
        return History(self.end - timedelta(days=n - 1), self.y[len(self.y) - n :], self.calendar)


@dataclass(frozen=True)
class TenantPart:
    """One tenant of the run. ``report`` is a TrainingReport with a forecast, or None when there is none to show.

    ``state`` is what this run did: done, unchanged, no_sales, failed, skipped or pending. A report beside ``failed``
    is the forecast from before, which was kept.
    """

    tenant_id: str
    name: str
    state: str
    report: Row | None
    history: History | None
    error: Row | None
    reason: str
    tenant: Row


@dataclass(frozen=True)
class RunPage:
    """One run and as many of its tenants as the page shows.

    ``total`` counts them all, ``counts`` by what became of them: done (unchanged ones too), no_sales, failed, skipped
    and pending.
    """

    run: Row
    counts: dict[str, int]
    parts: list[TenantPart]
    total: int


def read_run(gateway: Gateway, run_id: UUID | None, limit: int) -> RunPage:
    """The run ``run_id`` (None: the newest that forecast anyone) with its first ``limit`` tenants by name.

    Raises
    ------
    UnknownRun : there is no such run, or none at all
    """
    system = SystemStore(gateway)
    shown = system.show_run(run_id or _newest(system))
    if not shown or not shown.get("run"):
        which = f"No run {run_id} is known." if run_id else "There is no run yet."
        raise UnknownRun(which, next_step="See `tenantcast runs list`, or make one with `tenantcast retrain`.")
    items = sorted(shown["items"], key=lambda item: (str(item["name"]).casefold(), item["tenant_id"]))
    facts = {tenant["tenant_id"]: tenant for tenant in system.list_tenants()}
    parts = list(_parts(gateway, items[:limit], facts))
    return RunPage(shown["run"], _count_states(items), parts, len(items))


def _newest(system: SystemStore) -> UUID | None:
    """The newest run over tenants: the training of the global model forecasts nobody."""
    found = (UUID(run["run_id"]) for run in system.list_runs(LOOKED_AT) if run["kind"] != TRAINING)
    return next(found, None)


def _parts(gateway: Gateway, items: list[Row], facts: dict[str, Row]) -> Iterator[TenantPart]:
    for item in items:
        yield _part(TenantStore(gateway, parse_tenant_id(item["tenant_id"])), item, facts.get(item["tenant_id"], {}))


def _part(store: TenantStore, item: Row, tenant: Row) -> TenantPart:
    own = item.get("report") or {}
    state = _state(item, own)
    report = own if own.get("forecast") else None
    if report is None and state in {"unchanged", "failed", "skipped"}:
        before = store.read_forecast() or {}
        report = before.get("report") or None
    if report is not None and not report.get("forecast"):
        report = None
    return TenantPart(
        tenant_id=item["tenant_id"],
        name=str(item["name"] or own.get("tenant_name") or item["tenant_id"]),
        state=state,
        report=report,
        history=_history(store, report) if report else None,
        error=item.get("error") or own.get("error"),
        reason=str(item.get("reason") or ""),
        tenant=tenant,
    )


def _state(item: Row, report: Row) -> str:
    status = report.get("status")
    if item["state"] in {"failed", "pending", "running"}:
        return "failed" if item["state"] == "failed" else "pending"
    if status == "no_sales_yet":
        return "no_sales"
    if status in {"unchanged", "older"}:
        return "unchanged"
    return "skipped" if item["state"] == "skipped" else "done"


def _history(store: TenantStore, report: Row) -> History | None:
    """The series that the forecast was made from; None when its snapshot is gone (the page then has no past)."""
    from app.services.ml.hashing import restore_snapshot

    input_hash = report.get("input_hash")
    row = store.read_snapshot(input_hash) if input_hash else None
    if not row:
        return None
    try:
        restored: Any = restore_snapshot(row["payload"])
    except TenantcastError as error:
        log.warning("snapshot_refused", tenant=str(store.tenant_id), code=error.code)
        return None
    return History(restored.series.start, tuple(float(v) for v in restored.series.y), restored.calendar)


def _count_states(items: list[Row]) -> dict[str, int]:
    counts = dict.fromkeys(("done", "no_sales", "failed", "skipped", "pending"), 0)
    for item in items:
        state = _state(item, item.get("report") or {})
        counts["done" if state == "unchanged" else state] += 1
    return counts
