"""Why this forecast: the members and the score table, what changed, the sales behind it, notes and refusals."""

from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

from app.db.store import Row
from app.services.ml.notes import say_stored
from app.services.ml.quality_words import sentences
from app.services.report.data import TenantPart
from app.services.report.formats import DASH, Locale
from app.services.report.words import listing, method_name, say

ABOUT_TOTALS = "rare_sales"  # the note that stands beside the totals, and not among the others
UNMOVED = 0.0005  # a share that even one decimal of a percentage would show as zero
NEARLY_A_TENTH = 0.0995  # a share below it is shown with a decimal


@dataclass(frozen=True)
class ScoreRow:
    """One candidate of the score table."""

    method: str
    part: str
    mae: str
    wape: str
    mase: str
    bias: str
    seconds: str
    remark: str  # why it failed or was left out, or that it was scored in an earlier week
    used: bool


@dataclass(frozen=True)
class Explanation:
    """The folded part of a tenant's section; empty texts and tuples are not printed."""

    why: str = ""
    detail: str = ""
    scores: tuple[ScoreRow, ...] = ()
    changes: tuple[str, ...] = ()
    quality: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    error: tuple[str, ...] = ()


def explain(part: TenantPart, locale: Locale) -> Explanation:
    """Everything that is folded away below the chart."""
    error = _error(part.error, locale)
    report = part.report
    if report is None:
        return Explanation(error=error)
    return Explanation(
        why=_why(report, locale),
        detail=_detail(report, locale),
        scores=tuple(_score_row(row, report, locale) for row in report.get("scores") or []),
        changes=tuple(_changes(report, locale)),
        quality=tuple(_quality(report, part, locale)),
        notes=tuple(_said(stored, locale) for stored in report.get("notes") or [] if stored["code"] != ABOUT_TOTALS),
        refused=tuple(say(locale.language, "refused", **_refusal(row)) for row in report.get("refused_settings") or []),
        error=error,
    )


def _detail(report: Row, locale: Locale) -> str:
    """What the choice was made by; of a blend `_why` has said it all."""
    stored = report.get("reason_note")
    return _said(stored, locale) if stored and report.get("level") != "blend" else ""


def _said(stored: Row, locale: Locale) -> str:
    """A note of the engine in the reader's language, methods by the names of this page."""
    return say_stored(stored, locale.language, partial(method_name, locale.language))


def _error(error: Row | None, locale: Locale) -> tuple[str, ...]:
    if not error:
        return ()
    step = error.get("next_step")
    told = [str(error.get("message") or error.get("code") or "")]
    return tuple([*told, say(locale.language, "next_step", step=step)] if step else told)


def _refusal(row: dict[str, Any]) -> dict[str, str]:
    return {key: str(row.get(key, "")) for key in ("field", "value", "reason")}


def _why(report: Row, locale: Locale) -> str:
    weights: dict[str, float] = report.get("weights") or {}
    members = sorted(weights.items(), key=lambda member: -member[1])
    if len(members) > 1:
        parts = [f"{method_name(locale.language, name)} ({locale.percent(weight)})" for name, weight in members]
        return say(locale.language, "why_blend", members=listing(locale.language, parts))
    name = members[0][0] if members else report["chosen"]
    key = "why_single" if report.get("level") != "fallback" else "why_fallback"
    return say(locale.language, key, members=method_name(locale.language, name))


def _score_row(row: dict[str, Any], report: Row, locale: Locale) -> ScoreRow:
    metrics: dict[str, float | None] = row.get("metrics") or {}
    weight = (report.get("weights") or {}).get(row["name"], 0.0)
    status = say(locale.language, f"status_{row['status']}")
    reason = row.get("reason") if locale.language == "en" else ""  # a candidate's own words are English
    remark = ": ".join(text for text in (status, reason) if text) or _scored_earlier(row, report, locale)
    return ScoreRow(
        method=method_name(locale.language, row["name"]),
        part=locale.percent(weight) if weight else DASH,
        mae=_metric(metrics.get("mae"), locale.money),
        wape=_metric(metrics.get("wape"), locale.percent),
        mase=_metric(metrics.get("mase"), lambda value: locale.number(value, 2)),
        bias=_metric(metrics.get("bias"), locale.money),
        seconds=locale.number(row.get("seconds") or 0.0, 1),
        remark=remark,
        used=weight > 0,
    )


def _scored_earlier(row: dict[str, Any], report: Row, locale: Locale) -> str:
    through = row.get("scored_through") or ""
    if not through or through >= (report.get("as_of") or ""):
        return ""
    return say(locale.language, "scored_through", day=locale.day(date.fromisoformat(through)))


def _metric(value: float | None, write: Any) -> str:
    return DASH if value is None or value != value else str(write(value))  # noqa: PLR0124 (nan is not itself)


def _changes(report: Row, locale: Locale) -> list[str]:
    change: dict[str, Any] | None = report.get("changes")
    if not change:
        return [say(locale.language, "changed_first")]
    texts = []
    before, after, n_days = change["previous_total"], change["total"], change["days"]
    if n_days:
        moved = abs(after - before) / abs(before) if before else float(after != before)
        direction = say(locale.language, "more" if after > before else "less")
        texts.append(
            say(
                locale.language, "changed_same" if moved < UNMOVED else "changed",
                n=n_days, before=locale.money(before), after=locale.money(after),
                percent=_fine_percent(moved, locale), direction=direction,
            )
        )  # fmt: skip
    if change.get("previous_as_of"):
        day = locale.long_day(date.fromisoformat(change["previous_as_of"]))
        texts.append(say(locale.language, "changed_before", day=day))
    chosen_before = change.get("chosen_before")
    if chosen_before and chosen_before != report["chosen"]:
        names = {"before": chosen_before, "after": report["chosen"]}
        told = {key: method_name(locale.language, name) for key, name in names.items()}
        texts.append(say(locale.language, "changed_method", **told))
    return texts


def _fine_percent(share: float, locale: Locale) -> str:
    """Small changes with a decimal: "0.4%", not "0%"."""
    gap = "\N{NO-BREAK SPACE}" if locale.language == "es" else ""
    return f"{locale.number(100 * share, 1 if share < NEARLY_A_TENTH else 0)}{gap}%"


def _quality(report: Row, part: TenantPart, locale: Locale) -> list[str]:
    """What the intake says about the sales; for a report without its words, at least their extent."""
    quality = report.get("quality")
    if quality:
        return sentences(quality, locale.language)
    if not part.history:
        return []
    span = {"start": locale.long_day(part.history.start), "end": locale.long_day(part.history.end)}
    return [say(locale.language, "quality_days", days=locale.number(len(part.history.y)), **span)]
