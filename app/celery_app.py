"""The Celery object: queues, routes, limits and what beat sends. Task modules as strings, no task bodies.

Celery on Redis is a doorbell: a message carries ids, may be lost, repeated or late, and nothing is lost with it:
the work itself stands in Postgres (`ml_run_item`, `schedule_tick`). Retries, back-off and results live there too.
"""

from typing import Any

from celery import Celery
from celery.schedules import crontab
from kombu.entity import Queue

from app.config.cron import Cron
from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.services.embedded_redis import broker_address
from app.services.schedule import Job, jobs

KEY_PREFIX = "tenantcast:"  # what an ACL user of the broker may touch: ~tenantcast:*

# Only keeps the queues short where no worker listens for days. Much shorter, and a worker whose clock is ahead
# of beat's throws every message away: whether a slot is too late is judged by the database's clock when it is taken.
EXPIRES_SECONDS = 172_800

ML, NOTIFICATIONS, MAINTENANCE, CONTROL = QUEUES = ("ml_processing", "notifications", "maintenance", "control")
TASK_MODULES = (
    "app.workers.ml_worker",
    "app.workers.notification_worker",
    "app.workers.maintenance_worker",
    "app.workers.control_worker",
)
# The first pattern that fits decides. What only writes to the ledger never waits behind a fit.
ROUTES = {
    "app.workers.ml_worker.retrain_all_models": {"queue": CONTROL},
    "app.workers.ml_worker.train_global_model": {"queue": CONTROL},
    "app.workers.ml_worker.*": {"queue": ML},
    "app.workers.notification_worker.*": {"queue": NOTIFICATIONS},
    "app.workers.maintenance_worker.*": {"queue": MAINTENANCE},
    "app.workers.control_worker.*": {"queue": CONTROL},
}


def make_celery(settings: Settings, ml_settings: MLSettings) -> Celery:
    """The application for these settings; it connects when the first message is sent or awaited."""
    app = Celery(
        "tenantcast",
        broker=broker_address(settings),
        include=TASK_MODULES,
        task_cls="app.workers.ticking:Task",
    )
    app.conf.update(
        **_what_travels(settings),
        **_how_tasks_run(settings),
        **_how_workers_behave(),
        **_what_beat_does(settings, ml_settings),
    )
    return app


def _what_travels(settings: Settings) -> dict[str, Any]:
    # A message that nobody acknowledges comes back after this long. Shorter than a task, it would start a second time
    # while the first still runs; much longer buys nothing, since the ledger recovers, not the broker.
    visibility = int(settings.ml_task_seconds * 1.5)
    return {
        "broker_transport_options": {
            "visibility_timeout": visibility,
            "socket_timeout": 10,  # without: a silent Redis hangs the worker for ever
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,  # a worker that stopped hearing after a reconnect notices it
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "global_keyprefix": KEY_PREFIX,
        },
        # The same in all three places: Celery takes the shortest that it finds, and 1 h where there is none.
        "result_backend_transport_options": {"visibility_timeout": visibility},
        "visibility_timeout": visibility,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # with a number, workers give up on a Redis that is away for longer
        # Starting a run must not hang on a broker that is away: three tries within two seconds, then the ledger waits.
        "task_publish_retry_policy": {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1},
        # Never pickle on the wire: whoever can write to Redis could run code in every worker.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_queues": [Queue(name, routing_key=name) for name in QUEUES],  # type: ignore[no-untyped-call]
        "task_default_queue": CONTROL,
        "task_create_missing_queues": False,  # a misspelt queue is an error, not a queue that nobody reads
        "task_routes": ROUTES,
    }


def _how_tasks_run(settings: Settings) -> dict[str, Any]:
    return {
        # No results in Redis: tasks write to the ledger and callers read it there.
        "task_ignore_result": True,
        "result_backend": None,
        "task_acks_late": True,  # early, a worker that dies takes the messages that it had fetched with it
        # With either of these, a task that kills its process comes back at once and for ever (44 times in 20 s). The
        # reconciler brings it back when its lease ends, and parks it after two deaths.
        "task_reject_on_worker_lost": False,
        "task_retry_on_worker_lost": False,
        "task_acks_on_failure": True,  # failures and timeouts never loop inside the broker either
        "task_acks_on_timeout": True,
        "task_soft_time_limit": settings.ml_task_seconds * 0.9,
        "task_time_limit": settings.ml_task_seconds,  # the only one that stops C code, and a child hung in OpenMP
        "timezone": "UTC",
        "enable_utc": True,
    }


def _how_workers_behave() -> dict[str, Any]:
    return {
        "worker_prefetch_multiplier": 1,  # more, and messages wait behind a long fit while another worker is idle
        # Native libraries leak a little (6 kB per tenant in `make memory`). A new child costs about 6 s, its first uses
        # of the libraries included: after every 50 tasks, that was a tenth of the time.
        "worker_max_tasks_per_child": 1000,
        "worker_max_memory_per_child": 1_500_000,  # KiB; looked at after a task, so a limit of the system stays needed
        # SIGQUIT lets tasks end for a minute, then gives their messages back; SIGTERM waits for them (see decision 15).
        "worker_soft_shutdown_timeout": 60,
        "worker_enable_soft_shutdown_on_idle": True,  # without: what an idle worker had just fetched is lost
        # True kills whatever is being computed when Redis goes away, and two such kills park a tenant for nothing: its
        # result goes to Postgres, and a message that comes back finds the item taken or finished.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_remote_control": False,  # whoever can write to Redis could command every worker
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,  # our logs are structured and hide secrets
        "worker_redirect_stdouts": False,
    }


def _what_beat_does(settings: Settings, ml_settings: MLSettings) -> dict[str, Any]:
    entries = {job.name: _entry(job) for job in jobs(ml_settings)}
    period = settings.ml_reconcile_seconds
    entries["reconcile"] = {
        "task": "app.workers.control_worker.reconcile",
        "schedule": float(period),
        "options": {"expires": EXPIRES_SECONDS},
    }
    return {
        "beat_schedule": entries,
        # Nothing on disk: which slots are done stands in `schedule_tick`, so any number of beats may run, anywhere.
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_max_loop_interval": min(30, period),
    }


def _entry(job: Job) -> dict[str, Any]:
    rhythm = job.rhythm
    return {
        "task": job.task,
        "schedule": _crontab(rhythm) if isinstance(rhythm, Cron) else float(rhythm.total_seconds()),
        "options": {
            "expires": EXPIRES_SECONDS,
            "headers": {"job": job.name},  # the task claims the job's slot first: see `app.workers.ticking`
        },
    }


def _crontab(cron: Cron) -> crontab:
    return crontab(
        minute=set(cron.minutes),
        hour=set(cron.hours),
        day_of_month=set(cron.days),
        month_of_year=set(cron.months),
        day_of_week=set(cron.weekdays),
    )


celery_app = app = make_celery(Settings(), MLSettings())
