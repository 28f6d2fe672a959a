"""Canonical JSON, the hashes of what goes in and comes out, and the snapshot from which a forecast can be replayed.

Same input hash, same lock file, same machine type: same output hash. Run ids, fences and times are in neither.
"""

import base64
import binascii
import hashlib
import json
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from app.config.ml_settings import MLSettings
from app.errors import InvalidSeries, TenantcastError
from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.results import Anomaly, EngineResult
from app.services.ml.series import DailySeries

SIGNIFICANT_DIGITS = 6
SNAPSHOT_FORMAT = 1
MAX_SNAPSHOT = 16_000_000  # bytes of JSON: ten years of days need well under one million
# They decide when, for whom and whether to warn or to fit again, not what a fitted model forecasts.
NOT_PART_OF_A_FORECAST = frozenset(
    {
        *("tenant_ids", "retrain_cron", "error_alert_mape", "model_max_age_days", "rescore_days"),
        *("global_model_cron", "global_lstm_device"),
    }
)
GLOBAL_MODEL = "global_model_version"
TENANT_FACTS = ("time_zone", "cutoff_hour", "country", "language", "currency")


@dataclass(frozen=True, eq=False)
class RestoredInput:
    """What a forecast was made from, read back from its snapshot."""

    series: DailySeries
    calendar: Calendar
    settings: MLSettings
    as_of: date
    stale: bool
    tenant: dict[str, Any]
    code_version: str
    model_version: str | None = None  # of the model that was carried forward; None: a model was fitted
    global_model_version: str | None = None  # that took part in the fit
    scored: str | None = None  # output hash of the comparison that was gone on with; None: candidates were compared
    left_out: tuple[str, ...] = ()  # candidates that had hung in the attempt before


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces: equal values give equal bytes. ValueError on NaN and infinity."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", errors="backslashreplace")


def input_document(
    series: DailySeries,
    calendar: Calendar,
    settings: MLSettings,
    *,
    tenant: dict[str, Any],
    stale: bool,
    code_version: str,
) -> dict[str, Any]:
    """Everything that decides a fit, JSON-safe: the text of the input hash and of the snapshot."""
    return {
        "format": SNAPSHOT_FORMAT,
        "code_version": code_version,
        "start": series.start.isoformat(),
        "as_of": series.end.isoformat(),
        "stale": stale,
        "sales": [float(value) for value in series.y],
        "calendar": {
            "country": calendar.country,
            "closed_weekdays": sorted(calendar.closed_weekdays),
            "known_days": sorted([known.day.isoformat(), known.kind, known.name] for known in calendar.known_days),
        },
        "settings": settings.model_dump(mode="json", exclude=set(NOT_PART_OF_A_FORECAST)),
        "tenant": {name: tenant.get(name) for name in TENANT_FACTS},
    }


def fitted_under(document: dict[str, Any]) -> dict[str, Any]:
    """Of an `input_document` what stays the same from day to day: the settings, and the country of the holidays."""
    return {**document["settings"], "country": document["calendar"]["country"]}


def carried_document(document: dict[str, Any], model_version: str) -> dict[str, Any]:
    """The `input_document` of a forecast that carries a stored model forward instead of fitting one.

    Its hash is another one than that of a fit on the same days: the next retrain is not "unchanged". The stored model
    names the global model that it was fitted with; a newer one changes nothing.
    """
    return {name: value for name, value in document.items() if name != GLOBAL_MODEL} | {"model_version": model_version}


def with_global_model(document: dict[str, Any], version: str | None) -> dict[str, Any]:
    """The `input_document` of a forecast that a global model may take part in: this version, or None without one."""
    return document | {GLOBAL_MODEL: version}


def refreshed_document(document: dict[str, Any], scored_hash: str) -> dict[str, Any]:
    """The `input_document` of a weekly forecast between two comparisons; ``scored_hash`` names the last one.

    By what came out of it, not by its version: a comparison that was repeated, or whose worker died, is the same.
    """
    return document | {"scored": scored_hash}


def curtailed_document(document: dict[str, Any], hung: Iterable[str]) -> dict[str, Any]:
    """The `input_document` of a fit without the candidates that hung in the attempt before.

    Its hash is another one than that of a whole fit on the same days: the next run tries all of them again.
    """
    return document | {"left_out": sorted(hung)}


def input_hash(document: dict[str, Any]) -> str:
    """SHA-256 (hex) of `input_document`."""
    return hashlib.sha256(canonical_json(document)).hexdigest()


