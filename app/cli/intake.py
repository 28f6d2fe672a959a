"""`import` (sales) and `calendar import` (closures, promotions, events): from CSV files into the database."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer
from rich.console import Console

from app.cli.output import JsonOption, emit, examples, money, plain, progress_bar, stderr_console, table, waiting
from app.cli.session import open_database
from app.errors import ConfigError, InvalidFile

if TYPE_CHECKING:
    from app.services.sales_import import ImportReport

FIELDS_OF_SALES = "tenant_id, fecha, total, producto_id, venta_id, cantidad"
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(metavar="FIELD=NAME", help=f"The file's name of a column. Repeat. Fields: {FIELDS_OF_SALES}."),
]

calendar = typer.Typer(no_args_is_help=True, help="Days known ahead: closures, promotions, events.")

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A CSV file.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Put this module's commands into the command."""
    app.command(
        "import",
        epilog=examples(
            "tenantcast import sales.csv.gz",
            "tenantcast import sales.csv --timezone Europe/Madrid --dry-run",
            "tenantcast import sales.csv.gz --country GB --currency GBP --language en",
            "tenantcast import export.csv --column tenant_id=shop --column fecha=created_at --column total=amount",
        ),
    )(import_sales)
    app.add_typer(calendar, name="calendar")


def import_sales(
    ctx: typer.Context,
    file: FileArgument,
    *,
    column: ColumnOption = None,
    timezone: Annotated[str, typer.Option(help="Zone of times without an offset; default: the tenant's own.")] = "",
    time_format: Annotated[str, typer.Option(help="strptime format of times that are not ISO 8601.")] = "",
    decimal_comma: Annotated[bool, typer.Option("--decimal-comma", help="Read 1.234,50 as 1234.50.")] = False,
    delimiter: Annotated[str, typer.Option(help="Default: comma, semicolon, tab or bar, as the header has it.")] = "",
    encoding: Annotated[str, typer.Option(help="The file's encoding.")] = "utf-8",
    tenant: Annotated[str, typer.Option(help="The tenant of a file without a tenant column.")] = "",
    country: Annotated[
        str, typer.Option(help="Country of the file's tenants, for public holidays: ISO 3166, such as ES or DE-BY.")
    ] = "",
    currency: Annotated[str, typer.Option(help="Their currency, to be shown: ISO 4217, such as EUR.")] = "",
    language: Annotated[Literal["en", "es"] | None, typer.Option(help="The language of their report.")] = None,
    cutoff_hour: Annotated[
        int | None, typer.Option(min=0, max=23, help="Local hour at which their business day ends; a bar's may be 5.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; say what would happen.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Load transactions from a CSV (plain or .gz). Importing a file twice is the same as once.

    Rows that cannot be used are kept aside with line number and reason; every other row is used. Ends with 3 when the
    file breaks off in the middle (what stands before is kept), and when not one of its rows could be used.
    """
    from app.services.sales_import import ImportOptions, TenantFacts, import_file

    said = {"country": country, "currency": currency, "language": language, "cutoff_hour": cutoff_hour}
    options = ImportOptions(
        columns=parse_columns(column or []),
        timezone=timezone,
        time_format=time_format,
        decimal_comma=decimal_comma,
        delimiter=delimiter,
        encoding=encoding,
        tenant=tenant,
        every_tenant=cast("TenantFacts", {name: value for name, value in said.items() if value not in ("", None)}),
        dry_run=dry_run,
    )
    with open_database(ctx) as gateway, progress_bar(f"Importing {file.name}") as advance:
        report = import_file(file, gateway, options, lambda done, total: advance(done, total, ""))
    emit(as_json, report, lambda console: print_import(console, report))
    if not report["complete"]:
        stderr_console().print(f"{file.name} broke off: {plain(report['problem'])}. What stands before is kept.")
        raise typer.Exit(InvalidFile.exit_code)
    if report["rows"] and not report["accepted"]:
        stderr_console().print(
            f"Not one row of {file.name} could be used. Are --column, --timezone, --delimiter right?"
        )
        raise typer.Exit(InvalidFile.exit_code)


def parse_columns(pairs: list[str]) -> dict[str, str]:
    """``["total=amount"]`` as a mapping. Raises ConfigError for what is no pair."""
    columns: dict[str, str] = {}
    for pair in pairs:
        field, equals, name = pair.partition("=")
        if not (field and equals and name):
            raise ConfigError(f"--column {pair!r} is no FIELD=NAME.", next_step="For instance --column total=amount.")
        columns[field.strip()] = name.strip()
    return columns


@calendar.command(
    "import",
    epilog=examples("tenantcast calendar import closures.csv", "tenantcast calendar import 2027.csv --replace --json"),
)
def import_calendar(
    ctx: typer.Context,
    file: FileArgument,
    replace: Annotated[bool, typer.Option("--replace", help="Drop a tenant's earlier days first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Load closures, promotions and events known ahead from a CSV: tenant_id,day,kind,name.

    A file with a wrong line is not written at all; its wrong lines are named.
    """
    from app.services.calendar_import import import_calendar as read_and_write

    with open_database(ctx) as gateway, waiting("Importing …"):
        report = read_and_write(file, gateway, replace=replace)

    def show(console: Console) -> None:
        kinds = ", ".join(f"{count} {kind}" for kind, count in report["kinds"].items()) or "nothing"
        console.print(f"{report['days']} days of {report['tenants']} tenants: {kinds}.")

    emit(as_json, report, show)


def print_import(console: Console, report: "ImportReport") -> None:
    """What came in, tenant by tenant, then what was kept aside and why."""
    rows = [
        (
            one["name"] or one["tenant_id"],
            f"{one['inserted']:,}",
            f"{one['known']:,}",
            f"{one['duplicates']:,}",
            f"{one['quarantined']:,}",
            money(float(one["total"])),
            (one["first_sale"] or "")[:10],
            (one["last_sale"] or "")[:10],
        )
        for one in report["tenants"]
    ]
    new = "would be new" if report["dry_run"] else "new"
    columns = ("tenant", new, "known", "repeated", "aside", "sum", "first", "last")
    title = f"{report['file']}: {report['rows']:,} rows{' (nothing was written)' if report['dry_run'] else ''}"
    console.print(table(title, columns, rows, right=columns[1:6], whole=columns[6:]))
    if report["reasons"]:
        reasons = [
            (one["reason"].replace("_", " "), f"{one['rows']:,}", one["first_line"]) for one in report["reasons"]
        ]
        console.print(table("Rows kept aside", ("reason", "rows", "first line"), reasons, right=("rows", "first line")))
    for note in _notes(report):
        console.print(note)


def _notes(report: "ImportReport") -> list[str]:
    """What a person should know beside the tables."""
    counted = {
        "rows name no tenant that can be used": report["unassigned_rows"],
        "times fell into the gap of a clock change and were moved forward": report["nonexistent_times"],
        "times occur twice at a clock change; the first occurrence was taken": report["ambiguous_times"],
        "quantities cannot be read; these sales count all the same": report["unreadable_quantities"],
    }
    notes = [f"{number:,} {text}." for text, number in counted.items() if number]
    return [plain(note) for note in [*notes, *report["notes"]]]
