"""Forecast many tenants on one machine: a run in the ledger, worked off by one process or by several.

Workers pull open items, small tenants first. A tenant that another run holds is taken up when its lease ends; so is
the tenant of a worker process that was killed. Killed as a whole, the command is simply run again: what is published
is unchanged, the rest is done.
"""

import time
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, TypedDict
from uuid import UUID

import structlog

from app.config.ml_settings import MLSettings, require_known_candidates
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import Row, SystemStore
from app.errors import ConfigError, Transient
from app.services import runs
from app.services.bell import Bell
from app.services.drain import Event, Patience, Work, drain
from app.services.team import Team
from app.tenancy import TenantId

KIND = "retrain"
POLL_SECONDS = 0.5

Progress = Callable[[int, int, str], None]  # tenants done, tenants in all, what is going on

_log = structlog.get_logger()


class TenantOutcome(TypedDict):
    """One line of the summary. ``status`` is that of the report, or "skipped" for an item that a newer run took."""

    tenant_id: str
    name: str
    status: str
    reason: str
    next_step: str
    as_of: str | None
    chosen: str
    total_7: float | None
    total_28: float | None
    currency: str
    attempts: int
    seconds: float
    output_hash: str | None


class RunSummary(TypedDict):
    """What became of a run, tenant by tenant; the numbers count tenants."""

    run_id: str
    total: int
    published: int
    unchanged: int
    no_sales_yet: int
    failed: int
    other: int  # older than what is published, or taken over by a newer run
    seconds: float
    tenants: list[TenantOutcome]


def retrain(
    settings: Settings,
    ml_settings: MLSettings,
    *,
    tenants: list[TenantId] | None = None,
    jobs: int = 1,
    force: bool = False,
    as_of: date | None = None,
    progress: Progress | None = None,
) -> RunSummary:
    """Forecast all allowed tenants, or the given ones, and publish; one tenant's failure stops no other.

    Parameters
    ----------
    jobs : worker processes; 1 works in this process
    progress : called in this process with tenants done, tenants in all, and a line for people

    Raises
    ------
    ConfigError : an unknown candidate, a tenant outside `ML_TENANT_IDS`, or a worker process that cannot start
    DatabaseUnavailable, WrongKey, NotInstalled : the database cannot be used; what is published stands
    """
    from app.db.connect import open_gateway
    from app.services.ml.artifact import load_keys
    from app.services.ml.candidates import candidate_names

    require_known_candidates(ml_settings, candidate_names())
    load_keys(settings)  # a bad key is one error now instead of one per tenant
    started = time.monotonic()
    gateway = open_gateway(settings)
    try:
        chosen = _choose(ml_settings, tenants)
        run_id = runs.start_run(gateway, KIND, tenants=chosen, force=force, as_of=as_of, ring=False)
        _log.info("run_started", run=str(run_id), jobs=jobs, force=force)
        watch = _Watch(gateway, run_id, progress or _silent)
        _work_off(Work(settings, ml_settings, run_id), gateway, jobs, watch)
        summary = summarise(gateway, run_id, time.monotonic() - started)
    finally:
        gateway.close()
    counts = {name: summary[name] for name in ("total", "published", "unchanged", "no_sales_yet", "failed", "other")}
    _log.info("run_finished", run=summary["run_id"], seconds=summary["seconds"], **counts)
    return summary


class StartedRun(TypedDict):
    """A run that workers work off."""

    run_id: str
    rung: int  # messages that went out at once; the others follow as tenants are done


def start_retrain(
    gateway: Gateway,
    bell: Bell,
    settings: Settings,
    ml_settings: MLSettings,
    *,
    slot: datetime | None = None,
    tenants: list[TenantId] | None = None,
    force: bool = False,
) -> StartedRun:
    """A run over all allowed tenants, or the given ones, for workers to work off; nothing is computed here.

    Parameters
    ----------
    slot : the schedule's; however often it is started, it has one run, whose tenants begin spread over a window

    Raises
    ------
    ConfigError : a tenant outside `ML_TENANT_IDS`
    DatabaseUnavailable, WrongKey, NotInstalled : the run was not started
    """
    run_id = runs.start_run(
        gateway,
        KIND,
        tenants=_choose(ml_settings, tenants),
        force=force,
        slot=slot,
        spread_seconds=settings.ml_retrain_spread_seconds if slot else 0,
        local_hour=settings.ml_retrain_local_hour if slot else None,
    )
    rung = runs.ring_next(gateway, bell, run_id, settings)
    _log.info("run_started", run=str(run_id), slot=slot and slot.isoformat(), rung=rung, force=force)
    return StartedRun(run_id=str(run_id), rung=rung)


