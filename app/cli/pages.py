"""`demo` (a dozen shops, start to end) and `report` (one page for a run)."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from app.cli.ledger import parse_run_id
from app.cli.output import JsonOption, emit, examples, plain, waiting
from app.cli.session import open_database, session_of


def add_to(app: typer.Typer) -> None:
    """Put this module's commands into the command."""
    app.command(
        "report",
        epilog=examples(
            "tenantcast report", "tenantcast report --run 5e1c… --out week.html", "tenantcast report --open"
        ),
    )(report)


def report(
    ctx: typer.Context,
    run: Annotated[str | None, typer.Option(metavar="ID", help="A run's id; default: the newest.")] = None,
    out: Annotated[Path | None, typer.Option(help="The file; default: report.html in TENANTCAST_HOME.")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write one self-contained HTML page for a run: every tenant's chart, choice, scores, changes and data quality."""
    from app.services.report import write_report

    run_id = parse_run_id(run)
    target = out or session_of(ctx).settings.tenantcast_home / "report.html"
    with open_database(ctx) as gateway, waiting("Writing the page …"):
        page = write_report(gateway, run_id, target)
    emit(as_json, {"page": str(page), "url": page.as_uri()}, lambda console: console.print(plain(page), soft_wrap=True))
    if open_it:
        webbrowser.open(page.as_uri())
