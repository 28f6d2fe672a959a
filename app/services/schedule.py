"""What runs by itself and when. Whose slot it is stands in the ledger, decided by the database's clock.

A slot is the instant at which a job is due. Any number of beats may send its message, early or late: the first task
that claims the slot does the work, the others find it taken. A slot that nobody claimed is caught up by the
reconciler: the last one only, and only while it is not later than the job's ``max_lateness``.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.config.cron import Cron
from app.config.ml_settings import MLSettings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

RETRAIN = "weekly-ml-retrain"


@dataclass(frozen=True)
class Job:
    """One entry of the schedule."""

    name: str
    task: str  # a registered task, by its module path
    rhythm: Cron | timedelta
    max_lateness: timedelta  # a slot that is older is not caught up
    lease: timedelta = timedelta(minutes=11)  # longer than a task may take: then whoever claimed the slot is dead

    def last_due(self, now: datetime) -> datetime | None:
        """The newest slot that is not after ``now``."""
        if isinstance(self.rhythm, Cron):
            return self.rhythm.last_due(now)
        return now - (now - _EPOCH) % self.rhythm


def jobs(settings: MLSettings) -> tuple[Job, ...]:
    """Everything that beat sends, beside the reconciler, which has no slots: it may run at any time."""
    ml, notices, upkeep = (f"app.workers.{name}_worker" for name in ("ml", "notification", "maintenance"))
    return (
        # 08:00 of every tenant: each tick picks the tenants that are past it.
        Job("daily-notifications", f"{notices}.send_daily_notifications", Cron.parse("*/15 * * * *"), _hours(2)),
        Job(RETRAIN, f"{ml}.retrain_all_models", Cron.parse(settings.retrain_cron), _hours(24), timedelta(minutes=2)),
        Job("check-notification-rules", f"{notices}.check_notification_rules", timedelta(seconds=300), _hours(1 / 12)),
        Job("update-ml-features", f"{ml}.update_business_features", timedelta(seconds=3600), _hours(1)),
        Job("cleanup-old-notifications", f"{upkeep}.cleanup_old_notifications", Cron.parse("0 0 * * *"), _hours(12)),
        Job("cleanup-old-ml-predictions", f"{upkeep}.cleanup_old_ml_predictions", Cron.parse("30 0 * * *"), _hours(12)),
    )


def _hours(hours: float) -> timedelta:
    return timedelta(hours=hours)
