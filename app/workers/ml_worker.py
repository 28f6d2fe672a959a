"""Tasks of forecasting. Arguments come from Redis, where anyone may have written them: they are parsed as hostile."""

from celery import Task, shared_task

from app.services import item_work, retrain
from app.services.runs import parse_run_id
from app.tenancy import TenantId, parse_tenant_id
from app.workers.bell import CeleryBell
from app.workers.process import this_process
from app.workers.ticking import slot_of


@shared_task(name="app.workers.ml_worker.train_tenant", bind=True)
def train_tenant(self: Task, run_id: object, tenant_id: object) -> item_work.Look:
    """Look at one tenant of one run, and do what the ledger says is to be done."""
    here = this_process()
    return item_work.work_on(
        here.gateway,
        CeleryBell(self.app),
        here.settings,
        here.ml_settings,
        parse_run_id(run_id),
        parse_tenant_id(tenant_id),
    )


@shared_task(name="app.workers.ml_worker.retrain_all_models", bind=True)
def retrain_all_models(self: Task, tenant_ids: object = None, force: object = False) -> retrain.StartedRun:
    """Start a run over all allowed tenants, or the given ones, and ring for it; nothing is computed here."""
    here = this_process()
    return retrain.start_retrain(
        here.gateway,
        CeleryBell(self.app),
        here.settings,
        here.ml_settings,
        slot=slot_of(self),
        tenants=_tenants(tenant_ids),
        force=force is True,
    )


def _tenants(given: object) -> list[TenantId] | None:
    if given is None:
        return None
    return [parse_tenant_id(each) for each in (given if isinstance(given, list) else [given])]
