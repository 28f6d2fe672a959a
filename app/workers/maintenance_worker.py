"""Tasks of upkeep. Each may run at any time, anywhere, twice at once: what is due, the database decides."""

from celery import shared_task

from app.config.maintenance_settings import MaintenanceSettings
from app.services import maintenance
from app.services.health import HealthReport
from app.services.health import health_check as check
from app.workers.process import this_process


@shared_task(name="app.workers.maintenance_worker.cleanup_old_notifications")
def cleanup_old_notifications(dry_run: object = False) -> list[maintenance.CleanUpReport]:
    """Delete messages that are older than they are kept for."""
    return maintenance.cleanup_old_notifications(
        this_process().gateway, MaintenanceSettings(), dry_run=dry_run is not False
    )


@shared_task(name="app.workers.maintenance_worker.cleanup_old_ml_predictions")
def cleanup_old_ml_predictions(dry_run: object = False) -> list[maintenance.CleanUpReport]:
    """Delete forecasts of days long past and model versions out of use; the record of what was forecast stays."""
    return maintenance.cleanup_old_ml_predictions(
        this_process().gateway, MaintenanceSettings(), dry_run=dry_run is not False
    )


@shared_task(name="app.workers.maintenance_worker.cleanup_old_runs")
def cleanup_old_runs(dry_run: object = False) -> list[maintenance.CleanUpReport]:
    """Delete finished runs, snapshots that nothing refers to, and rows that imports kept aside."""
    return maintenance.cleanup_old_runs(this_process().gateway, MaintenanceSettings(), dry_run=dry_run is not False)


@shared_task(name="app.workers.maintenance_worker.health_check")
def health_check() -> HealthReport:
    """Database, migrations, row security, Redis and queue, into the log; `app.services.health` gives it to a caller."""
    here = this_process()
    return check(here.gateway, here.settings)
