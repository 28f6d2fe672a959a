"""tenantcast and its rivals side by side, on the same series, folds and machine.

    make bench                     everything; writes docs/benchmarks.md (hours of CPU; goes on where it stopped)
    make bench SAMPLE=20           20 series, evenly from every source, in at most 10 minutes
    make bench ABLATION=1          also `full` with one part taken out at a time
    make bench METHODS=reference,tenantcast_fast
    make bench SAMPLE=20 FRESH=1   measure everything anew: times side by side, under one load

Forecasts are kept in .cache/bench/results.jsonl by method, series, origin, data, versions, settings and kind of
machine: what is there is not made again. The data come from TENANTCAST_DATA (../shared/data).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from app.errors import ConfigError, TenantcastError
from benchmarks.data import data_folder, read_known, sample
from benchmarks.measure import measure
from benchmarks.methods import Method
from benchmarks.page import About, figures, page
from benchmarks.plan import Span
from benchmarks.registry import methods
from benchmarks.runner import Progress, run
from benchmarks.store import ResultFile, machine

CACHE = Path(".cache/bench")
PAGE = Path("docs/benchmarks.md")
SAMPLE_MINUTES = 7.5  # of ten: the rest is for installing
OK, REFUSED = 0, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing as far as time allows, print the table, write the page; 2 when there is nothing to run on."""
    asked = _arguments(arguments)
    console = Console(stderr=asked.json)
    for name in [name for name in os.environ if name.startswith("ML_")]:
        del os.environ[name]  # the defaults are judged, not this shell's settings
    try:
        chosen, absent = select(asked.methods, ablation=asked.ablation)
        series = read_known(data_folder())
    except TenantcastError as error:
        Console(stderr=True).print(f"{error.message} {error.next_step}", soft_wrap=True)
        return REFUSED
    series = sample(series, asked.sample) if asked.sample else series
    span = Span(asked.horizon, asked.windows)
    if asked.fresh:
        asked.results.unlink(missing_ok=True)
    file = ResultFile(asked.results)
    with _bar(console) as progress:
        run(chosen, series, span, file, jobs=asked.jobs, minutes=asked.minutes, progress=progress)
    reached = measure(chosen, series, span, file)
    found = figures(reached, series, _about(asked, span), absent)
    _write(asked, found, console)
    if asked.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        _print(console, found)
    return OK


def select(names: str, *, ablation: bool) -> tuple[list[Method], list[str]]:
    """The methods that are asked for and installed, and a line for each that is not installed.

    Parameters
    ----------
    names : separated by commas; empty for all of the main table
    ablation : the variants of ours, too

    Raises
    ------
    ConfigError : there is no such method
    """
    known = methods()
    wanted = [name for name in names.replace(" ", "").split(",") if name]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(f"There is no method {', '.join(unknown)}.", next_step=f"Choose among {', '.join(known)}.")
    asked = [
        method
        for method in known.values()
        if (method.name in wanted if wanted else method.group != "ablation")
        or (ablation and method.group == "ablation")
    ]
    absent = [
        f"{method.title} did not run: {', '.join(missing)} not installed."
        for method in asked
        if (missing := method.missing())
    ]
    return [method for method in asked if not method.missing()], absent


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="so many series, evenly from every source")
    parser.add_argument("--methods", default="", metavar="A,B", help="only these rows")
    parser.add_argument("--ablation", action="store_true", help="what each part of `full` brings")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--minutes", type=float, help=f"begin nothing after that ({SAMPLE_MINUTES:g} with --sample)")
    parser.add_argument("--horizon", type=int, default=28)
    parser.add_argument("--windows", type=int, default=3)
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--results", type=Path, default=CACHE / "results.jsonl", help="where forecasts are kept")
    kept.add_argument("--fresh", action="store_true", help="make everything anew; what was kept stays where it is")
    parser.add_argument("--page", type=Path, help=f"default: {PAGE}; {CACHE}/benchmarks.md for a part of the table")
    parser.add_argument("--json", action="store_true", help="the figures as JSON on stdout")
    asked = parser.parse_args(arguments)
    if asked.sample and asked.minutes is None:
        asked.minutes = SAMPLE_MINUTES
    if asked.fresh:
        asked.results = CACHE / "fresh" / "results.jsonl"
    if min(asked.jobs, asked.horizon, asked.windows, asked.sample or 1) < 1:
        parser.error("--jobs, --horizon, --windows and --sample must be 1 or more")
    return asked


@contextmanager
def _bar(console: Console) -> Iterator[Progress | None]:
    """A progress bar on a terminal; nothing elsewhere."""
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console) as bar:
        shown = bar.add_task("starting", total=None)
        yield lambda done, total, name: bar.update(shown, completed=done, total=total, description=name)


def _about(asked: argparse.Namespace, span: Span) -> About:
    variables = {"SAMPLE": asked.sample, "METHODS": asked.methods, "ABLATION": asked.ablation, "FRESH": asked.fresh}
    given = "".join(f" {name}={1 if value is True else value}" for name, value in variables.items() if value)
    return About(
        command=f"make bench{given}",
        date=datetime.now(UTC).date().isoformat(),
        commit=_commit(),
        machine=machine(),
        python=platform.python_version(),
        span=span,
        sample=asked.sample,
    )


def _commit() -> str:
    """The commit that is checked out, marked when files differ from it; "unknown" outside a repository."""
    command = ["git", "-c", "safe.directory=*", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _write(asked: argparse.Namespace, found: dict[str, Any], console: Console) -> None:
    """docs/benchmarks.md is for the whole table; a part of it goes beside the results."""
    whole = not (asked.sample or asked.methods or asked.fresh or found["unfinished"])
    target = asked.page or (PAGE if whole else asked.results.parent / PAGE.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(found), encoding="utf-8")
    console.print(f"Written to {target}", soft_wrap=True)


def _print(console: Console, found: dict[str, Any]) -> None:
    windows = found["about"]["span"]["windows"]
    title = f"{found['series']} series, {windows} windows each"
    caption = "worse than seasonal naive: of windows / of series; x: times REFERENCE; in an ablation, times the whole"
    table = Table(title=title, caption=caption)
    table.add_column("method", overflow="fold")
    for heading in ("MASE", "sQL", "80 %", "95 %", "worse", "CPU s", "MASE", "CPU"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in [*found["methods"], *found["ablation"]]:
        mase, sql, coverage_80, coverage_95, cpu = (
            _cell(row[name], ".3f") for name in ("mase", "sql", "coverage_80", "coverage_95", "cpu")
        )
        worse = f"{_cell(row['worse'], '.0%')}/{_cell(row['worse_series'], '.0%')}"
        ratios = (_cell((row["ratios"][name] or {}).get("value"), ".2f", "x ") for name in ("mase", "cpu"))
        table.add_row(row["name"], mase, sql, coverage_80, coverage_95, worse, cpu, *ratios)
    console.print(table)
    for line in found["absent"]:
        console.print(line, soft_wrap=True)
    for title, count in found["unfinished"].items():
        console.print(f"{title}: {count} forecasts unfinished; the same command goes on.", soft_wrap=True)
    for name, reasons in found["failures"].items():
        console.print(f"{name}: {len(reasons)} failed, the first: {reasons[0]}", soft_wrap=True)


def _cell(value: float | None, form: str, before: str = "") -> str:
    return "-" if value is None else before + format(value, form)


if __name__ == "__main__":
    raise SystemExit(main())
