"""May the active model be carried forward to the newest days, or has it to be fitted anew, and why?"""

from dataclasses import dataclass
from datetime import date
from typing import Any

from app.errors import ArtifactRefused
from app.services.ml.calendar import Calendar
from app.services.ml.fitted_model import FittedModel
from app.services.ml.model_version_manager import SavedModel
from app.services.ml.series import DailySeries


@dataclass(frozen=True, eq=False)
class Anchor:
    """A stored model that may be carried forward; ``refresh`` when its members are estimated on the way."""

    model_version: str
    model: FittedModel
    refresh: bool = False


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


def due(model: FittedModel, series: DailySeries, calendar: Calendar, rescore_days: int) -> str:
    """Why the weekly run compares all candidates anew, in words; "" when it goes on with those chosen last time.

    Parameters
    ----------
    series, calendar : what is known now
    rescore_days : a comparison of that age is made anew
    """
    age = (series.end - model.scored_through).days
    if age <= 0:
        return "There are no newer days."
    if age >= rescore_days:
        return f"The candidates were compared {age} days ago."
    if model.past is None or model.history is None:
        return "The last comparison left candidates out, or no past forecasts with which newer days could be scored."
    return model.history.change(series, calendar)


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
