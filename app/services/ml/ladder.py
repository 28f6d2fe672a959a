"""What is left when candidates cannot be compared, or all of them failed: the simplest sound method, by rule.

The last rung is arithmetic on the days known and cannot fail, so one day of sales is enough for a forecast.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.config.ml_settings import MLSettings
from app.errors import CandidateFailed, CandidateUnavailable
from app.services.ml.anomalies import days_judged_by
from app.services.ml.backtest import checked, guarded
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.base import Forecaster, State
from app.services.ml.notes import Note, note
from app.services.ml.series import SEASON, DailySeries, FloatArray

RUNGS = ("weekday_mean", "snaive")  # best first; each needs its `min_history`
LAST_RUNG = "mean"


@dataclass(frozen=True, eq=False)
class Member:
    """A fitted member of the forecast: shape (horizon,) and (n_days,).

    ``fitted`` is nan where there is no fit, and may be before the days that anomalies are judged by.
    """

    name: str
    forecast: FloatArray
    fitted: FloatArray
    state: State


def fit_member(
    candidate: type[Forecaster],
    series: DailySeries,
    calendar: Calendar,
    settings: MLSettings,
    state: State | None = None,
) -> Member:
    """Fit a candidate on the whole history, from an earlier ``state`` if there is one, and check all that it gives.

    Raises
    ------
    CandidateFailed, CandidateUnavailable : with the reason, whatever the candidate did
    """
    with guarded(candidate.name):
        model = candidate.from_settings(settings)
        model = model.fit(series, calendar) if state is None else model.refit(state, series, calendar)
        return _member(model, series, settings)


def observe_member(
    candidate: type[Forecaster], state: State, series: DailySeries, calendar: Calendar, settings: MLSettings
) -> Member:
    """A stored member re-anchored on ``series``, nothing estimated, checked like a fitted one; its state stays.

    Raises
    ------
    CandidateFailed, CandidateUnavailable : with the reason, whatever the candidate did; a state that it refuses too
    """
    with guarded(candidate.name):
        if len(series) < candidate.min_history:
            raise CandidateFailed(f"{candidate.name} needs {candidate.min_history} days; there are {len(series)}.")
        model = candidate.from_state(state, settings).observe(series, calendar)
        return replace(_member(model, series, settings), state=state)


def fallback(
    candidates: Sequence[type[Forecaster]], series: DailySeries, calendar: Calendar, settings: MLSettings
) -> tuple[Member, Note]:
    """The first rung that holds, and why it was taken.

    Parameters
    ----------
    candidates : where the rungs are looked up by name; one that is absent, too short of history or failing is skipped
    series : one day or more

    Returns
    -------
    (Member, reason) : always
    """
    known = {candidate.name: candidate for candidate in candidates}
    for name in RUNGS:
        candidate = known.get(name)
        if candidate is None or len(series) < candidate.min_history:
            continue
        try:
            member = fit_member(candidate, series, calendar, settings)
        except (CandidateFailed, CandidateUnavailable):
            continue  # the next rung is simpler; the engine's score table keeps the reasons
        return member, note("too_short_to_compare", n=len(series), method=name)
    member = _mean_of_days(series, calendar, settings)
    return member, note("too_short_to_compare", n=len(series), method=LAST_RUNG)


def _member(model: Forecaster, series: DailySeries, settings: MLSettings) -> Member:
    forecast = checked(model.predict(settings.horizon_days), settings.horizon_days, series, model.name)
    since = max(len(series) - days_judged_by(settings), 0)
    fitted = np.asarray(model.fitted_values(since), dtype=np.float64)
    if fitted.shape != series.y.shape:
        raise CandidateFailed(f"{model.name} gave fitted values of another shape than its series.")
    return Member(model.name, forecast, np.where(np.isfinite(fitted), fitted, np.nan), model.get_state())


def _mean_of_days(series: DailySeries, calendar: Calendar, settings: MLSettings) -> Member:
    """The mean of the last week's days that were not announced as closed."""
    recent = series.tail(SEASON)
    traded = recent.y[~calendar.closures(recent.start, len(recent))]
    level = float((traded if traded.size else recent.y).mean())
    state: State = {"name": LAST_RUNG, "level": level, "trained_through": series.end.isoformat()}
    return Member(LAST_RUNG, np.full(settings.horizon_days, level), np.full(len(series), level), state)
