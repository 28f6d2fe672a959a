"""One tenant in words and geometry: everything that the template prints, already in the tenant's language."""

import json
import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from app.db.store import Row
from app.services.ml.calendar import Calendar
from app.services.ml.notes import say_stored
from app.services.report.chart import Chart, ChartDay, draw_chart, known_marks, stretches
from app.services.report.data import History, TenantPart
from app.services.report.explain import ABOUT_TOTALS, Explanation, explain
from app.services.report.formats import CENTS_BELOW, DASH, Locale, language_of
from app.services.report.parts import PartsView, view_parts
from app.services.report.words import say

HISTORY_SHOWN = 120  # days
CURRENCY_CODE = re.compile("[A-Z]{3}")  # ISO 4217; anything else is not shown
YOUNG = 28  # days of history below which a shop is called young
WEEK = 7
UNMOVED = 0.005  # a change (share) that rounds to 0 percent
QUITE_SURE, FAIRLY_SURE = 0.6, 0.4  # confidence scores


@dataclass(frozen=True)
class Summary:
    """One row of the overview: amounts as the tenant writes them, words as keys for the reader's language."""

    next_7: str = ""
    next_28: str = ""
    change: str = ""
    sure: str = ""  # a key of words.py; "" when there is no forecast
    unusual: str = ""
    note: str = ""  # a key of words.py, or ""


@dataclass(frozen=True)
class WeekDay:
    """A card of the coming week."""

    day: str
    yhat: str
    span: str
    closed: bool
    name: str  # what is known about the day


@dataclass(frozen=True)
class TenantView:
    """One section of the page."""

    anchor: str
    tenant_id: str
    name: str
    locale: Locale
    summary: Summary
    headline: str = ""
    lines: tuple[str, ...] = ()
    small: str = ""
    banner: str = ""
    banner_kind: str = "info"
    week: tuple[WeekDay, ...] = ()
    chart: Chart | None = None
    chart_label: str = ""
    readouts: str = "[]"  # JSON: one text per day of the chart
    parts: PartsView | None = None
    table: tuple[tuple[str, str, str, str], ...] = ()
    ahead: tuple[str, ...] = ()
    unusual: tuple[str, ...] = ()
    facts: str = ""
    explanation: Explanation = field(default_factory=Explanation)

    def say(self, key: str, **values: object) -> str:
        """A sentence of the page in this tenant's language."""
        return say(self.locale.language, key, **values)


def view_tenant(part: TenantPart, number: int) -> TenantView:
    """The section of one tenant; ``number`` makes its anchor."""
    locale = locale_of(part)
    banner, kind = _banner(part, locale)
    if part.report is None:
        return TenantView(
            f"shop-{number}", part.tenant_id, part.name, locale, Summary(note=_short_note(part)),
            banner=banner, banner_kind=kind, explanation=explain(part, locale),
        )  # fmt: skip
    return _with_forecast(part, part.report, number, locale, (banner, kind))


def locale_of(part: TenantPart) -> Locale:
    """How the tenant writes: today's facts first, those of the report where they are gone."""
    report = part.report or {}
    language, currency, country = (
        str(part.tenant.get(key) or report.get(key) or "") for key in ("language", "currency", "country")
    )
    ordinary = report.get("total_7", 0.0) / WEEK
    code = currency if CURRENCY_CODE.fullmatch(currency) else ""
    return Locale(language_of(language), code, country, cents=abs(ordinary) < CENTS_BELOW)


def _with_forecast(part: TenantPart, report: Row, number: int, locale: Locale, banner: tuple[str, str]) -> TenantView:
    ahead = _forecast_days(report)
    calendar = part.history.calendar if part.history else Calendar()
    days = _chart_days(report, ahead, part.history, calendar)
    headline = say(locale.language, "headline", n=min(WEEK, len(ahead)), total=locale.money(report["total_7"]))
    n_history = sum(day.sold is not None for day in days)
    label = {"name": part.name, "n_history": n_history, "n_forecast": len(ahead), "headline": headline}
    return TenantView(
        anchor=f"shop-{number}",
        tenant_id=part.tenant_id,
        name=part.name,
        locale=locale,
        summary=_summary(part, report, locale),
        headline=f"{headline}.",
        lines=tuple(_lines(report, days, part.history, locale)),
        small=say(locale.language, "range_note", share=locale.percent(report["interval_level"])),
        banner=banner[0],
        banner_kind=banner[1],
        week=tuple(_week_day(day, locale) for day in days[n_history : n_history + WEEK]),
        chart=draw_chart(days, locale),
        chart_label=say(locale.language, "chart_label", **label),
        readouts=json.dumps([_readout(day, locale) for day in days], ensure_ascii=False),
        parts=view_parts(report, days[n_history:], part.name, locale),
        table=tuple(_table_row(day, locale) for day in days[n_history:]),
        ahead=tuple(_ahead(calendar, ahead, locale)),
        unusual=tuple(_unusual(anomaly, locale) for anomaly in report["anomalies"]),
        facts=_facts(report, locale),
        explanation=explain(part, locale),
    )


