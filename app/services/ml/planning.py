"""What is computed for one tenant, if anything: a fit, or the active model carried forward."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date

import structlog

from app import __version__
from app.config.ml_settings import MLSettings
from app.db.store import Row
from app.services import runs
from app.services.ml.artifact import ArtifactKeys
from app.services.ml.candidates.base import Forecaster
from app.services.ml.candidates.global_levels import NAME as GLOBAL_LEVELS
from app.services.ml.candidates.global_levels import GlobalModel
from app.services.ml.candidates.global_lstm import NAME as GLOBAL_LSTM
from app.services.ml.candidates.global_lstm import global_candidates
from app.services.ml.fitted_model import FittedModel
from app.services.ml.global_store import GlobalModelStore
from app.services.ml.hashing import (
    carried_document,
    curtailed_document,
    fitted_under,
    input_document,
    input_hash,
    refreshed_document,
    with_global_model,
)
from app.services.ml.intake import TenantInput
from app.services.ml.lookout import Lookout
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.model_version_manager import ModelVersionManager
from app.services.ml.notes import Note, note
from app.services.ml.reanchoring import NOT_CARRIED, Anchor, comparison_phase, judge, judge_week
from app.services.ml.results import EngineResult, TrainingReport
from app.services.ml.series import DailySeries

_log = structlog.get_logger()


@dataclass(frozen=True)
class Task:
    """One claimed item with everything that its computation needs."""

    item: runs.Item
    settings: MLSettings
    keys: ArtifactKeys
    force: bool
    as_of: date | None
    report: TrainingReport

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """One of read, compute and publish, with its seconds on the report. Raises LeaseLost when it is too late."""
        self.item.enter(name)
        started = time.perf_counter()
        yield
        seconds = round(time.perf_counter() - started, 4)
        self.report["seconds"][name] = seconds
        _log.info("stage_done", stage=name, seconds=seconds)


@dataclass(frozen=True, eq=False)
class Plan:
    """What is computed: a fit, or (with ``anchor``) a stored model carried forward or refreshed."""

    known: TenantInput
    series: DailySeries
    settings: MLSettings
    fit_document: Row
    hung: Mapping[str, int]  # candidates that are left out
    anchor: Anchor | None = None
    others: tuple[type[Forecaster], ...] = ()  # that take part beside the settings' candidates

    @property
    def document(self) -> Row:
        """The text of the input hash and of the snapshot."""
        if self.anchor and self.anchor.refresh:
            return refreshed_document(self.fit_document, self.anchor.model.scored_hash)
        if self.anchor:
            return carried_document(self.fit_document, self.anchor.model_version)
        return curtailed_document(self.fit_document, self.hung) if self.hung else self.fit_document


def make_plan(task: Task, known: TenantInput, series: DailySeries, settings: MLSettings) -> Plan | None:
    """What to compute; None when the current forecast was made just so. Notes the input hash on the report."""
    document = input_document(
        series,
        known.calendar,
        settings,
        tenant=asdict(known.tenant),
        stale=known.stale,
        code_version=__version__,
    )
    plan = Plan(known, series, settings, document, task.item.hung)
    if settings.global_model:
        plan = _with_global_model(task, plan)
    if _is_current(task, plan):
        return None
    judged = _judged(task, plan)
    if isinstance(judged, Anchor):
        plan = replace(plan, anchor=judged)
        return None if _is_current(task, plan) else plan
    task.report["refit_reason"] = judged
    return plan


def carry_out(task: Task, plan: Plan) -> tuple[EngineResult, Plan]:
    """The result, and the plan as it was carried out: a model that cannot be carried forward is fitted anew."""
    lookout = Lookout(task.item.computing, plan.hung)
    calendar = plan.known.calendar
    if (anchor := plan.anchor) is not None:
        # Estimated anew, a member is so from the newest global model; carried forward, it needs the one it had.
        others = plan.others if anchor.refresh else _others_of(task, plan, anchor.model)
        engine = BusinessMLEngine(plan.settings, others=others, lookout=lookout)
        try:
            result = anchor.forecast(engine, plan.series, calendar)
        except NOT_CARRIED as error:
            _log.warning("model_not_carried_forward", code=error.code, reason=error.message)
            task.report["refit_reason"] = error.message
            plan = replace(plan, anchor=None)
        else:
            task.report["reanchored"] = not anchor.refresh
            return result, plan
    engine = BusinessMLEngine(plan.settings, others=plan.others, lookout=lookout)
    return engine.forecast(plan.series, calendar), plan


def _with_global_model(task: Task, plan: Plan) -> Plan:
    """The plan with the candidates of the global model; why there is none becomes a note."""
    found = _global_model(task, plan)
    if isinstance(found, Note):
        task.report["notes"] = [*task.report["notes"], found.as_dict()]
        candidates, version = global_candidates(str(found), plan.settings), None
    else:
        candidates, version = global_candidates(found, plan.settings), found.version
        if plan.settings.global_lstm and not found.has_network:
            task.report["notes"] = [*task.report["notes"], note("no_network").as_dict()]
    return replace(plan, others=candidates, fit_document=with_global_model(plan.fit_document, version))


def _others_of(task: Task, plan: Plan, model: FittedModel) -> tuple[type[Forecaster], ...]:
    """The global model that a stored model was blended with, of its own version; nothing where it was not."""
    states = [model.members[name] for name in (GLOBAL_LEVELS, GLOBAL_LSTM) if name in model.members]
    if not states:
        return ()
    found = _global_model(task, plan, str(states[0].get("version")))
    return global_candidates(str(found) if isinstance(found, Note) else found, plan.settings)


def _global_model(task: Task, plan: Plan, version: str | None = None) -> GlobalModel | Note:
    """That version, or the newest, or why there is none."""
    store = GlobalModelStore(task.item.store.gateway, task.keys)
    return store.find(plan.series.end, plan.settings.model_max_age_days, version)


def _judged(task: Task, plan: Plan) -> Anchor | str:
    """The model to go on with, or why one is fitted from nothing."""
    settings, series = plan.settings, plan.series
    if not task.item.reanchor and settings.rescore_days == 1:
        return ""
    saved = ModelVersionManager(task.item.store, task.keys).load_active_model()
    under = fitted_under(plan.fit_document)
    if task.item.reanchor:
        return judge(saved, under, series.end, settings.model_max_age_days)
    phase = comparison_phase(task.item.store.tenant_id, settings.rescore_days)
    return judge_week(saved, under, series, plan.known.calendar, settings.rescore_days, phase)


def _is_current(task: Task, plan: Plan) -> bool:
    task.report["input_hash"] = input_hash(plan.document)
    current = plan.known.current
    return bool(current and current.input_hash == task.report["input_hash"] and not task.force)
