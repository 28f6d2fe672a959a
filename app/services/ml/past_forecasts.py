"""How the members of a forecast did on days that they had not seen, kept so that only newer days need to be scored.

::

    history    ....................................|.............
    kept       ............======######======######|>>>>>>>>>>>>>      = # forecasts of the folds, > of the fit itself
    a week on  ...................................... | newer days have come in
    compared   ...................======######======>>|                the last days, cut into as many folds as before
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np

from app.services.ml.backtest import CandidateRun, CrossValidation, Fold
from app.services.ml.blending import blended
from app.services.ml.series import DailySeries, FloatArray

LEAST_DAYS = 7  # newer days that are enough to speak of an error that has risen
RISE = 1.5  # times the largest error of a fold


@dataclass(frozen=True, eq=False)
class PastForecasts:
    """Forecasts of the days from ``start`` on: those of ``n_folds`` folds back to back, then those of the fit.

    ``forecasts`` has one row per member, shape (n_folds * fold_days + ahead,), as published: floored, closed days zero.
    """

    start: date
    n_folds: int
    fold_days: int
    forecasts: dict[str, FloatArray]

    @classmethod
    def of(cls, validation: CrossValidation, ahead: Mapping[str, FloatArray]) -> "PastForecasts | None":
        """From the folds of a fit and what its members forecast for the days after it, by name.

        None where the folds do not lie back to back up to the end, or there are none.
        """
        folds = validation.folds
        cuts = [fold.cutoff for fold in folds] + [len(validation.series)]
        if not folds or any(fold.cutoff + fold.horizon != cut for fold, cut in zip(folds, cuts[1:], strict=True)):
            return None
        start = validation.series.start + timedelta(days=folds[0].cutoff)
        kept = {run.name: np.concatenate([run.forecasts.ravel(), ahead[run.name]]) for run in _of(validation, ahead)}
        narrow = {name: days.astype(np.float32).astype(np.float64) for name, days in kept.items()}
        return cls(start, len(folds), folds[0].horizon, narrow)

    def validation(self, series: DailySeries) -> CrossValidation | None:
        """The comparison on the last days of ``series``; None where they reach beyond what was forecast."""
        span = self.n_folds * self.fold_days
        first = len(series) - span
        newer = (series.end - self.start).days + 1 - span
        known = min(days.size for days in self.forecasts.values()) - span
        if first < 1 or not 0 <= newer <= known:
            return None
        folds = tuple(Fold(first + n * self.fold_days, self.fold_days) for n in range(self.n_folds))
        shape = (self.n_folds, self.fold_days)
        runs = tuple(
            CandidateRun(name, "scored", forecasts=days[newer : newer + span].reshape(shape))
            for name, days in self.forecasts.items()
        )
        return CrossValidation(series, folds, series.y[first:].reshape(shape), runs)

    def has_risen(self, series: DailySeries, weights: Mapping[str, float]) -> bool:
        """Is the blend's error on the days after the fit clearly larger than on the worst of its folds?

        No single day counts more than the worst day of the folds. Below a week of newer days nothing can be said.
        """
        span = self.n_folds * self.fold_days
        forecast = blended(np.array(list(weights.values())), np.array([self.forecasts[name] for name in weights]))
        offset = (self.start - series.start).days
        if offset < 0:
            return False
        actual = series.y[offset : offset + forecast.size]
        errors = np.abs(actual - forecast[: actual.size])
        folds, newer = errors[:span].reshape(self.n_folds, -1), errors[span:]
        if newer.size < LEAST_DAYS:
            return False
        realised = float(np.minimum(newer, folds.max()).mean())
        return realised > RISE * float(folds.mean(axis=1).max())

    def to_state(self) -> dict[str, Any]:
        """Plain numbers, strings and arrays."""
        return {
            "start": self.start.isoformat(),
            "n_folds": self.n_folds,
            "fold_days": self.fold_days,
            "forecasts": {name: days.astype(np.float32) for name, days in self.forecasts.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "PastForecasts":
        """Back from `to_state`; KeyError, TypeError or ValueError when it is something else."""
        n_folds, fold_days = int(state["n_folds"]), int(state["fold_days"])
        forecasts = {str(name): np.asarray(days, dtype=np.float64) for name, days in state["forecasts"].items()}
        if n_folds < 1 or fold_days < 1 or not forecasts:
            raise ValueError("past forecasts of no folds")
        if any(days.ndim != 1 or days.size < n_folds * fold_days for days in forecasts.values()):
            raise ValueError("past forecasts of too few days")
        if not all(np.isfinite(days).all() for days in forecasts.values()):
            raise ValueError("past forecasts that are not finite")
        return cls(date.fromisoformat(state["start"]), n_folds, fold_days, forecasts)


def _of(validation: CrossValidation, names: Mapping[str, object]) -> list[CandidateRun]:
    return [run for run in validation.scored if run.name in names]
