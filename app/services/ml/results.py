"""What the engine hands back: plain data, no behaviour, nothing that knows a database."""

from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from app.services.ml.candidates.base import State
from app.services.ml.series import FloatArray


@dataclass(frozen=True)
class CandidateScore:
    """One row of the score table: how a candidate did on the shared folds, or why it did not take part.

    ``metrics`` are means over the folds (keys as in `metrics.METRICS`); empty unless ``status`` is "scored".
    """

    name: str
    status: Literal["scored", "failed", "left_out"]
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    weight: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Forecast:
    """Point forecast and bands for the ``horizon`` days from ``start`` on (``start`` is the day after ``as_of``).

    Arrays have shape (horizon,), in the tenant's currency per business day. ``bands`` maps a level in 0..1 to
    (lower, upper); lower <= yhat <= upper, all finite.
    """

    start: date
    yhat: FloatArray
    bands: dict[float, tuple[FloatArray, FloatArray]]


@dataclass(frozen=True)
class Anomaly:
    """A day whose sales were far from what the model expected. ``score`` is a robust z, signed like the surprise."""

    day: date
    y: float
    expected: float
    score: float
    is_anomaly: bool


@dataclass(frozen=True, eq=False)
class EngineResult:
    """Everything that one computation says about one tenant."""

    as_of: date
    forecast: Forecast
    anomalies: tuple[Anomaly, ...]  # the flagged days of the last 90, oldest first
    scores: tuple[CandidateScore, ...]  # one row per configured candidate, in the registry's order
    chosen: str  # "blend", or the name of the single candidate
    reason: str  # one sentence that a person understands
    weights: dict[str, float]  # members of the forecast; sums to 1
    metrics: dict[str, float]  # of the chosen forecast, out of fold; empty without folds
    confidence_score: float  # 0..1
    closed_weekdays: tuple[int, ...]  # Monday is 0
    level: Literal["blend", "single", "fallback"]  # how far down the ladder
    notes: tuple[str, ...]  # what a person should know: short history, failed candidates, …
    members: dict[str, State]  # state of every member of the forecast
    seconds: dict[str, float]  # per stage
