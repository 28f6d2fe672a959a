"""Which candidates make the forecast, with which weights, and why: a blend with sharp weights, or the single best.

Both rules look at nothing but the errors on the shared folds. The seasonal naive is the floor: when it does better than
what the rule gives, it is used alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.services.ml.backtest import CandidateRun, CrossValidation
from app.services.ml.blending import blended
from app.services.ml.notes import Note, note
from app.services.ml.series import FloatArray

SHARPNESS = 5.0  # weight = error ** -5: plain inverse errors let weak candidates drag the blend down
WORST_RATIO = 1.5  # a candidate more than 50 % worse than the best takes no part; its weight would be an eighth
MIN_WEIGHT = 0.05  # a smaller weight costs a fit and changes nothing
FLOOR = "snaive"
SAME = 1e-9  # errors that differ by a smaller share are equal
# Times the weight that errors give; 1 where nothing is said. On the development data the simple methods and the classic
# two, where three folds put them near the best, owed it to luck more often than the others; `recursive`, the one that
# aims at the mean, errs apart from the rest.
PRIORS = {
    "naive": 0.1,
    "snaive": 0.1,
    "weekday_mean": 0.5,
    "weekday_median": 0.5,
    "sarimax": 0.3,
    "prophet": 0.5,
    "recursive": 1.5,
}

# Errors of the candidates on some folds, shape (n_candidates, n_folds), and their priors, shape (n_candidates,), to
# weights, shape (n_candidates,), sum 1.
Rule = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Selection:
    """The members of the forecast.

    ``out_of_fold`` has shape (n_folds, horizon): the members blended with weights that never saw the fold they are
    applied to (with a single fold there are no others, and the weights are those of that fold). Its residuals are
    honest, so intervals and accuracy are measured on it.
    """

    chosen: str  # "blend" or the name of the single member
    level: Literal["blend", "single"]
    weights: dict[str, float]  # of the members only, in the registry's order; sums to 1
    reason: Note
    out_of_fold: FloatArray


def select(validation: CrossValidation, metric: str, *, best_only: bool = False) -> Selection | None:
    """Blend the scored candidates (or pick the best of them), with the seasonal naive as the floor.

    Weights are prior * error ** -5 of the mean fold error; candidates more than 50 % worse than the best are left
    out, weights below 5 % dropped. Of candidates with equal errors only the simplest (the first in the registry)
    counts.

    Parameters
    ----------
    validation : candidates in the registry's order, simplest first
    metric : `ML_CV_PRIMARY_METRIC`; where it is undefined (a history that repeats itself) the MAE stands in
    best_only : `ML_SELECT_BEST`: the one with the smallest mean fold error instead of a blend

    Returns
    -------
    Selection, or None when no candidate was scored
    """
    runs = validation.scored
    if not runs:
        return None
    errors, metric = _fold_errors(validation, runs, metric)
    rule = best_weights if best_only else blend_weights
    priors = np.array([PRIORS.get(run.name, 1.0) for run in runs])
    out_of_fold = _honest_blend(runs, errors, priors, rule)
    reached = float(np.mean(_errors_of(validation, out_of_fold, metric)))
    floor = next((run for run in runs if run.name == FLOOR), None)
    if floor is not None and len(runs) > 1:
        allowed = float(np.mean(_errors_of(validation, floor.forecasts, metric)))
        if allowed < reached:
            figures = {"metric": metric.upper(), "floor": f"{allowed:.4g}", "blend": f"{reached:.4g}"}
            reason = note("chosen_floor", **figures)
            return Selection(FLOOR, "single", {FLOOR: 1.0}, reason, floor.forecasts)
    weights = rule(errors, priors)
    members = {run.name: float(weight) for run, weight in zip(runs, weights, strict=True) if weight > 0}
    return _described(members, runs, errors, metric, out_of_fold)


def blend_weights(errors: FloatArray, priors: FloatArray) -> FloatArray:
    """Weights proportional to the prior and to the mean error to the power of -5, shape (n_candidates,), sum 1.

    Parameters
    ----------
    errors : shape (n_candidates, n_folds), >= 0, simplest candidate first
    priors : shape (n_candidates,), > 0

    References
    ----------
    Bates & Granger (1969), Operational Research Quarterly 20(4), 451-468: weights by inverse error; the power is ours.
    """
    mean = errors.mean(axis=1)
    best = float(mean.min())
    if best <= 0:
        return best_weights(errors, priors)
    weights = np.where((mean <= WORST_RATIO * best) & ~_repeats(errors), priors * (best / mean) ** SHARPNESS, 0.0)
    weights = np.where(weights >= MIN_WEIGHT * weights.sum(), weights, 0.0)
    blended: FloatArray = weights / weights.sum()
    return blended


def best_weights(errors: FloatArray, priors: FloatArray) -> FloatArray:  # noqa: ARG001 - a `Rule`
    """1 for the candidate with the smallest mean error (the first of equals), 0 for the others, whatever the priors."""
    weights = np.zeros(len(errors))
    weights[int(errors.mean(axis=1).argmin())] = 1.0
    return weights


def combine(runs: tuple[CandidateRun, ...], weights: FloatArray, fold: int) -> FloatArray:
    """The candidates' forecasts of one fold, blended by weight, shape (horizon,)."""
    members = np.flatnonzero(weights)
    return blended(weights[members], np.array([runs[member].forecasts[fold] for member in members]))


def _honest_blend(runs: tuple[CandidateRun, ...], errors: FloatArray, priors: FloatArray, rule: Rule) -> FloatArray:
    n_folds = errors.shape[1]
    others = [np.arange(n_folds) != fold if n_folds > 1 else np.array([True]) for fold in range(n_folds)]
    return np.array([combine(runs, rule(errors[:, others[fold]], priors), fold) for fold in range(n_folds)])


def _fold_errors(validation: CrossValidation, runs: tuple[CandidateRun, ...], metric: str) -> tuple[FloatArray, str]:
    """Errors of shape (n_candidates, n_folds) and the metric they are in; a relative measure may be undefined."""
    errors = np.array([_errors_of(validation, run.forecasts, metric) for run in runs])
    if np.isfinite(errors).all():
        return errors, metric
    return np.array([_errors_of(validation, run.forecasts, "mae") for run in runs]), "mae"


def _errors_of(validation: CrossValidation, forecasts: FloatArray, metric: str) -> FloatArray:
    return validation.fold_metric(forecasts, metric)


def _repeats(errors: FloatArray) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """True for a candidate whose errors equal those of a simpler one, fold by fold."""
    simpler = errors[None, :, :]
    equal = (np.abs(errors[:, None, :] - simpler) <= SAME * simpler).all(axis=-1)
    return np.asarray(np.tril(equal, -1).any(axis=1))


def _described(
    members: dict[str, float], runs: tuple[CandidateRun, ...], errors: FloatArray, metric: str, out_of_fold: FloatArray
) -> Selection:
    if len(members) == 1:
        name = next(iter(members))
        mean = float(errors[[run.name for run in runs].index(name)].mean())
        code = "chosen_single" if len(runs) > 1 else "chosen_only"
        reason = note(code, method=name, n=len(runs), metric=metric.upper(), error=f"{mean:.4g}")
        return Selection(name, "single", members, reason, out_of_fold)
    shares = [[name, round(weight, 4)] for name, weight in sorted(members.items(), key=lambda item: -item[1])]
    return Selection("blend", "blend", members, note("chosen_blend", n=len(runs), shares=shares), out_of_fold)
