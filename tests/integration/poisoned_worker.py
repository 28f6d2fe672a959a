"""A worker like any other, but work on a chosen tenant (POISON) ends badly (DEED). Started by tests.

``kill`` ends the process as the system does when memory is short; ``hang`` never ends, as C code that hears no signal;
``dawdle`` never ends either, but is Python and can be interrupted; ``linger`` takes a few seconds and is well.
"""

import os
import signal
import sys
import time

from app.celery_app import celery_app
from app.services.ml import pipeline

healthy = pipeline._read_compute_write


def misbehave(task):
    if str(task.item.store.tenant_id) != os.environ["POISON"]:
        return healthy(task)
    deed = os.environ["DEED"]
    if deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if deed == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # Celery's soft limit
    if deed == "linger":
        time.sleep(6)
        return healthy(task)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    pipeline._read_compute_write = misbehave
    celery_app.worker_main(sys.argv[1:])