# --- days ------------------------------------------------------------------------------------------------------------


def _forecast_days(report: Row) -> list[ChartDay]:
    closed = set(report.get("closed_weekdays") or [])
    return [
        ChartDay(
            day=(day := date.fromisoformat(row["date"])),
            yhat=row["yhat"],
            band=(row["yhat_lower"], row["yhat_upper"]),
            closed=row["yhat_upper"] == 0 and (day.weekday() in closed or row["yhat"] == 0),
        )
        for row in report["forecast"]
    ]


def _chart_days(report: Row, ahead: list[ChartDay], history: History | None, calendar: Calendar) -> list[ChartDay]:
    closed = set(report.get("closed_weekdays") or [])
    odd = {row["date"]: row["expected"] for row in report["anomalies"]}
    shown = history.tail(HISTORY_SHOWN) if history else None
    past = [
        ChartDay(day, sold=sold, expected=odd.get(day.isoformat()), closed=day.weekday() in closed)
        for day, sold in _dated(shown)
    ]
    days = [*past, *ahead]
    return [_marked(day, known) for day, known in zip(days, known_marks(calendar, days[0].day, len(days)), strict=True)]


def _dated(history: History | None) -> list[tuple[date, float]]:
    if history is None:
        return []
    return [(history.start + timedelta(days=i), sold) for i, sold in enumerate(history.y)]


def _marked(day: ChartDay, known: list[tuple[str, str]]) -> ChartDay:
    return ChartDay(
        day.day, day.sold, day.yhat, day.band, day.expected,
        closed=day.closed or any(kind == "closure" for kind, _ in known),
        marks=tuple(kind for kind, _ in known),
        names=tuple(name for _, name in known),
    )  # fmt: skip


def _known_text(day: ChartDay, locale: Locale) -> str:
    texts = []
    for kind, name in zip(day.marks, day.names, strict=True):
        word = say(locale.language, kind)
        texts.append(f"{name} ({word})" if name else word)
    return ", ".join(texts)


# --- sentences -------------------------------------------------------------------------------------------------------


def _lines(report: Row, days: list[ChartDay], history: History | None, locale: Locale) -> list[str]:
    horizon = len(report["forecast"])
    lines = [_total_range(report, 7, locale)]
    if horizon > WEEK:
        n = min(28, horizon)
        headline = say(locale.language, "headline", n=n, total=locale.money(report["total_28"]))
        lines.append(f"{headline}. {_total_range(report, 28, locale)}".strip())
    lines += [
        say_stored(stored, locale.language) for stored in report.get("notes") or [] if stored["code"] == ABOUT_TOTALS
    ]
    versus = compare(report, history)
    if versus:
        n, before, change = versus
        key = "same" if abs(change) < UNMOVED else "versus"
        direction = say(locale.language, "more" if change > 0 else "less")
        lines.append(
            say(
                locale.language, key,
                percent=locale.percent(abs(change)), direction=direction, n=n, total=locale.money(before),
            )
        )  # fmt: skip
    first = next(day for day in days if day.sold is None)
    lines.append(_first_day(first, locale))
    score = report["confidence_score"]
    lines.append(
        say(locale.language, "sure_line", word=say(locale.language, sure_key(score)), score=round(100 * score))
    )
    return [line for line in lines if line]


def _total_range(report: Row, days: int, locale: Locale) -> str:
    """Where a total most likely lies; "" where the horizon or an earlier version gives no band for it."""
    band = (report.get("totals") or {}).get(f"total_{days}")
    if not band:
        return ""
    lower, upper = locale.money(band["yhat_lower"]), locale.money(band["yhat_upper"])
    return say(locale.language, "total_range", lower=lower, upper=upper)


def compare(report: Row, history: History | None) -> tuple[int, float, float] | None:
    """(days, total of the days before, change as a share) against as many days before, at most 28.

    None when the history is shorter than the forecast, or sold nothing in those days.
    """
    n = min(28, len(report["forecast"]))
    if history is None or len(history.y) < n:
        return None
    before = sum(history.y[-n:])
    return (n, before, report["total_28"] / before - 1) if before > 0 else None


def _first_day(day: ChartDay, locale: Locale) -> str:
    name = locale.long_day(day.day)
    title = name[0].upper() + name[1:]
    if day.closed or day.yhat is None or day.band is None:
        return say(locale.language, "first_day_closed", day=title)
    lower, upper = (locale.money(bound) for bound in day.band)
    return say(locale.language, "first_day", day=title, yhat=locale.money(day.yhat), lower=lower, upper=upper)


def sure_key(score: float) -> str:
    """The key of the word for a confidence of 0..1."""
    level = "high" if score >= QUITE_SURE else "medium" if score >= FAIRLY_SURE else "low"
    return f"sure_{level}"


