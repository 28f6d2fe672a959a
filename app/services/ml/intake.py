"""From the JSON of `ml_read_input` to what a forecast is made from: series, calendar, quality. Pure, and suspicious.

Whatever the JSON holds, the outcome is a `TenantInput`, `InvalidTenantInput` or `InvalidSeries` that names the tenant.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, get_args
from uuid import UUID

import numpy as np

from app.config.ml_settings import MLSettings
from app.errors import InvalidSeries, InvalidTenantInput
from app.services.ml.calendar import Calendar, DayKind, KnownDay
from app.services.ml.notes import Note, note
from app.services.ml.quality import DataQuality, LeftOut, RowCounts, assess
from app.services.ml.series import DailySeries, closed_weekdays

FIRST_DAY, LAST_DAY = date(1900, 1, 1), date(2200, 12, 31)
MAX_DAYS = 3_650  # what the database gives at most
LAST_HOUR = 23
MAX_SALES = 1e25  # ten billion sales of 10^15 in one day
COUNTRY_SETTINGS = {"holidays_country", "ML_HOLIDAYS_COUNTRY"}
NEXT_STEP = "Look at what public.ml_read_input gives for this tenant, and at the three source views."


@dataclass(frozen=True)
class Tenant:
    """Who it is. Texts are empty where the product says nothing."""

    tenant_id: UUID
    name: str
    time_zone: str
    cutoff_hour: int
    country: str
    language: str
    currency: str
    active: bool


@dataclass(frozen=True)
class CurrentForecast:
    """The forecast that is published now."""

    input_hash: str
    output_hash: str
    as_of: date
    run_id: str
    model_version: str


@dataclass(frozen=True, eq=False)
class TenantInput:
    """All that one forecast is made from.

    ``series`` is None for a tenant without any usable sale. ``as_of`` is the last business day of the series: the
    last finished one, or, when the feed has stopped (``stale``), that of the last sale. ``settings`` are the raw
    overrides, not validated here. ``notes`` say what of the input was put right.
    """

    tenant: Tenant
    as_of: date
    last_finished_day: date
    stale: bool
    series: DailySeries | None
    calendar: Calendar
    quality: DataQuality
    settings: object
    current: CurrentForecast | None
    notes: tuple[Note, ...]


def read_tenant_input(row: Mapping[str, Any], settings: MLSettings) -> TenantInput | None:
    """What `ml_read_input` gave, checked; None when there is no such tenant.

    The series is cut to ``settings.max_train_window_days``. The country whose holidays count is the tenant's override
    of it, else the tenant's own, else ``settings.holidays_country``.

    Raises
    ------
    InvalidTenantInput : a part is missing or of another type
    InvalidSeries : the sales are no series: not finite, or not one number per day
    """
    facts = _object(row, "tenant", "", optional=True)
    if facts is None:
        return None
    tenant = _tenant(facts)
    who = tenant.name or str(tenant.tenant_id)
    as_of = _day(row, "as_of", who)
    last_finished = _day(row, "last_finished_day", who)
    stale = _flag(row, "stale", who)
    series = _series(row, as_of, who)
    notes: list[Note] = []
    country = _country(tenant, row.get("settings"), settings)
    known_days = _known_days(row.get("calendar"), who, notes)
    if series is not None:
        series = series.tail(settings.max_train_window_days)
    closed = frozenset(closed_weekdays(series)) if series is not None else frozenset[int]()
    calendar = Calendar(country=country, known_days=known_days, closed_weekdays=closed)
    quality = assess(series, calendar, _counts(row, who), last_finished, stale=stale)
    return TenantInput(
        tenant=tenant,
        as_of=as_of,
        last_finished_day=last_finished,
        stale=stale,
        series=series,
        calendar=calendar,
        quality=quality,
        settings=row.get("settings"),
        current=_current(row.get("current"), who),
        notes=tuple(notes),
    )


def _tenant(facts: Mapping[str, Any]) -> Tenant:
    try:
        tenant_id = UUID(str(facts.get("tenant_id")))
    except ValueError:
        raise _refuse("", "tenant_id", facts.get("tenant_id")) from None
    cutoff = facts.get("cutoff_hour")
    on_the_clock = isinstance(cutoff, int) and not isinstance(cutoff, bool) and 0 <= cutoff <= LAST_HOUR
    return Tenant(
        tenant_id=tenant_id,
        name=_text(facts.get("name"), 200),
        time_zone=_text(facts.get("time_zone"), 64),
        cutoff_hour=int(cutoff) if on_the_clock and cutoff else 0,
        country=_text(facts.get("country"), 16),
        language=_text(facts.get("language"), 16),
        currency=_text(facts.get("currency"), 16),
        active=facts.get("active") is not False,
    )


def _series(row: Mapping[str, Any], as_of: date, who: str) -> DailySeries | None:
    values = row.get("sales")
    if not isinstance(values, list):
        raise _refuse(who, "sales", values)
    if row.get("start") is None:
        if values:
            raise InvalidSeries(f"{who}: {len(values)} days of sales without a first day.", next_step=NEXT_STEP)
        return None
    start = _day(row, "start", who)
    expected = (as_of - start).days + 1
    if len(values) != expected or not 1 <= expected <= MAX_DAYS:
        raise InvalidSeries(
            f"{who}: {len(values)} numbers for the {expected} days from {start} to {as_of}.", next_step=NEXT_STEP
        )
    for offset, value in enumerate(values):
        if not _is_number(value) or abs(value) > MAX_SALES:
            raise InvalidSeries(f"{who}: day {offset} of the series is not a finite number.", next_step=NEXT_STEP)
    return DailySeries(start, np.array(values, dtype=np.float64))


def _known_days(rows: object, who: str, notes: list[Note]) -> tuple[KnownDay, ...]:
    """The announced days; one that cannot be read is left out and noted."""
    if rows is None:
        return ()
    if not isinstance(rows, list):
        raise _refuse(who, "calendar", rows)
    known: set[KnownDay] = set()
    bad = 0
    for row in rows:
        day = _parse_day(row.get("day")) if isinstance(row, dict) else None
        if day is None or row.get("kind") not in get_args(DayKind):
            bad += 1
        else:
            known.add(KnownDay(day, row["kind"], _text(row.get("name"), 200)))
    if bad:
        notes.append(note("unreadable_calendar", n=bad))
    return tuple(sorted(known, key=lambda day: (day.day, day.kind, day.name)))


def _country(tenant: Tenant, overrides: object, settings: MLSettings) -> str:
    overridden = isinstance(overrides, dict) and bool(COUNTRY_SETTINGS & overrides.keys())
    if overridden and settings.holidays_country:
        return settings.holidays_country
    return tenant.country or settings.holidays_country


def _counts(row: Mapping[str, Any], who: str) -> RowCounts:
    quality = _object(row, "quality", who)
    refunds_total = quality.get("refunds_total", 0)
    return RowCounts(
        rows=_count(quality, "rows"),
        duplicates=_count(quality, "duplicates"),
        negative_days=_count(quality, "negative_days"),
        refunds=_count(quality, "refunds"),
        refunds_total=float(refunds_total) if _is_number(refunds_total) else 0.0,
        future_rows=_count(quality, "future_rows"),
        left_out=_left_out(quality.get("quarantined")),
        days_before_window=_count(quality, "days_before_window"),
        first_sale=_text(quality.get("first_sale"), 40) or None,
        last_sale=_text(quality.get("last_sale"), 40) or None,
        notes=tuple(_text(one, 64) for one in _list(quality.get("notes")) if isinstance(one, str)),
    )


def _left_out(rows: object) -> tuple[LeftOut, ...]:
    found: list[LeftOut] = []
    for row in _list(rows):
        if isinstance(row, dict) and _count(row, "rows"):
            line = row.get("first_line")
            found.append(
                {
                    "reason": _text(row.get("reason"), 400),
                    "rows": _count(row, "rows"),
                    "first_line": line if isinstance(line, int) and not isinstance(line, bool) else None,
                    "source": _text(row.get("source"), 400),
                }
            )
    return tuple(found)


def _current(row: object, who: str) -> CurrentForecast | None:
    if row is None:
        return None
    if not isinstance(row, dict):
        raise _refuse(who, "current", row)
    texts = {name: row.get(name) for name in ("input_hash", "output_hash", "run_id", "model_version")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise _refuse(who, "current", sorted(row))
    return CurrentForecast(as_of=_day(row, "as_of", who), **{name: str(text) for name, text in texts.items()})


def _object(row: object, key: str, who: str, *, optional: bool = False) -> Any:
    if not isinstance(row, Mapping):
        raise _refuse(who, "the answer", row)
    value = row.get(key)
    if not isinstance(value, Mapping) and not (optional and value is None):
        raise _refuse(who, key, value)
    return value


def _day(row: Mapping[str, Any], key: str, who: str) -> date:
    day = _parse_day(row.get(key))
    if day is None:
        raise _refuse(who, key, row.get(key))
    return day


def _parse_day(value: object) -> date | None:
    """A day from ``YYYY-MM-DD``, 1900 to 2200; None for anything else."""
    if not isinstance(value, str) or len(value) != len("2026-01-01"):
        return None
    try:
        day = date.fromisoformat(value)
    except ValueError:
        return None
    return day if FIRST_DAY <= day <= LAST_DAY else None


def _flag(row: Mapping[str, Any], key: str, who: str) -> bool:
    value = row.get(key)
    if not isinstance(value, bool):
        raise _refuse(who, key, value)
    return value


def _count(row: Mapping[str, Any], key: str) -> int:
    """A count that only describes; one that is none counts as zero."""
    value: Any = row.get(key)
    return int(value) if _is_number(value) and value >= 0 else 0


def _is_number(value: Any) -> bool:
    """A finite JSON number; an integer too large for a float is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object, at_most: int) -> str:
    return value[:at_most] if isinstance(value, str) else ""


def _refuse(who: str, key: str, value: object) -> InvalidTenantInput:
    shown = repr(value[:60]) if isinstance(value, str) else f"of type {type(value).__name__}"
    return InvalidTenantInput(f"{who or 'A tenant'}: {key} cannot be {shown}.", next_step=NEXT_STEP)
