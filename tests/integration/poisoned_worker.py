"""A worker like any other, but a chosen tenant (POISON) kills the process that works on it. Started by tests."""

import os
import signal
import sys

from app.celery_app import celery_app
from app.services.ml import pipeline

healthy = pipeline.train_item


def train_item(item, *arguments, **named):
    if str(item.store.tenant_id) == os.environ["POISON"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return healthy(item, *arguments, **named)


if __name__ == "__main__":
    pipeline.train_item = train_item
    celery_app.worker_main(sys.argv[1:])
