"""What makes messages harmless to lose: look at the ledger now and then, and ring for what nobody has taken up."""

from datetime import timedelta
from typing import TypedDict

import structlog

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import SystemStore
from app.services import runs
from app.services.bell import Bell, Clockwork
from app.services.schedule import catch_up, jobs

_log = structlog.get_logger()


class Reconciled(TypedDict):
    """What one look at the ledger did."""

    expired: int  # items taken back from lost workers
    finished: int  # runs ended
    rung: int  # items rung for
    caught_up: list[str]  # scheduled jobs sent late


def reconcile(
    gateway: Gateway, bell: Bell, clockwork: Clockwork, settings: Settings, ml_settings: MLSettings
) -> Reconciled:
    """Take items of lost workers back, end finished runs, ring for what is due, catch up missed slots.

    May run at any time, anywhere, twice at once: the ledger gives each ring to one caller.
    """
    answer = SystemStore(gateway).reconcile(settings.ml_reconcile_seconds, settings.ml_ring_window)
    rung = runs.ring_all(bell, answer["ring"])
    caught_up = catch_up(gateway, clockwork, jobs(ml_settings), timedelta(seconds=settings.ml_reconcile_seconds))
    done = Reconciled(expired=answer["expired"], finished=answer["finished"], rung=rung, caught_up=caught_up)
    if any(done.values()):
        _log.info("reconciled", **done)
    return done
