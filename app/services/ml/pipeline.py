"""One tenant, one run: read, compute, write.

Rows come in through one door (`ml_read_input`), forecasting is arithmetic on arrays, and the result leaves through one
door (`ml_publish_item`) in one fenced transaction. Every failure ends here, typed, on this tenant's item alone.
"""

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any, cast
from uuid import UUID

import structlog
from billiard.exceptions import SoftTimeLimitExceeded

from app import __version__
from app.config.ml_settings import MLSettings
from app.config.overrides import Refusal, apply_overrides
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import Row, TenantStore
from app.errors import OutOfTime, TenantBusy, TenantcastError, Transient, UnknownRun, UnknownTenant
from app.services import runs
from app.services.ml.artifact import ArtifactKeys, load_keys
from app.services.ml.candidates import candidate_names
from app.services.ml.country import COUNTRY_NOTES, note_on_country
from app.services.ml.fitted_model import FittedModel
from app.services.ml.hashing import fitted_under, input_hash, output_hash, pack_snapshot
from app.services.ml.history_mark import HistoryMark
from app.services.ml.intake import TenantInput, read_tenant_input
from app.services.ml.model_version_manager import MODEL_TYPE, ModelVersionManager
from app.services.ml.planning import Plan, Task, carry_out, make_plan
from app.services.ml.results import EngineResult, TrainingReport
from app.services.ml.training_report import add_error, add_input, add_result, changes_since, empty_report, finite
from app.services.notifications.publishing import publish_notices
from app.tenancy import TenantId, parse_tenant_id

ALONE = "tenant"  # the kind of a run that consists of one tenant
ON_DEMAND = "predict"  # the same, and the active model is carried forward where it can be
BUSY_POLL_SECONDS = 2.0

_log = structlog.get_logger()


def train_and_predict_sales(
    business_id: object,
    *,
    gateway: Gateway | None = None,
    run_id: UUID | None = None,
    fence: int | None = None,
    settings: MLSettings | None = None,
    environment: Settings | None = None,
    force: bool = False,
    as_of: date | None = None,
    reanchor: bool = False,
) -> TrainingReport:
    """Forecast one tenant's daily sales and publish the result; the report says what was done and why.

    Parameters
    ----------
    business_id : the tenant's UUID, or the product's name of it
    gateway : closed by its owner; without one the database of ``environment`` is opened for this call
    run_id : the run whose item is claimed; without one a run of this tenant alone is made and ended
    fence : the caller has claimed the item of ``run_id`` already, as this number
    settings : defaults and environment; the tenant's valid overrides come on top
    force : compute again although the input is that of the current forecast
    as_of : use sales through this business day only
    reanchor : carry the active model forward to the newest days; a model is fitted only where that cannot be

    Returns
    -------
    TrainingReport : status ``published``, ``unchanged`` (nothing to do), ``no_sales_yet``, ``older`` (a newer forecast
        stands), ``lost`` (another worker took over; nothing was written) or ``failed`` (``error`` says why; what was
        published before stands)

    Raises
    ------
    TenantBusy : another worker is at work on this tenant
    UnknownRun : the run does not exist or does not hold this tenant
    InvalidTenantId, ConfigError, DatabaseUnavailable : before the item was claimed
    """
    tenant_id = parse_tenant_id(business_id)
    environment = environment or Settings()
    settings = settings or MLSettings()
    keys = load_keys(environment)
    with _opened(gateway, environment) as database:
        store = TenantStore(database, tenant_id)
        if run_id is None:
            return _train_alone(store, environment, settings, keys, force=force, as_of=as_of, reanchor=reanchor)
        if fence is not None:
            claimed: runs.Claim | runs.NotClaimed = runs.Claim(fence, reanchor=reanchor)
        else:
            claimed = runs.claim_item(store, run_id, environment.ml_lease_seconds, environment.ml_task_seconds)
        if isinstance(claimed, runs.NotClaimed):
            return _not_claimed(tenant_id, run_id, claimed, settings)
        item = runs.Item(store, run_id, claimed, environment.ml_lease_seconds, environment)
        return train_item(
            item, settings, keys, force=force or claimed.force, as_of=as_of or claimed.as_of, may_retry=True
        )


def train_item(
    item: runs.Item, settings: MLSettings, keys: ArtifactKeys, *, force: bool, as_of: date | None, may_retry: bool
) -> TrainingReport:
    """Read, compute, write for an item that this process has claimed. Raises nothing but interruptions."""
    tenant_id = str(item.store.tenant_id)
    report = empty_report(tenant_id, str(item.run_id), settings)
    task = Task(item, settings, keys, force, as_of, report)
    started = time.perf_counter()
    with structlog.contextvars.bound_contextvars(run=str(item.run_id), tenant=tenant_id):
        try:
            with item.held():
                _read_compute_write(task)
        except TenantcastError as error:
            _note_failure(task, error, may_retry=may_retry)
        except Exception as error:  # noqa: BLE001 - the one edge: a tenant's failure never reaches another tenant
            _note_failure(task, unexpected(error), may_retry=may_retry)
        _log.info("tenant_done", status=report["status"], seconds=round(time.perf_counter() - started, 3))
    return report


