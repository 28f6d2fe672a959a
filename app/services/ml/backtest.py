"""Rolling-origin cross-validation: every candidate forecasts the same past days, knowing only what was known then."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from app.config.ml_settings import MLSettings
from app.errors import CandidateFailed, CandidateUnavailable
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.base import Forecaster
from app.services.ml.lookout import NO_LOOKOUT, Lookout
from app.services.ml.metrics import METRICS
from app.services.ml.series import SEASON, BoolArray, DailySeries, FloatArray

FOLD_SHARE = 0.6  # of the history at most goes into folds; the rest is there to learn from
MIN_TRAIN_DAYS = 2 * SEASON  # below it only a flat line can be learned, and comparing would choose it
RACE_RATIO = 1.3  # of the smallest error on the first fold: an expensive candidate that is farther off stops there
MAX_RATIO = 10.0  # a forecast this many times above the largest day ever seen is nonsense

Status = Literal["scored", "failed", "left_out"]
NO_FORECASTS: FloatArray = np.empty((0, 0))

# Turns a candidate's raw forecast from the end of ``series`` into what would be published (floor, closed days).
Adjust = Callable[[FloatArray, DailySeries], FloatArray]


@dataclass(frozen=True)
class Fold:
    """Days before ``cutoff`` (an index) are known; the ``horizon`` days from ``cutoff`` on are forecast."""

    cutoff: int
    horizon: int


@dataclass(frozen=True, eq=False)
class CandidateRun:
    """One candidate over all folds: its forecasts, shape (n_folds, horizon), or why there are none."""

    name: str
    status: Status
    reason: str = ""
    forecasts: FloatArray = field(default_factory=lambda: NO_FORECASTS)
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Out-of-fold forecasts of all candidates on shared folds.

    ``actual`` has shape (n_folds, horizon); ``runs`` has one row per candidate, in the order given. ``closed`` has
    shape (n_days,): closures, announced or found, whose days say nothing about a forecast; None when there are none.
    """

    series: DailySeries
    folds: tuple[Fold, ...]
    actual: FloatArray
    runs: tuple[CandidateRun, ...]
    closed: BoolArray | None = None

    @property
    def scored(self) -> tuple[CandidateRun, ...]:
        """The candidates that gave a sound forecast on every fold."""
        return tuple(run for run in self.runs if run.status == "scored")

    def without(self, failures: Mapping[str, str]) -> "CrossValidation":
        """The same with some candidates marked as failed, each with its reason."""
        runs = (
            replace(run, status="failed", reason=failures[run.name]) if run.name in failures else run
            for run in self.runs
        )
        return replace(self, runs=tuple(runs))

    def fold_metric(self, forecasts: FloatArray, metric: str) -> FloatArray:
        """A metric of `METRICS` on the open days of each fold, shape (n_folds,); nan where it is undefined."""
        measure = METRICS[metric]
        return np.array([measure(*compared) for compared in self._compared(forecasts)])

    def metrics(self, forecasts: FloatArray) -> dict[str, float]:
        """Every metric of `METRICS` as its mean over the folds where it is defined; undefined ones are left out."""
        compared = list(self._compared(forecasts))
        means = {name: _mean_of_defined([measure(*fold) for fold in compared]) for name, measure in METRICS.items()}
        return {name: value for name, value in means.items() if math.isfinite(value)}

    def _compared(self, forecasts: FloatArray) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
        """What metrics take: actual and forecast on the open days of each fold, and the history before it."""
        for fold, actual, forecast in zip(self.folds, self.actual, forecasts, strict=True):
            history = self.series.y[: fold.cutoff]
            if self.closed is None:
                yield actual, forecast, history
            else:
                judged = ~self.closed[fold.cutoff : fold.cutoff + fold.horizon]
                yield actual[judged], forecast[judged], history


