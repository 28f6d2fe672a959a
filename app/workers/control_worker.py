"""Tasks that keep the ledger moving. They take milliseconds, on a queue of their own: they never wait for a fit."""

from celery import Task, shared_task

from app.services import reconcile as service
from app.workers.bell import CeleryBell
from app.workers.process import this_process


@shared_task(name="app.workers.control_worker.reconcile", bind=True)
def reconcile(self: Task) -> service.Reconciled:
    """Ring for what is due and was not taken up; see `app.services.reconcile`."""
    here, bell = this_process(), CeleryBell(self.app)
    return service.reconcile(here.gateway, bell, bell, here.settings, here.ml_settings)
