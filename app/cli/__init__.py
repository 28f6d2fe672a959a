"""The `tenantcast` command: parse, one call, print. Heavy imports stand inside the commands that need them."""

import sys
from typing import Annotated

import typer

from app import __version__
from app.cli import (
    database,
    forecasts,
    health,
    intake,
    judging,
    ledger,
    notifications,
    overrides,
    pages,
    processes,
    upkeep,
    watch,
)
from app.cli.output import examples, print_error, stderr_console, stdout_console
from app.cli.session import LogFormat, LogLevel, Session
from app.errors import ConfigError, TenantcastError

NO_ARGUMENTS = "NoArgsIsHelpError"
INTERRUPTED = 130  # what a shell reports for Ctrl-C

EXIT_CODES = (
    "Exit codes: 0 done; 1 failed for some tenants, a failed check, or a bug; 2 configuration or usage; 3 data; "
    "4 try again later."
)

app = typer.Typer(
    name="tenantcast",
    help=f"Daily sales forecasts for every tenant of a product, beside its Postgres.\n\n{EXIT_CODES}",
    epilog=examples(
        "tenantcast demo", "tenantcast import sales.csv.gz", "tenantcast retrain --jobs 2", "tenantcast report --open"
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

for group in (
    pages,
    intake,
    forecasts,
    processes,
    judging,
    ledger,
    watch,
    notifications,
    overrides,
    database,
    health,
    upkeep,
):
    group.add_to(app)

# typer keeps its own copy of click; what a wrong option raises is the class above BadParameter.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def print_version(asked: bool) -> None:
    """Version and exit, before anything else is looked at."""
    if asked:
        stdout_console().print(f"tenantcast {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="Logs on stderr as JSON lines, or as text for people.")
    ] = None,
    log_level: Annotated[
        LogLevel | None, typer.Option(help="Default: WARNING at a terminal, else LOG_LEVEL or INFO.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,  # noqa: ARG001
) -> None:
    ctx.obj = Session(log_format=log_format, log_level=log_level)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code says how it went. Errors are one panel (or one JSON document), never a traceback.

    Raises
    ------
    Exception : whatever went wrong, with its traceback, when ``--debug`` stands before the command
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _bear_any_encoding()
    try:
        code = int(app(arguments, prog_name="tenantcast", standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if "--debug" in arguments:
            raise
        if type(error).__name__ == NO_ARGUMENTS:  # a group without a command: its help was printed
            return ConfigError.exit_code
        known = as_known(error)
        print_error(known, as_json=wants_json(arguments))
        return known.exit_code
    if code == INTERRUPTED:
        stderr_console().print("Stopped. What was finished is kept.")
    return code


def as_known(error: Exception) -> TenantcastError:
    """The error as one of ours: usage is configuration; anything else that is not ours is a bug."""
    if isinstance(error, TenantcastError):
        return error
    if isinstance(error, UsageError):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "tenantcast"
        message = error.format_message()  # type: ignore[attr-defined]
        return ConfigError(message, next_step=f"`{command} --help` shows what it takes, with examples.")
    return TenantcastError(
        f"This is a bug in tenantcast ({type(error).__name__}).",
        next_step="Run the same command as `tenantcast --debug …` and report what it prints.",
    )


def wants_json(arguments: list[str]) -> bool:
    """True when stdout was asked to hold one JSON document (``backtest --json FILE`` writes a file instead)."""
    if "--json" not in arguments:
        return False
    following = arguments[arguments.index("--json") + 1 :][:1]
    return "backtest" not in arguments or not following or following == ["-"] or following[0].startswith("--")


def _bear_any_encoding() -> None:
    """A tenant's name that the terminal's encoding lacks is shown escaped instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


__all__ = ["app", "main"]
