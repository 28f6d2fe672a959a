"""Clean-ups: what is old and not in use goes, oldest first, in batches that are transactions of their own.

Which rows those are, the database decides: the role that deletes cannot touch what is younger than seven days, an
active model or a current forecast (docs/decisions/0012). Here stand the retention times, and the brake: a clean-up
that would take more than a fifth of a large table is refused, for then it is likelier that a clock or a setting is
wrong than that so much has become old.
"""

import math
from typing import Literal, TypedDict

import structlog

from app.config.maintenance_settings import MaintenanceSettings
from app.db.gateway import Gateway
from app.db.store import MaintenanceStore

Target = Literal["notifications", "predictions", "model_versions", "snapshots", "quarantine", "run_items", "runs"]
Status = Literal["done", "dry_run", "refused"]

BATCH_ROWS = 1_000
# The brake holds for more than one batch: of a table of ten rows, three are always more than a fifth.
UNBRAKED_ROWS = BATCH_ROWS

_log = structlog.get_logger()


class CleanUpReport(TypedDict):
    """What one clean-up found and did. ``before``: older than this instant (ISO 8601, UTC) was due."""

    what: Target
    status: Status
    rows: int
    due: int
    deleted: int
    before: str
    reason: str


def cleanup_old_notifications(
    gateway: Gateway, settings: MaintenanceSettings, *, dry_run: bool = False
) -> list[CleanUpReport]:
    """Delete messages older than `ML_KEEP_NOTIFICATIONS_DAYS`."""
    return [clean_up(gateway, "notifications", settings, dry_run=dry_run)]


def cleanup_old_ml_predictions(
    gateway: Gateway, settings: MaintenanceSettings, *, dry_run: bool = False
) -> list[CleanUpReport]:
    """Delete forecasts of days long past, and model versions that nothing points at.

    The record of what was forecast when (`ml_forecast_ledger`) stays, and so does the current forecast of a tenant
    whose sales have stopped, however old it is.
    """
    targets: tuple[Target, ...] = ("predictions", "model_versions")
    return [clean_up(gateway, what, settings, dry_run=dry_run) for what in targets]


def cleanup_old_runs(gateway: Gateway, settings: MaintenanceSettings, *, dry_run: bool = False) -> list[CleanUpReport]:
    """Delete finished runs item by item, input snapshots that nothing refers to, and rows kept aside by imports."""
    targets: tuple[Target, ...] = ("run_items", "runs", "snapshots", "quarantine")
    return [clean_up(gateway, what, settings, dry_run=dry_run) for what in targets]


def everything(gateway: Gateway, settings: MaintenanceSettings, *, dry_run: bool = False) -> list[CleanUpReport]:
    """All clean-ups, one after the other."""
    parts = (cleanup_old_notifications, cleanup_old_ml_predictions, cleanup_old_runs)
    return [report for part in parts for report in part(gateway, settings, dry_run=dry_run)]


def clean_up(gateway: Gateway, what: Target, settings: MaintenanceSettings, *, dry_run: bool = False) -> CleanUpReport:
    """Delete what is due of one kind, at most as many rows as were due when it began.

    Killed in between, it has deleted whole batches; the next one goes on where it stopped.

    Parameters
    ----------
    dry_run : count only

    Raises
    ------
    DatabaseUnavailable, WrongKey, NotInstalled : what was deleted before stays deleted
    """
    store = MaintenanceStore(gateway)
    days, versions = keep_days(what, settings), settings.keep_model_versions
    plan = store.plan_clean_up(what, days, versions)
    report = CleanUpReport(
        what=what,
        status="dry_run" if dry_run else "done",
        rows=int(plan["rows"]),
        due=int(plan["due"]),
        deleted=0,
        before=str(plan["before"]),
        reason="",
    )
    if not dry_run and is_suspicious(report["rows"], report["due"], settings):
        report["status"], report["reason"] = "refused", _why_refused(report, settings)
        _log.error("clean_up_refused", **report)
        return report
    if not dry_run:
        report["deleted"] = _delete(store, what, days, versions, report["due"])
    _log.info("clean_up", **report)
    return report


def keep_days(what: Target, settings: MaintenanceSettings) -> int:
    """For how many days rows of that kind are kept."""
    days: dict[Target, int] = {
        "notifications": settings.keep_notifications_days,
        "predictions": settings.keep_predictions_days,
        "model_versions": settings.keep_model_days,
        "snapshots": settings.keep_snapshots_days,
        "quarantine": settings.keep_quarantine_days,
        "run_items": settings.keep_runs_days,
        "runs": settings.keep_runs_days,
    }
    return days[what]


def is_suspicious(rows: int, due: int, settings: MaintenanceSettings) -> bool:
    """Whether so large a share of a table would go that a person should look first."""
    if settings.force_clean_up or due <= UNBRAKED_ROWS:
        return False
    return due > settings.max_delete_share * rows


def _delete(store: MaintenanceStore, what: Target, days: int, versions: int, due: int) -> int:
    deleted = 0
    for _ in range(math.ceil(due / BATCH_ROWS)):
        batch = int(store.clean_up_batch(what, days, versions, min(BATCH_ROWS, due - deleted))["deleted"])
        deleted += batch
        if batch == 0:  # another clean-up was faster
            break
    return deleted


def _why_refused(report: CleanUpReport, settings: MaintenanceSettings) -> str:
    return (
        f"{report['due']} of {report['rows']} rows are older than {report['before']}: more than "
        f"{settings.max_delete_share:.0%} of {report['what']}. Nothing was deleted. Check the database's clock and the "
        "ML_KEEP_… settings; if this is right, run it once with ML_FORCE_CLEAN_UP=true."
    )
