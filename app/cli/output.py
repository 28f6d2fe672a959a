"""What the command prints: one JSON document, or tables and panels for people. Progress and errors go to stderr."""

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from rich import box
from rich.console import Console, JustifyMethod
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from app.errors import TenantcastError

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead of text.")]

# Wide enough for our tables where no terminal says how wide it is (a pipe, a log).
PIPE_WIDTH = 120
SHOW_CENTS_BELOW = 1000

# (done, total or None when unknown, what is being worked on)
Advance = Callable[[int, int | None, str], None]


def examples(*lines: str) -> str:
    """A help epilog: every command shows how it is used."""
    return "\n\n".join(["Examples:", *(f"$ {line}" for line in lines)])


def stdout_console() -> Console:
    """For results."""
    return _console(stderr=False)


def stderr_console() -> Console:
    """For progress and errors."""
    return _console(stderr=True)


def emit(as_json: bool, document: object, show: Callable[[Console], None]) -> None:
    """The result of a command: ``document`` as JSON, or what ``show`` prints."""
    if as_json:
        print_json(document)
    else:
        show(stdout_console())


def print_json(document: object) -> None:
    """One JSON document and nothing else on stdout; numbers that are not finite become null."""
    sys.stdout.write(to_json(document) + "\n")
    sys.stdout.flush()


def to_json(document: object) -> str:
    """Indented JSON; what is no JSON value (a date, a path) becomes its text."""
    return json.dumps(_finite(document), ensure_ascii=False, allow_nan=False, indent=2, default=str)


def print_error(error: TenantcastError, *, as_json: bool) -> None:
    """Message and next step: one panel on stderr, or a document on stdout."""
    if as_json:
        print_json({"error": error.as_dict(), "exit_code": error.exit_code})
        return
    body = Text(plain(error.message))
    if error.next_step:
        body.append("\n\n")
        body.append("Next: ", style="bold")
        body.append(plain(error.next_step))
    title = Text(f"tenantcast: {error.code.replace('_', ' ')}")
    stderr_console().print(Panel(body, title=title, title_align="left", border_style="red"))


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Iterable[str] = (),
    whole: Iterable[str] = (),
) -> Table:
    """A table of plain text: cells are never read as markup, because names come from a product's users.

    What is too long is wrapped, never cut: an id has to survive a narrow terminal. Columns in ``right`` hold numbers,
    those in ``whole`` dates: neither is wrapped.
    """
    shown = Table(title=Text(plain(title)), title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    shown.show_edge, shown.pad_edge, shown.padding = False, False, (0, 1, 0, 0)
    numbers = set(right)
    for column in columns:
        justify: JustifyMethod = "right" if column in numbers else "left"
        shown.add_column(Text(column), justify=justify, overflow="fold", no_wrap=column in numbers | set(whole))
    for row in rows:
        shown.add_row(*(cell if isinstance(cell, Text) else Text(plain(cell)) for cell in row))
    return shown


def plain(value: object) -> str:
    """Text that cannot steer a terminal: control characters (but the line break) become a replacement sign."""
    text = "" if value is None else str(value)
    return "".join(sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in text)


def money(amount: float) -> str:
    """An amount as people read it: thousands apart, cents only below a thousand."""
    return f"{amount:,.2f}" if abs(amount) < SHOW_CENTS_BELOW else f"{amount:,.0f}"


@contextmanager
def progress_bar(title: str) -> Iterator[Advance]:
    """A bar on stderr that the given function moves; silent where stderr is no terminal."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    console = stderr_console()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def advance(done: int, total: int | None, text: str = "") -> None:
            bar.update(task, completed=done, total=total, description=f"{title} {plain(text)}".rstrip())

        yield advance


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """A spinner on stderr while something takes a moment; silent where stderr is no terminal."""
    console = stderr_console()
    if not console.is_terminal:
        yield
        return
    with console.status(Text(text)):  # never as markup: a tenant's name may stand in it
        yield


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
