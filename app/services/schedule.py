"""What runs by itself and when. Whose slot it is stands in the ledger, decided by the database's clock.

A slot is the instant at which a job is due. Any number of beats may send its message, early or late: the first task
that claims the slot does the work, the others find it taken. A slot that nobody claimed is caught up by the
reconciler: the last one only, and only while it is not later than the job's ``max_lateness``.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from app.config.cron import Cron
from app.config.ml_settings import MLSettings
from app.db.gateway import Gateway
from app.db.store import SystemStore
from app.errors import BellUnavailable, UnknownJob
from app.services.bell import Clockwork

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

RETRAIN = "weekly-ml-retrain"
GLOBAL_MODEL = "weekly-global-model"
MARGIN_SECONDS = 60
SUMMARY_HOURS_LATE = 6  # after its hour a tenant's daily summary is still worth writing; then it is left out

_log = structlog.get_logger()


@dataclass(frozen=True)
class Job:
    """One entry of the schedule."""

    name: str
    task: str  # a registered task, by its module path
    rhythm: Cron | timedelta
    max_lateness: timedelta  # a slot that is older is not caught up
    lease: timedelta | None = None  # until whoever claimed the slot counts as dead; None: longer than a task may take

    def last_due(self, now: datetime) -> datetime | None:
        """The newest slot that is not after ``now``."""
        if isinstance(self.rhythm, Cron):
            return self.rhythm.last_due(now)
        return now - (now - _EPOCH) % self.rhythm


@dataclass(frozen=True)
class Tick:
    """A slot that is ours to carry out, as number ``fence``."""

    job: Job
    slot: datetime
    fence: int


def take_slot(gateway: Gateway, job: Job, task_seconds: int = 600) -> Tick | None:
    """Take the job's newest slot; None when another has it, it is done, or it is too late for it.

    Parameters
    ----------
    task_seconds : how long a task may take
    """
    store = SystemStore(gateway)
    now = datetime.fromisoformat(store.read_schedule()["now"])
    slot = job.last_due(now)
    if slot is None or now - slot > job.max_lateness:
        return None
    lease = job.lease or timedelta(seconds=task_seconds + MARGIN_SECONDS)
    answer = store.claim_tick(job.name, slot, int(lease.total_seconds()))
    return Tick(job, slot, int(answer["fence"])) if answer["outcome"] == "claimed" else None


def finish_slot(gateway: Gateway, tick: Tick) -> None:
    """Note that the slot is carried out. Without it, the slot is taken again when its lease ends."""
    SystemStore(gateway).finish_tick(tick.job.name, tick.slot, tick.fence)


def catch_up(gateway: Gateway, clockwork: Clockwork, schedule: tuple[Job, ...], grace: timedelta) -> list[str]:
    """Send the messages of jobs whose newest slot nobody has carried out, though it was due ``grace`` ago.

    A job that has never run has nothing to catch up: its newest slot counts as done, or installing tenantcast would
    start last week's run over tenants that are still being imported.
    """
    store = SystemStore(gateway)
    known = store.read_schedule()
    now = datetime.fromisoformat(known["now"])
    late = []
    for job in schedule:
        slot, last = job.last_due(now), known["last"].get(job.name)
        if slot is None:
            continue
        if last is None:
            answer = store.claim_tick(job.name, slot, 1)
            if answer["outcome"] == "claimed":
                store.finish_tick(job.name, slot, int(answer["fence"]))
        elif grace <= now - slot <= job.max_lateness and (last["open"] or datetime.fromisoformat(last["slot"]) < slot):
            late.append(job.name)
    return _trigger(clockwork, late)


def _trigger(clockwork: Clockwork, names: list[str]) -> list[str]:
    for number, name in enumerate(names):
        try:
            clockwork.trigger(name)
        except BellUnavailable as error:
            _log.warning("bell_unavailable", job=name, reason=error.message)
            return names[:number]
        _log.info("slot_caught_up", job=name)
    return names


def find_job(settings: MLSettings, name: object) -> Job:
    """The job with this name.

    Raises
    ------
    UnknownJob : there is none
    """
    for job in jobs(settings):
        if job.name == name:
            return job
    raise UnknownJob(f"There is no scheduled job {str(name)[:60]!r}.")


def jobs(settings: MLSettings) -> tuple[Job, ...]:
    """Everything that beat sends, beside the reconciler, which has no slots: it may run at any time."""
    ml, notices, upkeep = (f"app.workers.{name}_worker" for name in ("ml", "notification", "maintenance"))
    summary_lateness = _hours(SUMMARY_HOURS_LATE)
    return (
        # 08:00 of every tenant: each tick picks the tenants that are past it.
        Job("daily-notifications", f"{notices}.send_daily_notifications", Cron.parse("*/15 * * * *"), summary_lateness),
        Job(RETRAIN, f"{ml}.retrain_all_models", Cron.parse(settings.retrain_cron), _hours(24), timedelta(minutes=2)),
        Job(
            GLOBAL_MODEL,
            f"{ml}.train_global_model",
            Cron.parse(settings.global_model_cron),
            _hours(24),
            timedelta(minutes=2),
        ),
        Job("check-notification-rules", f"{notices}.check_notification_rules", timedelta(seconds=300), _hours(1 / 12)),
        Job("update-ml-features", f"{ml}.update_business_features", timedelta(seconds=3600), _hours(1)),
        Job("cleanup-old-notifications", f"{upkeep}.cleanup_old_notifications", Cron.parse("0 0 * * *"), _hours(12)),
        Job("cleanup-old-ml-predictions", f"{upkeep}.cleanup_old_ml_predictions", Cron.parse("30 0 * * *"), _hours(12)),
        Job("cleanup-old-runs", f"{upkeep}.cleanup_old_runs", Cron.parse("0 1 * * *"), _hours(12)),
    )


def _hours(hours: float) -> timedelta:
    return timedelta(hours=hours)
