"""What a fit leaves behind for later days, and its plain form in an artefact: checked when it comes back."""

import math
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any, Literal, get_args

import numpy as np

from app.errors import ArtifactRefused, InvalidSeries
from app.services.ml.candidates.base import State
from app.services.ml.history_mark import HistoryMark
from app.services.ml.intervals import ResidualPool
from app.services.ml.notes import WORDS, Note, note
from app.services.ml.past_forecasts import PastForecasts
from app.services.ml.results import CandidateScore, EngineResult
from app.services.ml.series import SEASON, FloatArray

FORMAT = 4  # of the state; 1 held members and weights only, 2 no errors of totals, 3 no past forecasts
Level = Literal["blend", "single", "fallback"]


@dataclass(frozen=True, eq=False)
class FittedModel:
    """Everything that a forecast from newer days needs of an earlier fit; fields as in `EngineResult`.

    Members may be newer than the comparison that chose them: weights, scores and bands are those of the comparison, and
    every later day is scored from there (see `past_forecasts`), so that the weeks between leave no trace.
    ``settings`` are `fitted_under` of the input that it was fitted on: under others the model means something else.
    """

    members: dict[str, State]
    weights: dict[str, float]  # unrounded, of the same names as ``members``, > 0, summing to 1
    chosen: str
    reason: Note
    level: Level
    metrics: dict[str, float]
    scores: tuple[CandidateScore, ...]
    pool: ResidualPool
    errors: FloatArray
    trained_through: date  # the last day whose sales any parameter has seen
    settings: dict[str, Any]
    scored_through: date  # the last day that the comparison has seen
    scored_hash: str  # output hash of the fit that compared; "" when nobody asked for it
    past: PastForecasts | None  # None: newer days cannot be scored
    history: HistoryMark | None  # what the candidates were compared on

    @classmethod
    def of(
        cls, result: EngineResult, settings: dict[str, Any], history: HistoryMark | None = None, scored_hash: str = ""
    ) -> "FittedModel":
        """What a comparison leaves behind; ``settings`` are `fitted_under` of its input, ``history`` its mark."""
        return cls(
            members=result.members,
            weights=result.blend,
            chosen=result.chosen,
            reason=result.reason,
            level=result.level,
            metrics=result.metrics,
            scores=tuple(replace(score, seconds=0.0) for score in result.scores),  # equal fits, equal artefacts
            pool=ResidualPool.of(
                result.residuals.residuals,
                result.residuals.weekdays,
                result.residuals.tested_horizon,
                result.residuals.shrinkage,
            ),
            errors=result.errors,
            trained_through=result.as_of,
            settings=settings,
            scored_through=result.as_of,
            scored_hash=scored_hash,
            past=result.past,
            history=history,
        )

    def refreshed(self, result: EngineResult) -> "FittedModel":
        """With the members of a later `refresh`; members that it left out keep their parameters."""
        return replace(self, members={**self.members, **result.members}, trained_through=result.as_of)

    def to_state(self) -> State:
        """Plain numbers, strings and arrays, as `artifact` stores them."""
        return {
            "format": FORMAT,
            "members": self.members,
            "weights": dict(self.weights),
            "chosen": self.chosen,
            "reason": {"code": self.reason.code, "values": dict(self.reason.values)},
            "level": self.level,
            "metrics": dict(self.metrics),
            "scores": [asdict(score) for score in self.scores],
            "residuals": self.pool.residuals,
            "residual_weekdays": self.pool.weekdays,
            "tested_horizon": self.pool.tested_horizon,
            "shrinkage": self.pool.shrinkage,
            "errors": self.errors,
            "trained_through": self.trained_through.isoformat(),
            "settings": self.settings,
            "scored_through": self.scored_through.isoformat(),
            "scored_hash": self.scored_hash,
            "past": self.past.to_state() if self.past else None,
            "history": self.history.to_state() if self.history else None,
        }

    @classmethod
    def from_state(cls, state: State) -> "FittedModel":
        """Back from `to_state`.

        Raises
        ------
        ArtifactRefused : another format, or a part is missing or not what it should be
        """
        if state.get("format") != FORMAT:
            raise ArtifactRefused("The stored model was written by another version of tenantcast.")
        try:
            return _checked(dict(state))
        except (KeyError, TypeError, ValueError, InvalidSeries) as error:
            raise ArtifactRefused(f"The stored model has another shape ({type(error).__name__}).") from None


def _checked(state: dict[str, Any]) -> FittedModel:
    members, weights = dict(state["members"]), dict(state["weights"])
    if not members or members.keys() != weights.keys() or not all(isinstance(m, dict) for m in members.values()):
        raise ValueError("weights and members do not belong together")
    if not all(map(_is_share, weights.values())) or not math.isclose(sum(weights.values()), 1.0, rel_tol=1e-9):
        raise ValueError("weights are no shares of one")
    if state["level"] not in get_args(Level):
        raise ValueError("no such level")
    return FittedModel(
        members=members,
        weights=weights,
        chosen=str(state["chosen"]),
        reason=_note(state["reason"]),
        level=state["level"],
        metrics={str(name): _finite(value) for name, value in state["metrics"].items()},
        scores=tuple(CandidateScore(**score) for score in state["scores"]),
        pool=_pool(state),
        errors=_errors(state["errors"]),
        trained_through=date.fromisoformat(state["trained_through"]),
        settings=dict(state["settings"]),
        scored_through=date.fromisoformat(state["scored_through"]),
        scored_hash=str(state["scored_hash"]),
        past=None if state["past"] is None else PastForecasts.from_state(state["past"]),
        history=None if state["history"] is None else HistoryMark.from_state(state["history"]),
    )


def _pool(state: dict[str, Any]) -> ResidualPool:
    residuals = np.asarray(state["residuals"], dtype=np.float64)
    weekdays = np.asarray(state["residual_weekdays"], dtype=np.int64)
    horizon, shrinkage = int(state["tested_horizon"]), _finite(state["shrinkage"])
    if ((weekdays < 0) | (weekdays >= SEASON)).any() or horizon < 1 or not 0 < shrinkage <= 1:
        raise ValueError("residuals without a weekday, a horizon or a width")
    return ResidualPool.of(residuals, weekdays, horizon, shrinkage)


def _errors(stored: Any) -> FloatArray:
    errors = np.asarray(stored, dtype=np.float64)
    if errors.ndim != 2 or errors.size == 0 or not np.isfinite(errors).all():  # noqa: PLR2004 - folds and days
        raise ValueError("errors of no folds")
    return errors


def _note(stored: Any) -> Note:
    if stored["code"] not in WORDS["en"]:
        raise ValueError("a reason that this version does not know")
    return note(stored["code"], **stored["values"])


def _is_share(value: object) -> bool:
    return isinstance(value, float) and 0 < value <= 1


def _finite(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)
