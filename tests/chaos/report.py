"""What a storm says when it is over: one table for people, numbers that the issue asks for."""

import math
from collections import defaultdict

from rich.console import Console
from rich.table import Table

from tests.chaos.storm import Hit, percentile
from tests.chaos.verdict import Verdict

WRONGS = ("lost", "doubled", "mixed", "different", "orphaned", "foreign")


def show_faults(console: Console, hits: list[Hit]) -> None:
    """Faults by kind with the time until work went on: nobody held by the fault, and the next tenant finished."""
    by_kind: defaultdict[str, list[float]] = defaultdict(list)
    for hit in hits:
        by_kind[hit.strike.kind].append(_seconds(hit))
    table = Table("fault", "times", "recovery p50", "p99", "longest")
    for kind, seconds in sorted(by_kind.items()):
        table.add_row(kind, str(len(seconds)), *_shown(seconds))
    seconds = [_seconds(hit) for hit in hits]
    table.add_section()
    table.add_row("all", str(len(seconds)), *_shown(seconds))
    console.print(table)


def show_verdict(console: Console, title: str, verdict: Verdict) -> None:
    """The counts that must be 0, and how often somebody began to work on a tenant."""
    table = Table("", "tenants", *WRONGS, "parked", "attempts")
    counts = [str(len(getattr(verdict, name))) for name in WRONGS]
    table.add_row(title, str(verdict.tenants), *counts, str(len(verdict.parked)), str(verdict.attempts or "-"))
    console.print(table)
    for name, tenants in verdict.wrong.items():
        console.print(f"  {name}: {', '.join(tenants[:5])}{' …' if len(tenants) > 5 else ''}")


def _seconds(hit: Hit) -> float:
    """Infinite when work did not go on before the harness gave up."""
    return math.inf if hit.recovered is None else hit.recovered


def _shown(seconds: list[float]) -> list[str]:
    figures = (percentile(seconds, 0.5), percentile(seconds, 0.99), max(seconds, default=0.0))
    return [f"{figure:.1f} s" for figure in figures]
