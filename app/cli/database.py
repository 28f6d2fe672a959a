"""`db`: the database that tenantcast works in."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from app.cli.output import JsonOption, emit, examples, plain, table, waiting
from app.cli.session import session_of
from app.errors import ConfigError

db = typer.Typer(
    no_args_is_help=True, help="The database: our tables and functions in it, its address, the private one."
)


def add_to(app: typer.Typer) -> None:
    """Put this module's commands into the command."""
    app.add_typer(db, name="db")


@db.command(epilog=examples("tenantcast db url", 'psql "$(tenantcast db url)"'))
def url(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """The address of the database in use; starts the private one. A password of yours is not shown."""
    from app.db.connect import database_address

    with waiting("Opening the database …"):
        address = database_address(session_of(ctx).settings)
    emit(as_json, {"url": address}, lambda console: console.print(plain(address), soft_wrap=True))


@db.command(epilog=examples("tenantcast db stop"))
def stop(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Stop the private PostgreSQL of this home; its data stay, and the next command starts it again."""
    from app.db.embedded import EmbeddedPostgres

    home = session_of(ctx).settings.tenantcast_home
    stopped = EmbeddedPostgres(home).stop()
    text = "Stopped." if stopped else f"None is running under {home}."
    emit(as_json, {"stopped": stopped, "home": str(home)}, lambda console: console.print(plain(text)))


@db.command(epilog=examples("tenantcast db migrate", "tenantcast db migrate --examples --json"))
def migrate(
    ctx: typer.Context,
    with_examples: Annotated[
        bool,
        typer.Option("--examples", help="Also the example product (negocios, productos, ventas): imports fill it."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Apply our migrations that the database lacks. The product's own tables are not touched."""
    from app.db.connect import direct_url
    from app.db.migrate import migrate as apply

    with waiting("Migrating …"):
        report = apply(direct_url(session_of(ctx).settings), examples=with_examples)

    def show(console: Console) -> None:
        for label in report.applied:
            console.print(plain(label))
        done = f"{len(report.applied)} applied, {len(report.already)} were there already."
        console.print(done if report.applied else f"Nothing to do: all {len(report.already)} are applied.")

    emit(as_json, asdict(report), show)


@db.command(epilog=examples("tenantcast db status", "tenantcast db status --json"))
def status(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Which of our migrations are applied. Ends with 2 when some are pending."""
    from app.db.connect import chooses_supabase, database_address, migration_status

    settings = session_of(ctx).settings
    with waiting("Opening the database …"):
        found = migration_status(settings)
    address = database_address(settings)
    next_step = "supabase db push" if chooses_supabase(settings) else "tenantcast db migrate"

    def show(console: Console) -> None:
        console.print(f"Database: {plain(address)}", soft_wrap=True)
        rows = [(label, "applied") for label in found.applied] + [(label, "PENDING") for label in found.pending]
        console.print(table("Migrations", ("migration", "state"), rows))
        if found.pending:
            console.print(f"Next: {next_step}")

    emit(as_json, {"url": address, **asdict(found)}, show)
    if found.pending:
        raise typer.Exit(ConfigError.exit_code)


@db.command(epilog=examples("tenantcast db uninstall --yes"))
def uninstall(
    ctx: typer.Context,
    yes: Annotated[
        bool, typer.Option("--yes", help="Yes, drop all forecasts, models and runs of every tenant.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take everything of ours out of the database: tables, functions, roles. The product's own tables stay."""
    from app.db.connect import direct_url
    from app.db.migrate import uninstall as take_out

    take_out(direct_url(session_of(ctx).settings), yes=yes)
    emit(as_json, {"uninstalled": True}, lambda console: console.print("Uninstalled. Your own tables are untouched."))