def _read_compute_write(task: Task) -> None:
    report = task.report
    with task.stage("read"):
        known, settings, refused = _read(task)
        add_input(report, known, settings, refused)
        if known.series is None:
            report["status"], report["reason"] = "no_sales_yet", "There are no sales yet: nothing can be forecast."
            task.item.finish("skipped", "no sales yet", cast("Row", report), None)
            return
        plan = make_plan(task, known, known.series, settings)
        if plan is None:
            _leave_unchanged(task, known)
            return
        previous = task.item.store.read_forecast()
    with task.stage("compute"):
        result, plan = carry_out(task, plan)
        add_result(report, result, settings)
        report["notes"] += _about_country(plan, previous)
        report["changes"] = changes_since(previous, report["forecast"])
        report["input_hash"] = input_hash(plan.document)
        report["output_hash"] = output_hash(result)
    with task.stage("publish"):
        _publish(task, result, plan)


def _about_country(plan: Plan, previous: Row) -> list[dict[str, Any]]:
    """Whether the country seems right: looked at with every fit; a model carried forward is under the same country."""
    if plan.anchor is None:
        return [note.as_dict() for note in note_on_country(plan.series, plan.known.calendar.country)]
    before = (previous.get("report") or {}).get("notes") or []
    return [stored for stored in before if stored["code"] in COUNTRY_NOTES]


def _read(task: Task) -> tuple[TenantInput, MLSettings, list[Refusal]]:
    """The tenant's input under its own settings: overrides that change what is read are read again with."""
    row = _read_row(task, task.settings)
    settings, refused = apply_overrides(task.settings, row.get("settings"), candidate_names())
    for refusal in refused:
        _log.warning("override_refused", field=refusal.field, value=refusal.value, reason=refusal.reason)
    if _reads(settings) != _reads(task.settings):
        row = _read_row(task, settings)
    known = read_tenant_input(row, settings)
    if known is None:
        raise UnknownTenant(
            f"There is no tenant {task.item.store.tenant_id}.",
            next_step="Import its sales, or look at the view tenantcast_source.tenant_source.",
            tenant_id=str(task.item.store.tenant_id),
        )
    return known, settings, refused


def _read_row(task: Task, settings: MLSettings) -> Row:
    return task.item.store.read_input(task.as_of, *_reads(settings))


def _reads(settings: MLSettings) -> tuple[int, int]:
    return settings.max_train_window_days, settings.stale_after_days


def _leave_unchanged(task: Task, known: TenantInput) -> None:
    report, current = task.report, known.current
    report["status"], report["reason"] = "unchanged", "Nothing changed since the current forecast was made."
    report["output_hash"] = current.output_hash if current else None
    report["model_version"] = current.model_version if current else None
    task.item.finish("done", "unchanged", cast("Row", report), report["input_hash"])


def _publish(task: Task, result: EngineResult, plan: Plan) -> None:
    report = task.report
    model = _model_row(task, result, plan)
    report["model_version"] = model["model_version"]
    report["status"] = "published"
    answer = task.item.publish(
        {
            "as_of": report["as_of"],
            "input_hash": report["input_hash"],
            "output_hash": report["output_hash"],
            "code_version": __version__,
            "predictions": report["forecast"],
            "totals": report["totals"],
            "anomalies": [
                {"date": a.day.isoformat(), "y": a.y, "score": a.score, "is_anomaly": a.is_anomaly}
                for a in result.anomalies
            ],
            "confidence_score": result.confidence_score,
            "model": model,
            "snapshot": pack_snapshot(plan.document),
            "report": report,
            "notifications": publish_notices(report, plan.settings),
        }
    )
    if answer["outcome"] == "older":
        report["status"] = "older"
        report["reason"] = f"The current forecast is newer: it knows the sales through {answer['as_of']}."
        task.item.finish("skipped", report["reason"], cast("Row", report), report["input_hash"])


def _model_row(task: Task, result: EngineResult, plan: Plan) -> Row:
    """The part ``model`` of what is published: a new version, or the name of the one that was carried forward."""
    if plan.anchor is not None and not plan.anchor.refresh:
        return {"model_type": MODEL_TYPE, "model_version": plan.anchor.model_version, "reused": True}
    metrics = finite(result.metrics)
    saved = ModelVersionManager(task.item.store, task.keys).save_model(
        _model(result, plan, str(task.report["output_hash"])).to_state(),
        model_version=f"{result.as_of:%Y%m%d}.{task.item.fence}",
        run_id=task.item.run_id,
        fence=task.item.fence,
        hyperparameters={
            "chosen": result.chosen,
            "weights": result.weights,
            "settings": plan.settings.model_dump(mode="json"),
        },
        training_metrics={"metrics": metrics, "scores": task.report["scores"]},
        accuracy=max(0.0, 1.0 - metrics["wape"]) if "wape" in metrics else None,
    )
    return saved.as_row()


