"""`demo` (a dozen shops, start to end) and `report` (one page for a run)."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.cli.ledger import parse_run_id
from app.cli.output import JsonOption, emit, examples, plain, progress_bar, stderr_console, waiting
from app.cli.session import open_database, session_of

OpenOption = Annotated[bool, typer.Option("--open", help="Show it in a browser.")]
FAILED = 1
STEPS = {
    "database": "starting a database of its own",
    "shops": "making up shops",
    "import": "importing their sales",
    "forecast": "forecasting",
}


def add_to(app: typer.Typer) -> None:
    """Put this module's commands into the command."""
    app.command(
        "demo", epilog=examples("tenantcast demo", "tenantcast demo --jobs 2 --open", "tenantcast demo --json")
    )(demo)
    app.command(
        "report",
        epilog=examples(
            "tenantcast report", "tenantcast report --run 5e1c… --out week.html", "tenantcast report --open"
        ),
    )(report)


def demo(
    ctx: typer.Context,
    out: Annotated[Path | None, typer.Option(help="The page; default: demo/report.html in TENANTCAST_HOME.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, max=256, help="Worker processes; default: one per core.")] = None,
    open_it: OpenOption = False,
    as_json: JsonOption = False,
) -> None:
    """A dozen made-up shops, start to end: import, forecast, a table and a page to look at.

    Uses a database of its own, never yours, and stops it at the end. Ends with 1 when a shop failed.
    """
    from app.services.demo.run import run_demo
    from app.services.demo.table import demo_table

    session = session_of(ctx)
    with progress_bar("Demo") as advance:
        result = run_demo(
            session.settings,
            session.ml_settings,
            out=out,
            jobs=jobs,
            progress=lambda step, done, total: advance(done, total, STEPS.get(step, step)),
        )

    def show(console: Console) -> None:
        console.print(demo_table(result))
        console.print(f"Look at it: {plain(result.page.as_uri())}", soft_wrap=True)

    emit(as_json, result.as_dict(), show)
    _open_page(result.page, wanted=open_it)
    if result.counts.get("failed"):
        raise typer.Exit(FAILED)


def report(
    ctx: typer.Context,
    run: Annotated[str | None, typer.Option(metavar="ID", help="A run's id; default: the newest.")] = None,
    out: Annotated[Path | None, typer.Option(help="The file; default: report.html in TENANTCAST_HOME.")] = None,
    open_it: OpenOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write one self-contained HTML page for a run: every tenant's chart, choice, scores, changes and data quality."""
    from app.services.report import write_report

    run_id = parse_run_id(run)
    target = out or session_of(ctx).settings.tenantcast_home / "report.html"
    with open_database(ctx) as gateway, waiting("Writing the page …"):
        page = write_report(gateway, run_id, target)
    emit(as_json, {"page": str(page), "url": page.as_uri()}, lambda console: console.print(plain(page), soft_wrap=True))
    _open_page(page, wanted=open_it)


def _open_page(page: Path, *, wanted: bool) -> None:
    if wanted and not webbrowser.open(page.as_uri()):
        stderr_console().print("There is no browser here to open it with.")