def rolling_origins(n_days: int, horizon: int, n_folds: int, closed: BoolArray | None = None) -> tuple[Fold, ...]:
    """The last ``n_folds`` spans of ``horizon`` days, back to back, oldest first, around long closures.

    ::

        history  ....................................
        fold 1   .....................======             . known to the candidate
        fold 2   ...........................======       = forecast and compared
        fold 3   .................................======

    Folds take at most 60 % of the history and leave two weeks to learn from. When it is too short, the folds are
    shortened to whole weeks, and when not even one week each is left, their number is reduced. A history below 21 days
    has no fold (with a horizon of h < 7 days: below 14 + h). A span of which half or more was closed compares nothing:
    it is moved back by whole weeks, and left out where the history has no place for it.

    Parameters
    ----------
    n_days : length of the history, days
    horizon, n_folds : days and number wanted, both >= 1
    closed : shape (n_days,), closures; None when there are none

    Returns
    -------
    tuple of Fold : empty when no fold can be made; all have the same horizon
    """
    budget = min(int(n_days * FOLD_SHARE), n_days - MIN_TRAIN_DAYS)
    for count in range(n_folds, 0, -1):
        span = budget // count
        length = horizon if span >= horizon else span // SEASON * SEASON
        if length > 0:
            return _spans_back_to_back(n_days, length, count, n_days - budget, closed)
    return ()


def _spans_back_to_back(
    n_days: int, length: int, count: int, earliest: int, closed: BoolArray | None
) -> tuple[Fold, ...]:
    """At most ``count`` folds from the end back to the cut-off ``earliest``, oldest first, mostly open ones only."""
    folds: list[Fold] = []
    cutoff = n_days - length
    while len(folds) < count and cutoff >= earliest:
        if closed is not None and 2 * int(closed[cutoff : cutoff + length].sum()) >= length:
            cutoff -= SEASON
            continue
        folds.append(Fold(cutoff, length))
        cutoff -= length
    return tuple(reversed(folds))


def cross_validate(
    series: DailySeries,
    calendar: Calendar,
    candidates: Sequence[type[Forecaster]],
    settings: MLSettings,
    adjust: Adjust = lambda forecast, _: forecast,
    lookout: Lookout = NO_LOOKOUT,
) -> CrossValidation:
    """Forecast every fold with every candidate.

    Parameters are estimated once, at the earliest cut-off, and carried over the later ones by `observe`: no fold ever
    sees a parameter that has seen its days, and a candidate costs one estimation, not one per fold. An expensive
    candidate goes on after the first fold only when its error there is at most 1.3 times the smallest.

    Parameters
    ----------
    series, calendar : the whole history; what lies after a cut-off is never shown to a candidate
    candidates : classes; a failure of one becomes its row, with the reason
    settings : `horizon_days`, `cv_folds`, and what the candidates take
    adjust : applied to each raw forecast, with the days known at its cut-off
    lookout : told which candidate is at work; those that it objects to are "left_out"

    Returns
    -------
    CrossValidation : without folds every candidate that could take part is "left_out"
    """
    closures = calendar.closures(series.start, len(series))
    closed = closures if closures.any() else None
    folds = rolling_origins(len(series), settings.horizon_days, settings.cv_folds, closed)
    actual = np.array([series.y[fold.cutoff : fold.cutoff + fold.horizon] for fold in folds])
    trial = _Trial(series, calendar, folds, settings, adjust, lookout)
    runs: dict[str, CandidateRun] = {}
    for candidate in sorted(candidates, key=lambda candidate: candidate.expensive):  # the others set the mark
        runs[candidate.name] = _run(candidate, trial, _mark(runs.values(), trial))
    return CrossValidation(series, folds, actual, tuple(runs[candidate.name] for candidate in candidates), closed)


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """The one place where whatever a candidate raises becomes a `CandidateFailed` with the reason.

    Only the kind of a foreign error is kept, never its text: a library may quote the tenant's numbers in it.
    """
    try:
        with np.errstate(all="ignore"):  # what overflows is caught by `checked`
            yield
    except (CandidateFailed, CandidateUnavailable):
        raise
    except Exception as error:  # a candidate may raise anything; the others must go on
        raise CandidateFailed(f"{name} raised {type(error).__name__}.") from error


