"""The weekly training of the global model: a run of its own with one item, of a scope that is no tenant.

Sales are read tenant by tenant, each in that tenant's own scope under row security, after its settings and only when it
agreed. Of what was read only a bounded sample of scale-free rows is kept, until the model is fitted.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TypedDict

import structlog

from app.config.ml_settings import MLSettings
from app.config.overrides import apply_overrides
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import SystemStore, TenantStore
from app.errors import DataError, NoGlobalModel, TenantBusy, TenantcastError, Transient
from app.services import runs
from app.services.bell import Bell
from app.services.ml.artifact import ArtifactKeys
from app.services.ml.calendar import Calendar
from app.services.ml.candidates import candidate_names
from app.services.ml.candidates.global_levels import GlobalModel
from app.services.ml.global_model import Gatherer, chosen_tenants
from app.services.ml.global_store import MODEL_TYPE, GlobalModelStore
from app.services.ml.intake import read_tenant_input
from app.services.ml.neural_training import device_for
from app.services.ml.pipeline import unexpected
from app.services.ml.series import DailySeries
from app.tenancy import EVERYONE, TenantId, parse_tenant_id

NAME = "the global model"
# Every tenant that sells has a finished business day that is not before this many days ago, wherever it is.
DAYS_BACK = 2

_log = structlog.get_logger()


class GlobalTraining(TypedDict):
    """What became of a training; JSON-safe, with the keys that every item's report has."""

    tenant_id: str
    tenant_name: str
    status: str  # published, unchanged, skipped, failed, lost
    reason: str
    as_of: str | None  # the last day that the model has seen
    tenants: int  # whose rows it was trained on
    rows: int
    cpu_seconds: float
    model_version: str | None


class StartedTraining(TypedDict):
    """A run that workers work off."""

    run_id: str
    rung: int


def start_training(
    gateway: Gateway, bell: Bell, settings: Settings, *, slot: datetime | None = None
) -> StartedTraining:
    """A run of one item for workers to work off; however often a slot is started, it has one run."""
    run_id = runs.start_run(gateway, runs.TRAINING, tenants=[EVERYONE], slot=slot)
    return StartedTraining(run_id=str(run_id), rung=runs.ring_next(gateway, bell, run_id, settings))


def train_now(
    gateway: Gateway, settings: Settings, ml_settings: MLSettings, keys: ArtifactKeys, *, as_of: date | None = None
) -> GlobalTraining:
    """Train in this process: a run of its own, started, worked off and ended.

    Parameters
    ----------
    as_of : the last day that the model may see; None: two days ago

    Raises
    ------
    TenantBusy : another worker is at it
    """
    run_id = runs.start_run(gateway, runs.TRAINING, tenants=[EVERYONE], as_of=as_of, ring=False)
    store = TenantStore(gateway, EVERYONE)
    claimed = runs.claim_item(store, run_id, settings.ml_lease_seconds, settings.ml_task_seconds)
    if isinstance(claimed, runs.NotClaimed):
        raise TenantBusy(
            "Another worker is training the global model.", next_step=f"Try again in {claimed.retry_in_seconds} s."
        )
    item = runs.Item(store, run_id, claimed, settings.ml_lease_seconds, settings)
    report = train_global_model(item, ml_settings, keys, as_of=claimed.as_of, may_retry=False)
    runs.finish_run(gateway, run_id)
    return report


def train_global_model(
    item: runs.Item, settings: MLSettings, keys: ArtifactKeys, *, as_of: date | None, may_retry: bool
) -> GlobalTraining:
    """Read, train and store for an item that this process has claimed. Raises nothing but interruptions."""
    report = GlobalTraining(
        tenant_id=str(EVERYONE), tenant_name=NAME, status="failed", reason="", as_of=None, tenants=0, rows=0,
        cpu_seconds=0.0, model_version=None,
    )  # fmt: skip
    with structlog.contextvars.bound_contextvars(run=str(item.run_id), tenant=NAME):
        try:
            with item.held():
                _train(item, settings, keys, as_of or _newest_day(item.store.gateway), report)
        except NoGlobalModel as error:
            report["status"], report["reason"] = "skipped", error.message
            _finish(item, report)
        except TenantcastError as error:
            _fail(item, report, error, may_retry=may_retry)
        except Exception as error:  # noqa: BLE001 - the one edge, as for a tenant
            _fail(item, report, unexpected(error), may_retry=may_retry)
        _log.info("global_model_done", **{key: value for key, value in report.items() if key != "tenant_id"})
    return report


