"""`tenantcast beat` as it is, but the retrain's message goes out every third of a second. Started by tests."""

import sys

from app.config.settings import Settings
from app.services.schedule import RETRAIN
from app.workers.command import run_beat

PERIOD_SECONDS = 0.3


def main() -> None:
    from app.celery_app import celery_app

    celery_app.conf.beat_schedule[RETRAIN]["schedule"] = PERIOD_SECONDS
    run_beat(Settings(), sys.argv[1])


if __name__ == "__main__":
    main()
