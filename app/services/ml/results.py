"""What the engine hands back: plain data, no behaviour, nothing that knows a database."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from app.services.ml.candidates.base import State
from app.services.ml.explanation import Parts
from app.services.ml.notes import Note
from app.services.ml.past_forecasts import PastForecasts
from app.services.ml.series import FloatArray
from app.services.ml.totals import Total


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
    scored_through: str = ""  # ISO date, the last day that the metrics are about; "" without any


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
class Residuals:
    """What bands are made from: arguments of `intervals.ResidualPool.of`, plain."""

    residuals: FloatArray  # shape (n,), actual minus forecast
    weekdays: npt.NDArray[np.int64]  # shape (n,), Monday is 0
    tested_horizon: int  # days ahead that they cover
    shrinkage: float  # of the widths, in 0..1


@dataclass(frozen=True, eq=False)
class EngineResult:
    """Everything that one computation says about one tenant."""

    as_of: date
    forecast: Forecast
    means: FloatArray  # shape (horizon,), what totals are sums of: `yhat` but where sales are rare, see `rare_sales`
    totals: tuple[Total, ...]  # of as many of the first 7 and 28 days as the horizon holds
    parts: Parts  # what each day of the forecast consists of
    anomalies: tuple[Anomaly, ...]  # the flagged days of the last 90, oldest first
    scores: tuple[CandidateScore, ...]  # one row per configured candidate, in the registry's order
    chosen: str  # "blend", or the name of the single candidate
    reason: Note  # why this and no other
    weights: dict[str, float]  # members of the forecast; sums to 1
    metrics: dict[str, float]  # of the chosen forecast, out of fold; empty without folds
    confidence_score: float  # 0..1
    closed_weekdays: tuple[int, ...]  # Monday is 0
    level: Literal["blend", "single", "fallback"]  # how far down the ladder
    notes: tuple[Note, ...]  # what a person should know: short history, failed candidates, …
    members: dict[str, State]  # state of every member of the forecast
    seconds: dict[str, float]  # per stage
    residuals: Residuals  # what the bands were made from
    errors: FloatArray  # shape (n_folds, n_days): what the totals' bands were made from, see `totals`
    blend: dict[str, float]  # `weights` unrounded, as the forecast was made with them
    past: PastForecasts | None = None  # what later days are scored with; None without a comparison


class ForecastDay(TypedDict):
    """One day of a published forecast, in the tenant's currency."""

    date: str
    yhat: float
    yhat_lower: float
    yhat_upper: float
    parts: dict[str, float]  # by the names of `explanation.PARTS`; they sum exactly to yhat, see there


class ForecastTotal(TypedDict):
    """A total of a published forecast with its band, in the tenant's currency."""

    yhat: float  # to the cent
    yhat_lower: float  # of the report's `interval_level`
    yhat_upper: float
    bands: dict[str, list[float]]  # [lower, upper] by level, "0.8"


class ForecastSummary(TypedDict):
    """What the first days of a forecast consist of, together."""

    days: int  # 7, or the horizon where it is shorter
    total: float  # as `total_7`
    parts: dict[str, float]  # to the cent; they sum exactly to the total
    en: str  # the sentence that says so
    es: str


class TrainingReport(TypedDict):
    """What one run says about one tenant: JSON-safe; stored on the run's item, shown by `report` and `runs show`."""

    tenant_id: str
    tenant_name: str
    run_id: str | None
    status: Literal["published", "unchanged", "no_sales_yet", "older", "lost", "failed"]
    as_of: str | None  # last finished business day that was used
    stale: bool  # the sales stopped long before today; the forecast starts after the last sale
    currency: str
    language: str
    country: str
    time_zone: str
    horizon_days: int
    interval_level: float
    forecast: list[ForecastDay]
    total_7: float  # what the first 7 days sell together: the sum of yhat, but where sales are rare (see `rare_sales`)
    total_28: float  # likewise; of a shorter horizon, all of its days
    totals: dict[str, ForecastTotal]  # "total_7", "total_28": those that the horizon holds
    explanation: ForecastSummary | None  # None without a forecast
    anomalies: list[dict[str, Any]]  # {date, y, expected, score}
    chosen: str
    reason: str  # in English; `reason_note` says it in any language
    reason_note: dict[str, Any] | None
    level: str
    weights: dict[str, float]
    metrics: dict[str, float]
    scores: list[dict[str, Any]]  # CandidateScore as a dict
    confidence_score: float
    closed_weekdays: list[int]
    notes: list[dict[str, Any]]  # Note.as_dict
    refused_settings: list[dict[str, str]]  # {field, value, reason}
    quality: dict[str, Any]  # see quality.py
    changes: (
        dict[str, Any] | None
    )  # against the forecast before: {previous_as_of, previous_run_id, days, previous_total, total, chosen_before}
    input_hash: str | None
    output_hash: str | None
    model_version: str | None
    reanchored: bool  # the active model was carried forward to the newest days; nothing was estimated
    refit_reason: str  # why a model was fitted although it was asked to carry the active one forward; else ""
    seconds: dict[str, float]
    error: dict[str, Any] | None