def _week_day(day: ChartDay, locale: Locale) -> WeekDay:
    lower, upper = day.band or (0.0, 0.0)
    return WeekDay(
        day=locale.day(day.day),
        yhat=say(locale.language, "closed") if day.closed else locale.money(day.yhat or 0.0),
        span="" if day.closed else span(locale, lower, upper),
        closed=day.closed,
        name=", ".join(name or say(locale.language, kind) for kind, name in zip(day.marks, day.names, strict=True)),
    )


def _readout(day: ChartDay, locale: Locale) -> str:
    words = [f"{locale.day(day.day)}:"]
    if day.closed and not (day.sold or day.yhat):
        words.append(say(locale.language, "closed"))
    elif day.sold is not None:
        words.append(f"{say(locale.language, 'sales')} {locale.money(day.sold)}")
    else:
        words.append(f"{say(locale.language, 'forecast')} {locale.money(day.yhat or 0.0)}")
        if day.band:
            words.append(f"({span(locale, *day.band)})")
    if day.expected is not None:
        words.append(f"({say(locale.language, 'expected')} {locale.money(day.expected)})")
    known = _known_text(day, locale)
    return " ".join(words) + (f" · {known}" if known else "")


def span(locale: Locale, lower: float, upper: float) -> str:
    """A range of money."""
    return f"{locale.money(lower)} {DASH} {locale.money(upper)}"


def _table_row(day: ChartDay, locale: Locale) -> tuple[str, str, str, str]:
    if day.closed:
        return locale.day(day.day), say(locale.language, "closed"), "", ""
    lower, upper = day.band or (0.0, 0.0)
    return locale.day(day.day), locale.money(day.yhat or 0.0), locale.money(lower), locale.money(upper)


def _ahead(calendar: Calendar, ahead: list[ChartDay], locale: Locale) -> list[str]:
    known = known_marks(calendar, ahead[0].day, len(ahead))
    days = [(day.day, kind, name) for day, found in zip(ahead, known, strict=True) for kind, name in found]
    texts = []
    for first, last, kind, name in stretches(days):
        when = locale.day(first) if first == last else f"{locale.day(first)} {DASH} {locale.day(last)}"
        word = say(locale.language, kind)
        texts.append(f"{when}: {name} ({word})" if name else f"{when}: {word}")
    return texts


def _unusual(anomaly: dict[str, Any], locale: Locale) -> str:
    key = "unusual_up" if anomaly["y"] >= anomaly["expected"] else "unusual_down"
    day = locale.day(date.fromisoformat(anomaly["date"]))
    values = {"y": locale.money(anomaly["y"]), "expected": locale.money(anomaly["expected"])}
    return say(locale.language, key, day=day, **values)


def _facts(report: Row, locale: Locale) -> str:
    as_of = locale.long_day(date.fromisoformat(report["as_of"])) if report.get("as_of") else ""
    return say(locale.language, "facts", time_zone=report["time_zone"], as_of=as_of)


# --- state -----------------------------------------------------------------------------------------------------------


def _banner(part: TenantPart, locale: Locale) -> tuple[str, str]:
    """What must be said first, and how loudly."""
    report = part.report
    day = locale.long_day(date.fromisoformat(report["as_of"])) if report and report.get("as_of") else ""
    if part.state == "failed":
        return say(locale.language, "failed_kept" if report else "failed"), "bad"
    if report is None:
        key = {"no_sales": "no_sales", "pending": "pending"}.get(part.state, "skipped")
        return say(locale.language, key), "info"
    if report.get("stale"):
        return say(locale.language, "stale", day=day), "warn"
    if part.state == "unchanged":
        return say(locale.language, "unchanged", as_of=day), "info"
    return "", "info"


def _short_note(part: TenantPart) -> str:
    if part.state == "failed":
        return "kept_short" if part.report else "failed_short"
    short = {"no_sales": "no_sales_short", "pending": "pending_short", "skipped": "skipped_short"}
    return short.get(part.state, "skipped_short")


def _summary(part: TenantPart, report: Row, locale: Locale) -> Summary:
    versus = compare(report, part.history)
    note = ""
    if part.state == "failed":
        note = "kept_short"
    elif report.get("stale"):
        note = "stale_short"
    elif part.history is not None and len(part.history.y) < YOUNG:
        note = "young_short"
    return Summary(
        next_7=locale.money(report["total_7"]),
        next_28=locale.money(report["total_28"]),
        change=_signed_percent(versus[2], locale) if versus else DASH,
        sure=sure_key(report["confidence_score"]),
        unusual=str(len(report["anomalies"])),
        note=note,
    )


def _signed_percent(share: float, locale: Locale) -> str:
    text = locale.percent(share)
    return f"+{text}" if round(100 * share) > 0 else text
