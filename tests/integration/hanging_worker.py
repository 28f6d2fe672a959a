"""A worker like any other, but one candidate ends badly with two tenants. Started by tests.

With the tenant HANGS it never comes back and hears no signal, as compiled code may. With the tenant DIES its process is
killed in the middle of it, as the system does when memory is short: the first time only, while the file FUSE is there.
"""

import os
import signal
import sys
import time
from pathlib import Path

import structlog

from app.celery_app import celery_app
from app.services.ml.candidates.weekday_mean import WeekdayMean

KILLED_AFTER_SECONDS = 2  # long enough for a heartbeat to say where it was

healthy = WeekdayMean.fit


def misbehave(self, series, calendar):
    tenant = structlog.contextvars.get_contextvars().get("tenant")
    if tenant == os.environ["HANGS"]:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # Celery's soft limit
        while True:
            time.sleep(60)
    fuse = Path(os.environ["FUSE"])
    if tenant == os.environ["DIES"] and fuse.exists():
        time.sleep(KILLED_AFTER_SECONDS)
        fuse.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return healthy(self, series, calendar)


if __name__ == "__main__":
    WeekdayMean.fit = misbehave  # type: ignore[method-assign]
    celery_app.worker_main(sys.argv[1:])
