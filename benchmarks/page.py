"""The figures of a run as plain data, and as docs/benchmarks.md: no number is written by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.services.ml.totals import SPANS
from benchmarks.bootstrap import Ratio, ratio
from benchmarks.data import SOURCES, source_of
from benchmarks.measure import MEASURES, Reached, pooled
from benchmarks.methods import Known
from benchmarks.plan import Span

REFERENCE = "reference"
RATIOS = ("mase", "sql", "cpu")
TEMPLATE = "benchmarks.md.j2"


@dataclass(frozen=True)
class About:
    """Where, when and how a run was made."""

    command: str
    date: str
    commit: str
    machine: str
    python: str
    span: Span
    sample: int | None


def figures(reached: Sequence[Reached], series: Sequence[Known], about: About, absent: Sequence[str]) -> dict[str, Any]:
    """Everything that the page and `--json` show; an undefined number is None.

    "methods" has a row per method: pooled measures, ratios to REFERENCE on common series-windows with their 95 %
    bootstrap intervals, the same MASE and coverage per source, and coverage per week ahead, in all and per source;
    "worse" is a share of windows, "worse_series" one of series. "ablation" has the
    variants of ours, with ratios to the whole. ``absent`` says which methods did not run, and why.
    """
    by_name = {one.method.name: one for one in reached}
    sources = _sources(series)
    compared = [one for one in reached if one.method.group != "ablation" and one.windows]
    variants = [one for one in reached if one.method.group == "ablation" and one.windows]
    found: dict[str, Any] = _plain(
        {
            "about": {**about.__dict__, "span": about.span.__dict__},
            "series": len(series),
            "sources": {source: len(ids) for source, ids in sources.items()},
            "weeks": about.span.horizon // 7,
            "methods": [_row(one, by_name.get(REFERENCE), sources, about.span) for one in compared],
            "ablation": [_row(one, by_name.get("ablation_full"), {}, about.span) for one in variants],
            "absent": list(absent),
            "failures": {one.method.name: one.failures for one in reached if one.failures},
            "unfinished": {one.method.title: one.unfinished for one in reached if one.unfinished},
        }
    )
    return found


def page(found: dict[str, Any]) -> str:
    """The figures as a Markdown page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Markdown from our own numbers
    )
    environment.filters.update(number=_number, short=_short, percent=_percent, whole=_whole, ratio=_ratio_text)
    return environment.get_template(TEMPLATE).render(found, totals=SPANS)


def _row(one: Reached, other: Reached | None, sources: dict[str, frozenset[str]], span: Span) -> dict[str, Any]:
    parts = {source: one.of(ids) for source, ids in sources.items()}
    others = {source: other.of(ids) for source, ids in sources.items()} if other else {}
    return {
        "name": one.method.name,
        "title": one.method.title,
        "group": one.method.group,
        "version": one.version,
        "settings": dict(one.method.settings),
        "windows": len(one.windows),
        "series": len({unique_id for unique_id, _ in one.windows}),
        "failed": len(one.failures),
        "days": sorted(one.days),
        "load": sum(one.loads) / len(one.loads) if one.loads else float("nan"),
        **{measure: pooled(one.windows, measure) for measure in MEASURES},
        "ratios": _compared(one, other, RATIOS),
        "by_source": {
            source: {
                **{measure: pooled(part.windows, measure) for measure in MEASURES},
                "ratios": _compared(part, others.get(source), ("mase",)),
                "by_week": _by_week(part, span),
            }
            for source, part in parts.items()
        },
        "by_week": _by_week(one, span),
        "totals": {
            f"{days}_{level}": pooled(one.windows, f"coverage_{level}_total_{days}")
            for days in SPANS for level in (80, 95)
        },
    }  # fmt: skip


def _by_week(one: Reached, span: Span) -> list[dict[str, float]]:
    """Coverage of each week ahead."""
    return [
        {f"coverage_{level}": pooled(one.windows, f"coverage_{level}_week_{week}") for level in (80, 95)}
        for week in range(1, span.horizon // 7 + 1)
    ]


def _compared(one: Reached, other: Reached | None, measures: Sequence[str]) -> dict[str, Ratio | None]:
    return {measure: ratio(one.windows, other.windows, measure) if other else None for measure in measures}


def _sources(series: Sequence[Known]) -> dict[str, frozenset[str]]:
    names = {one.unique_id: source_of(one.unique_id) for one in series}
    order = [*SOURCES, *sorted(set(names.values()) - set(SOURCES))]
    found = {source: frozenset(name for name, its in names.items() if its == source) for source in order}
    return {source: ids for source, ids in found.items() if ids}


def _plain(value: Any) -> Any:
    """JSON-safe: a ratio as its three numbers, what is not finite as None."""
    if isinstance(value, Ratio):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _or_dash(show: Callable[[float], str]) -> Callable[[float | None], str]:
    return lambda value: "–" if value is None else show(value)


_number = _or_dash(lambda value: f"{value:.3f}")
_short = _or_dash(lambda value: f"{value:.1f}")
_whole = _or_dash(lambda value: f"{100 * value:.0f}")
_percent = _or_dash(lambda value: f"{100 * value:.1f} %")


def _ratio_text(value: dict[str, float | None] | None) -> str:
    if not value or value["value"] is None:
        return "–"
    if value["low"] == value["high"]:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
