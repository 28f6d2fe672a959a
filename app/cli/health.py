"""`doctor`: what is wrong, and the next step."""

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from app.cli.intake import ColumnOption, parse_columns
from app.cli.output import JsonOption, emit, examples, table, waiting
from app.cli.session import session_of

if TYPE_CHECKING:
    from app.services.doctor import Check, Diagnosis

FAILED = 1
CENTS = 2  # decimals
SIGNS = {"ok": ("ok", "green"), "warn": ("warning", "yellow"), "fail": ("FAILED", "bold red")}


def add_to(app: typer.Typer) -> None:
    """Put this module's commands into the command."""
    app.command(
        "doctor",
        epilog=examples("tenantcast doctor", "tenantcast doctor --file sales.csv.gz", "tenantcast doctor --json"),
    )(doctor)


def doctor(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Option(help="A transactions file that was imported: compare rows and sums per tenant, to the cent."),
    ] = None,
    column: ColumnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at database, migrations, row security, sales, keys and libraries; changes nothing.

    Ends with 1 when a check fails.
    """
    from app.db.connect import open_gateway
    from app.services.doctor import diagnose

    session = session_of(ctx)
    with waiting("Looking …"):
        columns = parse_columns(column or [])
        found = diagnose(session.settings, session.ml_settings, open_gateway, file=file, columns=columns)

    emit(as_json, found.as_dict(), lambda console: print_diagnosis(console, found))
    if found.failed:
        raise typer.Exit(FAILED)


def print_diagnosis(console: Console, found: "Diagnosis") -> None:
    """Every check with its next step, then the sales that were counted."""
    rows = [(Text(*SIGNS[check.status]), check.name, _finding(check)) for check in found.checks]
    console.print(table("tenantcast doctor", ("", "check", "finding"), rows))
    columns = ("tenant", "rows (owner)", "rows (worker)", "sum (owner)", "sum (worker)")
    sales = [
        (
            row["name"] or row["tenant_id"],
            f"{row['owner_rows']:,}",
            f"{row['worker_rows']:,}",
            exact_sum(row["owner_total"]),
            exact_sum(row["worker_total"]),
        )
        for row in found.sales
    ]
    if sales:
        console.print(table("Sales that the forecasts are made from", columns, sales, right=columns[1:]))


def exact_sum(text: str | None) -> str:
    """An exact sum as the database gives it, with two decimals or as many as it has."""
    if text is None:
        return ""
    value = Decimal(text)
    exponent = value.as_tuple().exponent
    return f"{value:,}" if isinstance(exponent, int) and exponent < -CENTS else f"{value:,.{CENTS}f}"


def _finding(check: "Check") -> str:
    return f"{check.detail}\nNext: {check.next_step}" if check.next_step else check.detail
