"""What a tenant's sales look like before anything is forecast: gaps, outages, duplicates, rows that were left out."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypedDict

import numpy as np

from app.services.ml.calendar import Calendar
from app.services.ml.quality_words import reason_text, sentences
from app.services.ml.series import BoolArray, DailySeries, closed_weekdays

__all__ = [
    "DataQuality",
    "LeftOut",
    "RowCounts",
    "Span",
    "assess",
    "reason_text",
    "sentences",
    "suspected_outages",
]

OUTAGE_DAYS = 3  # fewer zero days in a row are a bad day, a private holiday, a lazy till
NORMALLY_OPEN = 0.8  # share of trading weeks in which a weekday sold something
LONGEST = 10  # gaps that are listed; all are counted


class Span(TypedDict):
    """Some business days in a row: first and last (``YYYY-MM-DD``), and how many of them lacked sales."""

    start: str
    end: str
    days: int


class LeftOut(TypedDict):
    """Rows that are in no sum. ``source`` is "database" or the file that they came from."""

    reason: str  # a code, see `reason_text`
    rows: int
    first_line: int | None
    source: str


class DataQuality(TypedDict):
    """The data-quality report of one tenant: JSON-safe; amounts in the tenant's currency."""

    days: int  # of the series; 0 without any usable sale
    start: str | None
    end: str | None
    rows: int  # sales that were summed
    closed_weekdays: list[int]  # Monday is 0
    zero_days: int  # on days that are neither closed weekdays nor announced closures
    gap_runs: int  # runs of such days
    gaps: list[Span]  # the ten longest runs, oldest first
    suspected_outages: list[Span]
    trailing_zeros: int  # days without sales at the end
    duplicates: int  # rows that repeat another exactly; they are counted as sales
    negative_days: int
    refunds: int
    refunds_total: float
    future_rows: int
    left_out: list[LeftOut]
    left_out_rows: int
    days_before_window: int  # older days that were not read
    first_sale: str | None
    last_sale: str | None
    stale: bool  # the sales stopped long before the last finished day
    last_finished_day: str | None
    notes: list[str]  # codes: invalid_time_zone, invalid_cutoff_hour


@dataclass(frozen=True)
class RowCounts:
    """What the database counted while it summed the rows; every count is >= 0."""

    rows: int = 0
    duplicates: int = 0
    negative_days: int = 0
    refunds: int = 0
    refunds_total: float = 0.0
    future_rows: int = 0
    left_out: tuple[LeftOut, ...] = ()
    days_before_window: int = 0
    first_sale: str | None = None
    last_sale: str | None = None
    notes: tuple[str, ...] = ()


def assess(
    series: DailySeries | None, calendar: Calendar, counts: RowCounts, last_finished_day: date | None, *, stale: bool
) -> DataQuality:
    """The data-quality report.

    A gap is a run of zero days that are neither on a closed weekday nor an announced closure. An outage is suspected
    where at least three of them in a row are normally open: see `suspected_outages`.
    """
    closed = closed_weekdays(series) if series else ()
    missing = _missing_days(series, calendar, closed) if series else np.zeros(0, dtype=bool)
    gaps = _spans(series, missing, _skippable(series, calendar, closed)) if series else []
    longest = sorted(gaps, key=lambda gap: -gap["days"])[:LONGEST]
    return {
        "days": len(series) if series else 0,
        "start": series.start.isoformat() if series else None,
        "end": series.end.isoformat() if series else None,
        "rows": counts.rows,
        "closed_weekdays": list(closed),
        "zero_days": int(missing.sum()),
        "gap_runs": len(gaps),
        "gaps": sorted(longest, key=lambda gap: gap["start"]),
        "suspected_outages": suspected_outages(series, calendar) if series else [],
        "trailing_zeros": _trailing_zeros(series) if series else 0,
        "duplicates": counts.duplicates,
        "negative_days": counts.negative_days,
        "refunds": counts.refunds,
        "refunds_total": counts.refunds_total,
        "future_rows": counts.future_rows,
        "left_out": list(counts.left_out),
        "left_out_rows": sum(row["rows"] for row in counts.left_out),
        "days_before_window": counts.days_before_window,
        "first_sale": counts.first_sale,
        "last_sale": counts.last_sale,
        "stale": stale,
        "last_finished_day": last_finished_day.isoformat() if last_finished_day else None,
        "notes": list(counts.notes),
    }


def suspected_outages(series: DailySeries, calendar: Calendar) -> list[Span]:
    """Three and more zero days in a row on which the tenant normally trades and announced no closure; oldest first.

    A weekday is normally open when it sold something in at least 80 % of the trading weeks (weeks with any sale), so
    a tenant that sells only now and then has no suspected outages. Days that are not normally open, public holidays
    and announced closures neither count nor end a run: a till that breaks on Thursday and is mended on Tuesday was
    broken over the closed Sunday as well.
    """
    usual = np.isin(series.weekdays, sorted(_normally_open(series)))
    excused = ~usual | calendar.holidays(series.start, len(series)) | calendar.closures(series.start, len(series))
    return [span for span in _spans(series, (series.y == 0) & ~excused, excused) if span["days"] >= OUTAGE_DAYS]


def _normally_open(series: DailySeries) -> set[int]:
    n_weeks = len(series) // 7
    by_week = series.y[len(series) - 7 * n_weeks :].reshape(n_weeks, 7) != 0
    trading = by_week[by_week.any(axis=1)]
    if not len(trading):
        return set()
    return {int(day) for day in series.weekdays[-7:][trading.mean(axis=0) >= NORMALLY_OPEN]}


def _skippable(series: DailySeries, calendar: Calendar, closed: tuple[int, ...]) -> BoolArray:
    return np.isin(series.weekdays, closed) | calendar.closures(series.start, len(series))


def _missing_days(series: DailySeries, calendar: Calendar, closed: tuple[int, ...]) -> BoolArray:
    missing: BoolArray = (series.y == 0) & ~_skippable(series, calendar, closed)
    return missing


def _spans(series: DailySeries, missing: BoolArray, skipped: BoolArray) -> list[Span]:
    """Runs of ``missing`` days, unbroken by ``skipped`` ones without sales; all shape (n_days,)."""
    spans: list[Span] = []
    joined = missing | (skipped & (series.y == 0))
    edges = np.flatnonzero(np.diff(np.concatenate(([False], joined, [False])).astype(np.int8)))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        days = np.flatnonzero(missing[begin:end]) + begin
        if days.size:
            first, last = (series.start + timedelta(days=int(day)) for day in (days[0], days[-1]))
            spans.append({"start": first.isoformat(), "end": last.isoformat(), "days": int(days.size)})
    return spans


def _trailing_zeros(series: DailySeries) -> int:
    traded = np.flatnonzero(series.y)
    return len(series) - 1 - int(traded[-1]) if traded.size else len(series)
