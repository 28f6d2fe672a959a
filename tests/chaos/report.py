"""What a storm says when it is over: one table for people, numbers that the issue asks for."""

import math
from collections import defaultdict

from rich.console import Console
from rich.table import Table

from tests.chaos.storm import Hit, percentile
from tests.chaos.verdict import Verdict

WRONGS = ("lost", "doubled", "mixed", "different", "orphaned", "foreign")


def show_faults(console: Console, hits: list[Hit]) -> None:
    """Faults by kind: on how many tenants somebody was at work, and the time until work went on."""
    by_kind: defaultdict[str, list[Hit]] = defaultdict(list)
    for hit in hits:
        by_kind[hit.strike.kind].append(hit)
    table = Table("fault", "times", "at work", "recovery p50", "p99", "longest")
    for kind, group in sorted(by_kind.items()):
        table.add_row(kind, *_figures(group))
    table.add_section()
    table.add_row("all", *_figures(hits))
    console.print(table)


def show_verdict(console: Console, title: str, verdict: Verdict) -> None:
    """The counts that must be 0, and how often somebody began to work on a tenant."""
    table = Table("", "tenants", *WRONGS, "parked", "attempts")
    counts = [str(len(getattr(verdict, name))) for name in WRONGS]
    table.add_row(title, str(verdict.tenants), *counts, str(len(verdict.parked)), str(verdict.attempts or "-"))
    console.print(table)
    for name, tenants in verdict.wrong.items():
        console.print(f"  {name}: {', '.join(tenants[:5])}{' …' if len(tenants) > 5 else ''}")


def _figures(hits: list[Hit]) -> list[str]:
    # Infinite where work did not go on before the harness gave up.
    seconds = [math.inf if hit.recovered is None else hit.recovered for hit in hits]
    at_work = sum(len(hit.held) for hit in hits) / max(len(hits), 1)
    figures = (percentile(seconds, 0.5), percentile(seconds, 0.99), max(seconds, default=0.0))
    return [str(len(hits)), f"{at_work:.1f}", *(f"{figure:.1f} s" for figure in figures)]
