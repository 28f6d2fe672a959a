"""`health` and `cleanup`: what a monitor asks, and what the nightly clean-ups do or would do."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from app.cli.health import FAILED, SIGNS
from app.cli.output import JsonOption, emit, examples, table, waiting
from app.cli.session import open_database, session_of

if TYPE_CHECKING:
    from app.services.health import HealthReport
    from app.services.maintenance import CleanUpReport


def add_to(app: typer.Typer) -> None:
    """Put this module's commands into the command."""
    app.command("health", epilog=examples("tenantcast health", "tenantcast health --json"))(health)
    app.command(
        "cleanup",
        epilog=examples("tenantcast cleanup --dry-run", "tenantcast cleanup", "tenantcast cleanup --dry-run --json"),
    )(cleanup)


def health(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Can the work be done right now: database, migrations, row security, Redis, queue, leases, freshness.

    For a monitor; it reads no sales and changes nothing. Ends with 1 when a check fails.
    """
    from app.services.health import health_check

    with open_database(ctx) as gateway, waiting("Looking …"):
        report = health_check(gateway, session_of(ctx).settings)

    emit(as_json, report, lambda console: print_health(console, report))
    if report["status"] == "fail":
        raise typer.Exit(FAILED)


def cleanup(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what is due; delete nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete what is older than the ML_KEEP_… settings keep it and not in use, as the workers do every night.

    The current forecast, the active model and the record of what was forecast stay. Ends with 1 when a clean-up was
    refused because it would delete too large a share of a table.
    """
    from app.config.maintenance_settings import MaintenanceSettings
    from app.services.maintenance import everything

    with open_database(ctx) as gateway, waiting("Cleaning up …"):
        reports = everything(gateway, MaintenanceSettings(), dry_run=dry_run)

    emit(as_json, {"clean_ups": reports}, lambda console: print_clean_ups(console, reports))
    if any(report["status"] == "refused" for report in reports):
        raise typer.Exit(FAILED)


def print_health(console: Console, report: "HealthReport") -> None:
    """Every check with its next step."""
    rows = []
    for check in report["checks"]:
        next_step = f"\nNext: {check['next_step']}" if check["next_step"] else ""
        rows.append((Text(*SIGNS[str(check["status"])]), str(check["name"]), f"{check['detail']}{next_step}"))
    console.print(table("tenantcast health", ("", "check", "finding"), rows))


def print_clean_ups(console: Console, reports: "list[CleanUpReport]") -> None:
    """What was due and what became of it."""
    columns = ("what", "rows", "due", "deleted", "")
    rows = [
        (
            report["what"].replace("_", " "),
            f"{report['rows']:,}",
            f"{report['due']:,}",
            f"{report['deleted']:,}",
            report["reason"] or report["status"].replace("_", " "),
        )
        for report in reports
    ]
    console.print(table("tenantcast cleanup", columns, rows, right=("rows", "due", "deleted")))