def checked(forecast: object, horizon: int, series: DailySeries, name: str) -> FloatArray:
    """A forecast that has the right shape, is finite and is no absurd multiple of anything ever sold.

    Raises
    ------
    CandidateFailed : naming the candidate and what is wrong
    """
    values = np.asarray(forecast, dtype=np.float64)
    if values.shape != (horizon,):
        raise CandidateFailed(f"{name} gave shape {values.shape} instead of ({horizon},).")
    if not np.isfinite(values).all():
        raise CandidateFailed(f"{name} gave a forecast that is not finite.")
    if np.abs(values).max() > MAX_RATIO * np.abs(series.y).max() + 1e-6:
        raise CandidateFailed(f"{name} gave a forecast more than {MAX_RATIO:.0f} times the largest day ever sold.")
    return values


@dataclass(frozen=True, eq=False)
class _Trial:
    """What is the same for every candidate of one cross-validation."""

    series: DailySeries
    calendar: Calendar
    folds: tuple[Fold, ...]
    settings: MLSettings
    adjust: Adjust
    lookout: Lookout

    def known(self, fold: Fold) -> DailySeries:
        """The days before a cut-off: one object for all candidates, which share what they derive from it."""
        return self.series.once(fold, lambda: self.series.head(fold.cutoff))

    def first_error(self, forecast: FloatArray) -> float:
        """`ML_CV_PRIMARY_METRIC` of a forecast of the first fold; nan where it is undefined."""
        fold = self.folds[0]
        known, until = fold.cutoff, fold.cutoff + fold.horizon
        return METRICS[self.settings.cv_primary_metric](self.series.y[known:until], forecast, self.series.y[:known])


def _mark(runs: Iterable[CandidateRun], trial: _Trial) -> float:
    """The smallest defined error on the first fold so far; inf when there is none, or no later fold to save."""
    scored = (run for run in runs if run.status == "scored")
    errors = [trial.first_error(run.forecasts[0]) for run in scored] if len(trial.folds) > 1 else []
    return min((error for error in errors if np.isfinite(error)), default=float("inf"))


def _run(candidate: type[Forecaster], trial: _Trial, mark: float) -> CandidateRun:
    name = candidate.name
    if objection := trial.lookout.objection(name):
        return CandidateRun(name, "left_out", objection)
    if not trial.folds:
        return CandidateRun(name, "left_out", "The history is too short to compare candidates.")
    known = trial.folds[0].cutoff
    if known < candidate.min_history:
        reason = f"{name} needs {candidate.min_history} days before the first comparison; there are {known}."
        return CandidateRun(name, "left_out", reason)
    started = time.perf_counter()
    with trial.lookout.computing(name):
        forecasts, status, reason = _outcome(candidate, trial, mark)
    return CandidateRun(name, status, reason, forecasts, time.perf_counter() - started)


def _outcome(candidate: type[Forecaster], trial: _Trial, mark: float) -> tuple[FloatArray, Status, str]:
    """Forecasts of all folds, or why there are none."""
    forecasts: list[FloatArray] = []
    try:
        for forecast in _forecasts(candidate, trial):
            forecasts.append(forecast)
            if candidate.expensive and len(forecasts) == 1 and trial.first_error(forecast) > RACE_RATIO * mark:
                return NO_FORECASTS, "left_out", f"{candidate.name} was stopped: {_behind(trial, forecast, mark)}"
    except CandidateUnavailable as error:
        return NO_FORECASTS, "left_out", error.message
    except CandidateFailed as error:
        return NO_FORECASTS, "failed", error.message
    return np.array(forecasts), "scored", ""


def _behind(trial: _Trial, forecast: FloatArray, mark: float) -> str:
    metric = trial.settings.cv_primary_metric.upper()
    return f"{metric} {trial.first_error(forecast):.4g} on the first past period, the best reached {mark:.4g}."


def _forecasts(candidate: type[Forecaster], trial: _Trial) -> Iterator[FloatArray]:
    fitted: Forecaster | None = None
    for fold in trial.folds:
        known = trial.known(fold)
        with guarded(candidate.name):
            if fitted is None:
                fitted = candidate.from_settings(trial.settings).fit(known, trial.calendar)
                current = fitted
            else:
                current = fitted.observe(known, trial.calendar)
            raw = current.predict(fold.horizon)
            forecast = checked(raw, fold.horizon, known, candidate.name)
        yield trial.adjust(forecast, known)


def _mean_of_defined(values: Sequence[float]) -> float:
    defined = [value for value in values if math.isfinite(value)]
    return sum(defined) / len(defined) if defined else math.nan