def output_hash(result: EngineResult) -> str:
    """SHA-256 (hex) of forecast, bands, totals, parts, anomalies, weights and model state, at 6 significant digits."""
    forecast = result.forecast
    document = {
        "as_of": result.as_of.isoformat(),
        "start": forecast.start.isoformat(),
        "yhat": rounded(forecast.yhat.tolist()),
        "bands": {
            repr(float(level)): rounded([lower.tolist(), upper.tolist()])
            for level, (lower, upper) in forecast.bands.items()
        },
        "totals": {
            str(total.days): {
                "yhat": rounded(total.yhat),
                **{repr(float(level)): rounded(list(band)) for level, band in total.bands.items()},
            }
            for total in result.totals
        },
        "parts": [rounded(result.parts.of_day(step)) for step in range(forecast.yhat.size)],
        "anomalies": [_anomaly(anomaly) for anomaly in result.anomalies],
        "chosen": result.chosen,
        "weights": rounded(result.weights),
        "members": {name: rounded(state) for name, state in result.members.items()},
    }
    return hashlib.sha256(canonical_json(document)).hexdigest()


def rounded(value: Any) -> Any:
    """JSON-safe form of plain state: numbers at 6 significant digits, arrays with type and shape, bytes by digest.

    A number that is not finite becomes its name, since NaN is not JSON. TypeError for what is not plain.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return _significant(float(value))
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    return _rounded_container(value)


def _rounded_container(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "shape": list(value.shape), "values": rounded(value.ravel().tolist())}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, dict):
        return {str(key): rounded(item) for key, item in value.items()}
    raise TypeError(f"a {type(value).__name__} is no plain state")


def pack_snapshot(document: dict[str, Any]) -> str:
    """Base64 of zlib of the canonical JSON of `input_document`."""
    return base64.b64encode(zlib.compress(canonical_json(document), level=9)).decode("ascii")


def restore_snapshot(payload: str) -> RestoredInput:
    """Series, calendar and settings of a snapshot, ready for the engine.

    Raises
    ------
    InvalidSeries : the payload is damaged, too large, or of another format
    """
    try:
        document = json.loads(_inflate(payload))
        if document["format"] != SNAPSHOT_FORMAT:
            raise InvalidSeries(f"A snapshot has format {document['format']!r}; this is format {SNAPSHOT_FORMAT}.")
        return _restore(document)
    except (KeyError, ValueError, TypeError, AttributeError, zlib.error, binascii.Error, RecursionError) as error:
        raise InvalidSeries(f"A stored input snapshot cannot be read ({type(error).__name__}).") from None
    except TenantcastError as error:
        raise InvalidSeries(f"A stored input snapshot cannot be used: {error.message}") from None


def _restore(document: dict[str, Any]) -> RestoredInput:
    known = document["calendar"]["known_days"]
    calendar = Calendar(
        country=document["calendar"]["country"],
        known_days=tuple(KnownDay(date.fromisoformat(day), kind, name) for day, kind, name in known),
        closed_weekdays=frozenset(document["calendar"]["closed_weekdays"]),
    )
    return RestoredInput(
        series=DailySeries(date.fromisoformat(document["start"]), np.array(document["sales"], dtype=np.float64)),
        calendar=calendar,
        settings=MLSettings(**document["settings"]),
        as_of=date.fromisoformat(document["as_of"]),
        stale=bool(document["stale"]),
        tenant=dict(document["tenant"]),
        code_version=str(document["code_version"]),
        model_version=document.get("model_version"),
        global_model_version=document.get(GLOBAL_MODEL),
        scored=document.get("scored"),
        left_out=tuple(document.get("left_out", ())),
    )


def _inflate(payload: str) -> bytes:
    reader = zlib.decompressobj()
    text = reader.decompress(base64.b64decode(payload, validate=True), MAX_SNAPSHOT)
    if not reader.eof:
        raise InvalidSeries("A stored input snapshot is cut short or too large.")
    return text


def _anomaly(anomaly: Anomaly) -> list[Any]:
    numbers = [_significant(anomaly.y), _significant(anomaly.expected), _significant(anomaly.score)]
    return [anomaly.day.isoformat(), *numbers, anomaly.is_anomaly]


def _significant(value: float) -> float | str:
    if not math.isfinite(value):
        return str(value)
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") + 0.0  # + 0.0: minus zero is zero
