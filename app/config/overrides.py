"""A tenant's settings overrides: hostile until proven good, judged field by field, never fatal.

A bad field is refused with a reason and the good ones apply. Limits on size and depth come before anything else;
types are strict (``"28"`` is no number); bounds are those of `MLSettings`; what a forecast may cost in all is bounded.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from app.config.ml_settings import FULL, PRESETS, ForecastFields, MLSettings

MAX_BYTES = 16_000
MAX_DEPTH = 4
MAX_INTEGER_BITS = 64
SHOWN_LENGTH = 60
MAX_COST_RATIO = 2.0
# In days of horizon: what one fold costs before its first forecast day (re-anchoring the candidates on newer days).
FOLD_OVERHEAD_DAYS = 200
MAX_SARIMAX_STATES = 24  # the default's 17: the time of a filter grows with the square, so about twice the default

NOT_OVERRIDABLE = frozenset(
    {
        *("tenant_ids", "retrain_cron", "model_max_age_days", "rescore_days"),
        *("global_model_cron", "global_lstm", "global_lstm_device"),
    }
)  # the operator's alone
COST_FIELDS = ("cv_folds", "horizon_days", "max_train_window_days")
SARIMAX_FIELDS = ("sarimax_order", "sarimax_seasonal")


@dataclass(frozen=True)
class Refusal:
    """One override that was not applied. All three are printable text, cut to a readable length."""

    field: str
    value: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def apply_overrides(
    settings: MLSettings, raw: object, known_candidates: Collection[str] | None = None
) -> tuple[MLSettings, list[Refusal]]:
    """``settings`` with the good overrides of ``raw``, and why the others were refused. Never raises.

    Parameters
    ----------
    raw : a decoded JSON object; names are field names (`horizon_days`) or variables (`ML_HORIZON_DAYS`); None is empty
    known_candidates : names that `model_candidates` may hold, beside presets of them; None takes the preset `full`
    """
    if raw is None:
        return settings, []
    problem = _oversize(raw)
    if problem or not isinstance(raw, dict):
        return settings, [Refusal("*", f"a {type(raw).__name__}", problem or "overrides must be a JSON object")]
    known = FULL if known_candidates is None else known_candidates
    good: dict[str, Any] = {}
    refused: list[Refusal] = []
    for name, value in sorted(raw.items(), key=lambda item: str(item[0])):
        field = _field_name(name)
        reason = "given twice" if field in good else _judge(field, value, known, good)
        if reason:
            refused.append(Refusal(field if field in MLSettings.model_fields else _show(name), _show(value), reason))
    refused += _refuse_excess(settings, good)
    return settings.model_copy(update=good), refused


def _judge(field: str, value: object, known: Collection[str], good: dict[str, Any]) -> str:
    """Put a valid value into ``good`` and return "", else return the reason."""
    if field in NOT_OVERRIDABLE:
        return "only the operator sets this"
    if field not in MLSettings.model_fields:
        return "no such setting"
    try:
        document = json.dumps({field: value}, allow_nan=False)
        parsed = getattr(ForecastFields.model_validate_json(document, strict=True), field)
    except (ValueError, TypeError) as error:  # pydantic's ValidationError is a ValueError
        return _reason(error)
    unknown = [name for name in parsed if name not in known] if field == "model_candidates" else []
    if unknown:
        return f"no such candidate: {_show(unknown[0])}; there are {', '.join((*known, *PRESETS))}"
    good[field] = parsed
    return ""


def _refuse_excess(settings: MLSettings, good: dict[str, Any]) -> list[Refusal]:
    """Take values out of ``good`` that are fine one by one and too costly together."""
    wanted = settings.model_copy(update=good)
    refused: list[Refusal] = []
    allowed = MAX_COST_RATIO * max(run_cost(_DEFAULTS), run_cost(settings))
    if run_cost(wanted) > allowed:
        share = run_cost(wanted) / run_cost(_DEFAULTS)
        reason = f"together these would cost {share:.1f} times a default forecast; at most {MAX_COST_RATIO:g} times"
        refused += _withdraw(good, COST_FIELDS, reason)
    if _sarimax_states(wanted) > max(MAX_SARIMAX_STATES, _sarimax_states(settings)):
        reason = f"a state space of {_sarimax_states(wanted)} dimensions; at most {MAX_SARIMAX_STATES}"
        refused += _withdraw(good, SARIMAX_FIELDS, reason)
    return refused


def _withdraw(good: dict[str, Any], fields: tuple[str, ...], reason: str) -> list[Refusal]:
    return [Refusal(field, _show(good.pop(field)), reason) for field in fields if field in good]


def run_cost(settings: MLSettings) -> float:
    """Relative cost of one forecast: folds x (overhead + horizon) x training window; unitless, for ratios only."""
    per_fold = FOLD_OVERHEAD_DAYS + settings.horizon_days
    return float(settings.cv_folds * per_fold * settings.max_train_window_days)


def _sarimax_states(settings: MLSettings) -> int:
    """Dimension of the Harvey state space of SARIMA (p,d,q)(P,D,Q,s)."""
    p, d, q = settings.sarimax_order
    seasonal_p, seasonal_d, seasonal_q, period = settings.sarimax_seasonal
    return d + seasonal_d * period + max(p + seasonal_p * period, q + seasonal_q * period + 1)


def _oversize(raw: object) -> str:
    """Why ``raw`` is too big or too deep to look at, "" if it is not; walks without recursion, stops early."""
    size, stack = 0, [(raw, 1)]
    while stack:
        value, depth = stack.pop()
        if depth > MAX_DEPTH:
            return f"nested deeper than {MAX_DEPTH} levels"
        if isinstance(value, dict):
            children: list[object] = [*value, *value.values()]
        else:
            children = list(value) if isinstance(value, list | tuple) else []
        size += 2 + (len(value) if isinstance(value, str | bytes) else len(children))
        if size > MAX_BYTES:
            return f"larger than {MAX_BYTES} bytes"
        if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
            return f"an integer of more than {MAX_INTEGER_BITS} bits"
        stack += [(child, depth + 1) for child in children]
    return ""


def _field_name(name: object) -> str:
    return name.lower().removeprefix("ml_") if isinstance(name, str) else ""


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        message = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
        return message.removeprefix("Value error, ")
    return "not a JSON value"


def _show(value: object) -> str:
    """Printable ASCII of bounded length, whatever the value is."""
    try:
        text = value if isinstance(value, str) and value.isascii() and value.isprintable() else json.dumps(value)
    except (ValueError, TypeError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 3] + "..."


_DEFAULTS = MLSettings.model_construct()