def summarise(gateway: Gateway, run_id: UUID, seconds: float) -> RunSummary:
    """What the ledger says about a run."""
    outcomes = [_outcome(item) for item in SystemStore(gateway).show_run(run_id)["items"]]

    def count(*statuses: str) -> int:
        return sum(outcome["status"] in statuses for outcome in outcomes)

    return RunSummary(
        run_id=str(run_id),
        total=len(outcomes),
        published=count("published"),
        unchanged=count("unchanged"),
        no_sales_yet=count("no_sales_yet"),
        failed=count("failed", "lost"),
        other=count("older", "skipped", "pending", "running"),
        seconds=round(seconds, 3),
        tenants=outcomes,
    )


def _work_off(work: Work, gateway: Gateway, jobs: int, watch: "_Watch") -> None:
    """Until no item of the run is open."""
    watch.tell("")
    jobs = min(jobs, max(watch.total, 1))
    over = _OverYet(gateway, work.run_id)
    if jobs == 1:
        while not over():
            drain(work, gateway, tell=watch.hear)
        watch.end()
        return
    team = Team(work, jobs)
    try:
        while not over():
            team.fill()
            for event in team.listen(POLL_SECONDS):
                watch.hear(event)
        watch.end()  # the ledger knows it before the last worker has said so
    finally:
        team.stop()


def _choose(settings: MLSettings, tenants: list[TenantId] | None) -> list[TenantId] | None:
    allowed = settings.allowed_tenants()
    if allowed is None:
        return tenants
    refused = [str(tenant) for tenant in tenants or () if tenant not in allowed]
    if refused:
        raise ConfigError(
            f"ML_TENANT_IDS does not allow {', '.join(refused)}.", next_step="Add them to it, or set it to *."
        )
    return sorted(allowed) if tenants is None else tenants


class _OverYet:
    """Asks the ledger whether the run is over, which also takes items back from lost workers."""

    def __init__(self, gateway: Gateway, run_id: UUID) -> None:
        self._gateway, self._run_id, self._patience = gateway, run_id, Patience()

    def __call__(self) -> bool:
        try:
            over = runs.finish_run(self._gateway, self._run_id)
        except Transient as error:
            self._patience.bear(error)
            return False
        self._patience.renew()
        return over


class _Watch:
    """Turns what workers report into progress: how many tenants are done, and a line for people."""

    def __init__(self, gateway: Gateway, run_id: UUID, progress: Progress) -> None:
        self._progress = progress
        self.total = sum(_counts(gateway, run_id).values())
        self._ended: set[str] = set()
        self._ours: set[str] = set()

    def hear(self, event: Event) -> None:
        kind, tenant_id = event["kind"], event["tenant_id"]
        if kind == "started":
            self._ours.add(tenant_id)
        elif kind == "ended":
            self._ours.discard(tenant_id)
            self._ended.add(tenant_id)
            self.tell(event["text"])
        elif kind == "waiting":
            if tenant_id not in self._ours:
                self.tell(event["text"])
        elif kind == "worker_lost":
            self._ours.clear()  # whoever is still at work says so with its next tenant
            self.tell(event["text"])

    def end(self) -> None:
        """No item is open any more, whoever ended it."""
        if len(self._ended) < self.total:
            self._progress(self.total, self.total, "")

    def tell(self, text: str) -> None:
        self._progress(min(len(self._ended), self.total), self.total, text)


def _counts(gateway: Gateway, run_id: UUID) -> dict[str, int]:
    counts = SystemStore(gateway).finish_run(run_id)["counts"]
    return {state: int(number) for state, number in counts.items()}


def _outcome(item: Row) -> TenantOutcome:
    report: dict[str, Any] = item.get("report") or {}
    error: dict[str, Any] = (item.get("error") or {}) if item["state"] == "failed" else {}
    status = "failed" if error or item["state"] == "failed" else report.get("status") or item["state"]
    return TenantOutcome(
        tenant_id=item["tenant_id"],
        name=item.get("name") or "",
        status=status,
        reason=error.get("message") or report.get("reason") or item.get("reason") or "",
        next_step=error.get("next_step") or "",
        as_of=report.get("as_of"),
        chosen=report.get("chosen") or "",
        total_7=report.get("total_7") if report.get("forecast") else None,
        total_28=report.get("total_28") if report.get("forecast") else None,
        currency=report.get("currency") or "",
        attempts=item["attempt"],
        seconds=float(item.get("seconds") or 0.0),
        output_hash=report.get("output_hash"),
    )


def _silent(_done: int, _total: int, _text: str) -> None:
    """Nobody watches."""
