"""What each forecast day consists of: a sentence, a chart of stacked parts, and the same as a table.

Parts above zero are stacked upwards, parts below it downwards; the stroke is the forecast, their sum.
"""

import json
from dataclasses import dataclass
from itertools import accumulate

from app.db.store import Row
from app.services.ml.explanation import PARTS, sentence
from app.services.report.chart import BASE, HEIGHT, TOP, Bar, ChartDay, Scale, Tick, day_ticks, nice_steps
from app.services.report.formats import Locale
from app.services.report.words import say


@dataclass(frozen=True)
class PartsChart:
    """All that the template draws; units as in `chart.Chart`."""

    bars: tuple[Bar, ...]  # their kinds: "closed", "part-level", "part-weekday", …
    points: tuple[Bar, ...]
    money_ticks: tuple[Tick, ...]
    day_ticks: tuple[Tick, ...]
    zero: float
    height: int = HEIGHT
    top: float = TOP
    base: float = BASE


@dataclass(frozen=True)
class PartsView:
    """The parts of one tenant's forecast in words and geometry."""

    sentence: str  # about the first week
    chart: PartsChart
    label: str
    readouts: str  # JSON: one sentence per day
    table: tuple[tuple[str, ...], ...]  # day, parts, forecast


def view_parts(report: Row, ahead: list[ChartDay], name: str, locale: Locale) -> PartsView | None:
    """The parts of the days ``ahead`` of a report; None where an earlier version made it."""
    summary, parts = report.get("explanation"), [row.get("parts") for row in report["forecast"]]
    if not summary or not all(parts):
        return None
    week = say(locale.language, "next_n", n=summary["days"])
    return PartsView(
        sentence=sentence(week, summary["total"], summary["parts"], summary["days"], locale.language, locale.money),
        chart=draw_parts(ahead, parts, locale),
        label=say(locale.language, "parts_label", name=name, n=len(ahead)),
        readouts=json.dumps([_readout(day, row, locale) for day, row in zip(ahead, parts, strict=True)]),
        table=tuple(
            (locale.day(day.day), *(locale.money(row[name]) for name in PARTS), locale.money(day.yhat or 0.0))
            for day, row in zip(ahead, parts, strict=True)
        ),
    )


def draw_parts(days: list[ChartDay], parts: list[dict[str, float]], locale: Locale) -> PartsChart:
    """Geometry of forecast days with their parts, which follow each other without gaps."""
    stacks = [_stack(row) for row in parts]
    edges = [edge for stack in stacks for _, low, high in stack for edge in (low, high)]
    low, high = min([0.0, *edges]), max([1e-9, *edges])
    scale = Scale(low, high + 0.04 * (high - low))
    step = 100 / len(days)
    return PartsChart(
        bars=tuple(bar for i, day in enumerate(days) for bar in _bars(i * step, step, day, stacks[i], scale)),
        points=tuple(
            Bar(
                "point", round((i + 0.02) * step, 3), round(0.96 * step, 3), round(scale.y(day.yhat or 0.0) - 1, 1), 2.5
            )
            for i, day in enumerate(days)
            if not day.closed
        ),
        money_ticks=tuple(Tick(scale.y(value), locale.money(value)) for value in nice_steps(scale) if value),
        day_ticks=tuple(day_ticks(days, locale)),
        zero=scale.y(0.0),
    )


def _stack(parts: dict[str, float]) -> list[tuple[str, float, float]]:
    """(name, lower edge, upper edge) of each part that is not zero."""
    stacked = []
    for sign in (1.0, -1.0):
        names = [name for name in PARTS if parts[name] * sign > 0]
        ends = list(accumulate((parts[name] for name in names), initial=0.0))
        stacked += [(name, min(a, b), max(a, b)) for name, a, b in zip(names, ends, ends[1:], strict=False)]
    return stacked


def _bars(left: float, step: float, day: ChartDay, stack: list[tuple[str, float, float]], scale: Scale) -> list[Bar]:
    if day.closed:
        return [Bar("closed", round(left, 3), round(step, 3), TOP, BASE - TOP)]
    x, width = round(left + 0.12 * step, 3), round(0.76 * step, 3)
    edges = [(name, scale.y(high), scale.y(low)) for name, low, high in stack]
    return [Bar(f"part-{name}", x, width, top, round(bottom - top, 1)) for name, top, bottom in edges]


def _readout(day: ChartDay, parts: dict[str, float], locale: Locale) -> str:
    if day.closed:
        return f"{locale.day(day.day)}: {say(locale.language, 'closed')}"
    known = ", ".join(name or say(locale.language, kind) for kind, name in zip(day.marks, day.names, strict=True))
    return sentence(locale.day(day.day), day.yhat or 0.0, parts, 1, locale.language, locale.money, known)
