"""Tasks of forecasting. Arguments come from Redis, where anyone may have written them: they are parsed as hostile."""

from celery import shared_task

from app.services import item_work
from app.services.runs import parse_run_id
from app.tenancy import parse_tenant_id
from app.workers.process import this_process


@shared_task(name="app.workers.ml_worker.train_tenant")
def train_tenant(run_id: object, tenant_id: object) -> item_work.Look:
    """Look at one tenant of one run, and do what the ledger says is to be done."""
    here = this_process()
    return item_work.work_on(
        here.gateway, here.settings, here.ml_settings, parse_run_id(run_id), parse_tenant_id(tenant_id)
    )
