"""Tasks of forecasting. Arguments come from Redis, where anyone may have written them: they are parsed as hostile.

Celery logs what a task gives back: reports here name tenants and outcomes, never a forecast or a day's sales.
"""

from typing import TYPE_CHECKING, TypedDict

from celery import Task, shared_task

from app.services import global_training, item_work, retrain
from app.services.runs import parse_run_id
from app.tenancy import TenantId, parse_tenant_id
from app.workers.bell import CeleryBell
from app.workers.process import this_process
from app.workers.ticking import slot_of

if TYPE_CHECKING:
    from app.services.features import FeatureReport, PageReport


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


@shared_task(name="app.workers.ml_worker.train_global_model", bind=True)
def train_global_model(self: Task) -> global_training.StartedTraining:
    """Start the training of the global model, and ring for it; nothing is computed here."""
    here = this_process()
    return global_training.start_training(here.gateway, CeleryBell(self.app), here.settings, slot=slot_of(self))


class Predicted(TypedDict):
    """What became of a forecast on demand."""

    tenant_id: str
    prediction_type: str
    run_id: str | None
    status: str
    reanchored: bool
    rows: int


@shared_task(name="app.workers.ml_worker.generate_predictions")
def generate_predictions(
    tenant_id: object, prediction_type: object = "sales_forecast", force: object = False
) -> Predicted:
    """Carry a tenant's active model forward to its newest days, and publish."""
    from app.services.ml import predict

    here = this_process()
    made = predict.generate_predictions(
        parse_tenant_id(tenant_id),
        str(prediction_type),
        gateway=here.gateway,
        settings=here.ml_settings,
        environment=here.settings,
        force=force is True,
    )
    return Predicted(
        tenant_id=made["report"]["tenant_id"],
        prediction_type=made["prediction_type"],
        run_id=made["report"]["run_id"],
        status=made["report"]["status"],
        reanchored=made["reanchored"],
        rows=len(made["rows"]),
    )


@shared_task(name="app.workers.ml_worker.update_business_features", bind=True)
def update_business_features(
    self: Task, tenant_id: object = None, after: object = None
) -> "FeatureReport | PageReport":
    """Refresh `ml_features` of one tenant; without one, of a page of tenants, and send the message of the next page."""
    from app.services import features

    here = this_process()
    if tenant_id is not None:
        one = parse_tenant_id(tenant_id)
        return features.update_features(here.gateway, one, ml_settings=here.ml_settings, settings=here.settings)
    begin = None if after is None else parse_tenant_id(after)
    page = features.update_page(here.gateway, after=begin, ml_settings=here.ml_settings, settings=here.settings)
    if page["next_after"] is not None:
        CeleryBell(self.app).turn_page(self.name, page["next_after"])
    return page


class Analysed(TypedDict):
    """Whose trends were stored, and for which day."""

    tenant_id: str
    as_of: str


@shared_task(name="app.workers.ml_worker.analyze_business_trends")
def analyze_business_trends(tenant_id: object) -> Analysed:
    """Compute a tenant's trends and store them for its dashboard."""
    from app.services import trends

    here = this_process()
    report = trends.analyze(
        here.gateway, parse_tenant_id(tenant_id), ml_settings=here.ml_settings, settings=here.settings
    )
    return Analysed(tenant_id=report["tenant_id"], as_of=report["as_of"])


def _tenants(given: object) -> list[TenantId] | None:
    if given is None:
        return None
    return [parse_tenant_id(each) for each in (given if isinstance(given, list) else [given])]