def _train(item: runs.Item, settings: MLSettings, keys: ArtifactKeys, through: date, report: GlobalTraining) -> None:
    started = time.process_time()
    item.enter("read")
    gateway = item.store.gateway
    before_folds = through - timedelta(days=settings.cv_folds * settings.horizon_days)
    chosen = [parse_tenant_id(tenant_id) for tenant_id in chosen_tenants(agreed(gateway, settings))]
    device, no_network = device_for(settings)
    if no_network:
        _log.warning("no_network", reason=no_network)
    gatherer = Gatherer([before_folds, through], len(chosen), device)
    for tenant_id in chosen:
        item.enter("read")
        known = _read(gateway, tenant_id, settings, through)
        if known is not None:
            gatherer.add(*known)
    item.enter("compute")
    model = gatherer.train()
    report["as_of"], report["model_version"] = through.isoformat(), model.version
    report["tenants"], report["rows"] = gatherer.n_tenants, gatherer.n_rows
    report["cpu_seconds"] = round(time.process_time() - started, 3)
    item.enter("publish")
    _publish(item, keys, model, report, no_network)


def agreed(gateway: Gateway, settings: MLSettings) -> list[TenantId]:
    """Tenants whose sales may teach the global model, by id: each one's own setting decides, else the operator's."""
    tenants = list(_tenants(gateway, settings))
    own = SystemStore(gateway).read_settings(tenants)
    return [tenant_id for tenant_id in tenants if _agrees(settings, own.get(str(tenant_id)))]


def _agrees(settings: MLSettings, own: object) -> bool:
    return apply_overrides(settings, own, candidate_names())[0].global_model


def _newest_day(gateway: Gateway) -> date:
    """The last day that the model may see, by the database's clock."""
    now = datetime.fromisoformat(SystemStore(gateway).read_schedule()["now"])
    return now.astimezone(UTC).date() - timedelta(days=DAYS_BACK)


def _tenants(gateway: Gateway, settings: MLSettings) -> Iterator[TenantId]:
    allowed = settings.allowed_tenants()
    for row in SystemStore(gateway).list_tenants():
        tenant_id = parse_tenant_id(row["tenant_id"])
        if row.get("active") is not False and (allowed is None or tenant_id in allowed):
            yield tenant_id


def _read(
    gateway: Gateway, tenant_id: TenantId, settings: MLSettings, through: date
) -> tuple[DailySeries, Calendar] | None:
    """One tenant's sales through that day and its calendar; None when there is nothing to learn from."""
    row = TenantStore(gateway, tenant_id).read_input(through, settings.max_train_window_days, settings.stale_after_days)
    try:
        # Asked again: it may have changed its mind since it was counted.
        own, _ = apply_overrides(settings, row.get("settings"), candidate_names())
        known = read_tenant_input(row, own)
    except DataError as error:
        _log.warning("tenant_not_read", tenant=str(tenant_id), code=error.code)
        return None
    if known is None or known.series is None or not own.global_model:
        return None
    return known.series, replace(known.calendar, closed_weekdays=frozenset())


def _publish(item: runs.Item, keys: ArtifactKeys, model: GlobalModel, report: GlobalTraining, no_network: str) -> None:
    sealed = GlobalModelStore(item.store.gateway, keys).sealed(model, run_id=str(item.run_id), fence=item.fence)
    row = {
        "model_type": MODEL_TYPE,
        "model_version": model.version,
        "model_data": sealed,
        "hyperparameters": {"trained_through": [fit.trained_through.isoformat() for fit in model.fits]},
        "training_metrics": {"tenants": report["tenants"], "rows": report["rows"]},
        "accuracy": None,
    }
    without = f" Without a network: {no_network}" if no_network else ""
    report["status"], report["reason"] = "published", f"Trained on {report['tenants']} tenants.{without}"
    item.publish_model(row, dict(report))


def _finish(item: runs.Item, report: GlobalTraining) -> None:
    try:
        item.finish("skipped", report["reason"], dict(report), None)
    except TenantcastError as error:
        _log.warning("failure_not_noted", kind=error.kind, code=error.code)


def _fail(item: runs.Item, report: GlobalTraining, error: TenantcastError, *, may_retry: bool) -> None:
    report["status"] = "lost" if error.kind == "lost" else "failed"
    report["reason"] = error.message
    _log.warning("global_model_failed", kind=error.kind, code=error.code, message=error.message)
    if error.kind == "lost":
        return
    try:
        item.fail(error, again=may_retry and isinstance(error, Transient))
    except TenantcastError as second:
        _log.warning("failure_not_noted", kind=second.kind, code=second.code)