def _model(result: EngineResult, plan: Plan, result_hash: str) -> FittedModel:
    """What is stored. A comparison without candidates that hung has no mark, so that the next run makes it anew."""
    if plan.anchor is not None:
        return plan.anchor.model.refreshed(result)
    history = None if plan.hung else HistoryMark.of(plan.series, plan.known.calendar)
    return FittedModel.of(result, fitted_under(plan.fit_document), history, result_hash)


def _note_failure(task: Task, error: TenantcastError, *, may_retry: bool) -> None:
    """Put the error on the report and on the item; an item that cannot even be told comes back with its lease."""
    add_error(task.report, error)
    _log.warning("tenant_failed", kind=error.kind, code=error.code, message=error.message)
    if error.kind == "lost":
        return
    try:
        task.item.fail(error, again=may_retry and isinstance(error, Transient))
    except TenantcastError as second:
        _log.warning("failure_not_noted", kind=second.kind, code=second.code)


def unexpected(error: Exception) -> TenantcastError:
    """An error of ours that nobody foresaw: where it happened, never its text, which may hold a sales row."""
    if isinstance(error, SoftTimeLimitExceeded):
        return OutOfTime(
            "The tenant took longer than a task may; the forecast before stands.",
            next_step="Give it fewer candidates or a shorter window, or raise ML_TASK_SECONDS; then try it again.",
        )
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].name}, line {frames[-1].lineno}" if frames else "an unknown place"
    _log.error(
        "unexpected_error", type=type(error).__name__, at=[f"{f.filename}:{f.lineno} {f.name}" for f in frames[-8:]]
    )
    return TenantcastError(
        f"Unexpected {type(error).__name__} in {where}.",
        next_step="The forecast before stands. Please report this with the log's `unexpected_error`.",
    )


def _train_alone(
    store: TenantStore,
    environment: Settings,
    settings: MLSettings,
    keys: ArtifactKeys,
    *,
    force: bool,
    as_of: date | None,
    reanchor: bool,
) -> TrainingReport:
    kind = ON_DEMAND if reanchor else ALONE
    run_id = runs.start_run(
        store.gateway, kind, tenants=[store.tenant_id], force=force, as_of=as_of, reanchor=reanchor, ring=False
    )
    claimed = _wait_for_claim(store, run_id, environment.ml_lease_seconds)
    item = runs.Item(store, run_id, claimed, environment.ml_lease_seconds, environment)
    # What was asked for on demand is not lost with one failure: it goes back to the ledger, and workers take it up.
    report = train_item(item, settings, keys, force=force, as_of=as_of, may_retry=reanchor)
    runs.finish_run(store.gateway, run_id)
    return report


def _wait_for_claim(store: TenantStore, run_id: UUID, lease_seconds: int) -> runs.Claim:
    """Claim, waiting at most a lease for a worker that is at work on the tenant or has died."""
    deadline = time.monotonic() + lease_seconds + 2 * BUSY_POLL_SECONDS
    while True:
        claimed = runs.claim_item(store, run_id, lease_seconds)
        if isinstance(claimed, runs.Claim):
            return claimed
        if claimed.outcome not in {"busy", "later"} or time.monotonic() > deadline:
            raise _busy(store.tenant_id, claimed)
        time.sleep(min(max(claimed.retry_in_seconds, 0.1), BUSY_POLL_SECONDS))


def _not_claimed(tenant_id: TenantId, run_id: UUID, answer: runs.NotClaimed, settings: MLSettings) -> TrainingReport:
    """A repeated call is harmless: what is finished is reported as unchanged, what is taken is left to its owner."""
    if answer.outcome == "finished":
        report = empty_report(str(tenant_id), str(run_id), settings)
        report["status"] = "unchanged"
        report["reason"] = f"This run is finished with this tenant already ({answer.state})."
        return report
    if answer.outcome == "unknown":
        raise UnknownRun(
            f"Run {run_id} does not exist or does not hold tenant {tenant_id}.",
            next_step="List the runs with `tenantcast runs list`.",
            tenant_id=str(tenant_id),
        )
    raise _busy(tenant_id, answer)


def _busy(tenant_id: TenantId, answer: runs.NotClaimed) -> TenantBusy:
    return TenantBusy(
        f"Another worker is at work on tenant {tenant_id}.",
        next_step=f"Try again in {max(answer.retry_in_seconds, 1)} s.",
        tenant_id=str(tenant_id),
    )


@contextmanager
def _opened(gateway: Gateway | None, environment: Settings) -> Iterator[Gateway]:
    if gateway is not None:
        yield gateway
        return
    from app.db.connect import open_gateway

    opened = open_gateway(environment)
    try:
        yield opened
    finally:
        opened.close()
