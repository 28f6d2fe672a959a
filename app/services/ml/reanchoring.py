"""May the active model be carried forward to the newest days, or has it to be fitted anew, and why?"""

import hashlib
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from app.errors import ArtifactRefused, CandidateFailed, CandidateUnavailable, ModelOutdated
from app.services.ml.calendar import Calendar
from app.services.ml.fitted_model import FittedModel
from app.services.ml.ml_engine import BusinessMLEngine
from app.services.ml.model_version_manager import SavedModel
from app.services.ml.results import EngineResult
from app.services.ml.series import DailySeries
from app.tenancy import TenantId

NOT_CARRIED = (CandidateFailed, CandidateUnavailable, ModelOutdated)  # what `Anchor.forecast` may raise


@dataclass(frozen=True, eq=False)
class Anchor:
    """A stored model that may be carried forward; ``refresh`` when its members are estimated on the way."""

    model_version: str
    model: FittedModel
    refresh: bool = False

    def forecast(self, engine: BusinessMLEngine, series: DailySeries, calendar: Calendar) -> EngineResult:
        """The model carried forward to the end of ``series``. Raises one of `NOT_CARRIED` where a fit is needed."""
        go_on = engine.refresh if self.refresh else engine.reanchor
        return go_on(self.model, series, calendar)


def judge(saved: SavedModel | None, settings: dict[str, Any], as_of: date, max_age_days: int) -> Anchor | str:
    """The model to carry forward to ``as_of``, or the reason in words why it cannot be.

    Parameters
    ----------
    saved : the active model; None when there is none that verifies
    settings : `fitted_under` of the input of now; other ones than those of the fit need a fit
    max_age_days : most days that ``as_of`` may lie behind the last day that the parameters have seen
    """
    if saved is None:
        return "There is no stored model that verifies."
    try:
        model = FittedModel.from_state(saved.state)
    except ArtifactRefused as refused:
        return refused.message
    return _objection(model, settings, as_of, max_age_days) or Anchor(saved.model_version, model)


def judge_week(
    saved: SavedModel | None,
    settings: dict[str, Any],
    series: DailySeries,
    calendar: Calendar,
    rescore_days: int,
    phase: int,
) -> Anchor | str:
    """The comparison that the weekly run goes on with, its members estimated anew, or why all candidates are compared.

    Parameters are those of `judge` and `due`.
    """
    judged = judge(saved, settings, series.end, rescore_days)
    if isinstance(judged, str):
        return judged
    return due(judged.model, series, calendar, rescore_days, phase) or replace(judged, refresh=True)


def due(model: FittedModel, series: DailySeries, calendar: Calendar, rescore_days: int, phase: int) -> str:
    """Why the weekly run compares all candidates anew, in words; "" when it goes on with those chosen last time.

    Parameters
    ----------
    series, calendar : what is known now
    rescore_days : days between two comparisons
    phase : in 0 .. rescore_days - 1, of the tenant (see `comparison_phase`): on which of these days they are made
    """
    age = (series.end - model.scored_through).days
    if age <= 0:
        return "There are no newer days."
    if _period(series.end, rescore_days, phase) > _period(model.scored_through, rescore_days, phase):
        return f"The candidates were compared {age} days ago: it is this tenant's turn."
    if model.past is None or model.history is None:
        return "The last comparison left candidates out, or no past forecasts with which newer days could be scored."
    return model.history.change(series, calendar)


def comparison_phase(tenant_id: TenantId, rescore_days: int) -> int:
    """The days by which a tenant's comparisons are earlier than others', in 0 .. rescore_days - 1.

    It is a digest of the tenant's id: tenants that started on one day are spread evenly over the weeks.
    """
    digest = hashlib.sha256(tenant_id.bytes).digest()
    return int.from_bytes(digest[:8], "big") % rescore_days


def _period(day: date, rescore_days: int, phase: int) -> int:
    """Which span of ``rescore_days`` days a day is in; they are counted from the calendar's first day."""
    return (day.toordinal() + phase) // rescore_days


def _objection(model: FittedModel, settings: dict[str, Any], as_of: date, max_age_days: int) -> str:
    changed = sorted(name for name in settings | model.settings if settings.get(name) != model.settings.get(name))
    age = (as_of - model.trained_through).days
    if changed:
        return f"Settings have changed since the model was fitted: {', '.join(changed)}."
    if model.level == "fallback":
        return "The model was chosen by rule: with new days a better one may be possible."
    if age < 0:
        return f"The model has seen sales after {as_of}, through {model.trained_through}."
    if age > max_age_days:
        return f"The model is {age} days old; {max_age_days} are allowed."
    return ""
