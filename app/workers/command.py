"""Celery's processes as `tenantcast worker` and `tenantcast beat` start them: environment, queues, signs of life.

The environment is set before Celery is imported, and Celery runs in this very process: who starts us knows its number.
"""

import os
import signal
import warnings
from pathlib import Path
from typing import Any

from app.config.settings import Settings
from app.services.heartbeat import beat, heartbeat_file
from app.services.lifeline import end_with_parent, end_with_supervisor

REDIS_VARIABLE = "REDIS_URL"


def run_worker(settings: Settings, queues: tuple[str, ...], concurrency: int, name: str) -> None:
    """One Celery worker on these queues, until it is told to end."""
    end_with_supervisor()
    ensure_broker(settings)
    from celery.exceptions import SecurityWarning
    from celery.signals import worker_process_init

    from app.celery_app import celery_app
    from app.workers.pulse import Pulse

    # Celery warns root because of pickled messages; ours are JSON only.
    warnings.filterwarnings("ignore", message="(?s).*superuser privileges", category=SecurityWarning)
    main = os.getpid()

    @worker_process_init.connect(weak=False)
    def _end_with_the_worker(**_: Any) -> None:
        end_with_parent(main, signal.SIGKILL)  # a child whose worker was killed reports to nobody

    Pulse(celery_app, queues, heartbeat_file(settings.tenantcast_home.absolute(), name)).install()
    celery_app.worker_main(worker_arguments(settings, queues, concurrency, name))


def worker_arguments(settings: Settings, queues: tuple[str, ...], concurrency: int, name: str) -> list[str]:
    """Celery's own command line."""
    return [
        "--quiet", "worker", "--queues", ",".join(queues), "--concurrency", str(concurrency),
        "--hostname", f"{name}@%h", "--loglevel", settings.log_level, "--pool", "prefork",
        # Neither is of use without remote control, and each makes a worker wait for the others at its start.
        "--without-mingle", "--without-gossip", "--without-heartbeat",
    ]  # fmt: skip


def run_beat(settings: Settings, name: str) -> None:
    """One beat, until it is told to end. Any number of them may run: slots are claimed in the database."""
    end_with_supervisor()
    ensure_broker(settings)
    from celery.signals import beat_init

    from app.celery_app import celery_app

    @beat_init.connect(weak=False)
    def _pulse(sender: Any, **_: Any) -> None:
        _beat_with_every_tick(sender.scheduler, heartbeat_file(settings.tenantcast_home.absolute(), name))

    celery_app.start(["--quiet", "beat", "--loglevel", settings.log_level])


def ensure_broker(settings: Settings) -> None:
    """Start or adopt the private Redis of this home when the settings name none, for messages and for the cache."""
    if settings.redis_url is None and settings.celery_broker_url is None:
        from app.services.embedded_redis import EmbeddedRedis

        os.environ[REDIS_VARIABLE] = EmbeddedRedis(settings.tenantcast_home).ensure_running()


def _beat_with_every_tick(scheduler: Any, file: Path) -> None:
    """Touch ``file`` whenever the scheduler looks at what is due: every few seconds, at most each 30."""
    from app.workers.pulse import notify_systemd

    tick = scheduler.tick

    def ticked(*arguments: Any, **named: Any) -> Any:
        beat(file)
        notify_systemd("READY=1\nWATCHDOG=1")
        return tick(*arguments, **named)

    scheduler.tick = ticked
