"""`runs watch`, `runs retry`, `runs cancel`: a run while it goes, and an operator's two verbs."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from app.cli.ledger import parse_run_id, runs
from app.cli.output import JsonOption, emit, examples, plain, stdout_console, table
from app.cli.session import open_database, session_of

if TYPE_CHECKING:
    from app.db.gateway import Gateway
    from app.services.watch import Progress

SOME_FAILED = 1
QUIET_SECONDS = 30.0  # without a change, after which a person is told what to look at
LINE_SECONDS = 5.0  # between lines where there is no terminal

RunArgument = Annotated[str | None, typer.Argument(metavar="[ID]", help="A run's id; without one, the newest.")]
RunIdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `tenantcast runs list` shows it.")]


def add_to(app: typer.Typer) -> None:  # noqa: ARG001 - the commands hang on `runs`, which `ledger` adds
    """Put this module's commands into the command."""
    runs.command("watch", epilog=examples("tenantcast runs watch", "tenantcast runs watch 5e1c… --json"))(watch_run)
    runs.command(
        "retry", epilog=examples("tenantcast runs retry 5e1c…", "tenantcast runs retry 5e1c… --tenant bakery")
    )(retry)
    runs.command("cancel", epilog=examples("tenantcast runs cancel 5e1c…"))(cancel)


def watch_run(
    ctx: typer.Context,
    run: RunArgument = None,
    period: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between looks.")] = 1.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON line per change; the last one names failures.")
    ] = False,
) -> None:
    """A run while it goes: tenants done, rate, time left. Ends with the run; with 1 when tenants failed."""
    from app.services.watch import watch

    run_id = parse_run_id(run)
    last: Progress | None = None
    with open_database(ctx) as gateway, _display(as_json=as_json) as show:
        for look in watch(gateway, run_id, period=period):
            show(look)
            last = look
        assert last is not None  # noqa: S101 - `watch` gives at least one look, or raises
        failed = _failures(gateway, last) if last["failed"] else []
    _say_the_end(last, failed, as_json=as_json)
    if failed:
        raise typer.Exit(SOME_FAILED)


def retry(
    ctx: typer.Context,
    run: RunIdArgument,
    tenant: Annotated[
        list[str] | None, typer.Option(help="Only this tenant (id or name), also when it was skipped; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Try a run's failed tenants again, as if for the first time; workers take them up at once."""
    from app.celery_app import make_celery
    from app.config.ml_settings import MLSettings
    from app.services.runs import retry_items
    from app.services.tenants import TenantDirectory
    from app.workers.bell import CeleryBell

    run_id = parse_run_id(run)
    assert run_id is not None  # noqa: S101 - the argument is required
    settings = session_of(ctx).settings
    bell = CeleryBell(make_celery(settings, MLSettings()))
    with open_database(ctx) as gateway:
        chosen = None
        if tenant:
            directory = TenantDirectory.read(gateway)
            chosen = [directory.find(name).tenant_id for name in tenant]
        answer = retry_items(gateway, bell, run_id, settings, chosen)
    text = f"{answer['retried']} to be tried again. Next: tenantcast runs watch {run_id}"
    if not answer["retried"]:
        text = "Nothing of it has failed." if chosen is None else "None of these has failed or was skipped in that run."
    emit(as_json, {"run_id": str(run_id), **answer}, lambda console: console.print(plain(text), soft_wrap=True))


def cancel(ctx: typer.Context, run: RunIdArgument, as_json: JsonOption = False) -> None:
    """Stop a run: what is open is skipped, what is being computed is not written, what is published stands."""
    from app.services.runs import cancel_run

    run_id = parse_run_id(run)
    assert run_id is not None  # noqa: S101 - the argument is required
    with open_database(ctx) as gateway:
        answer = cancel_run(gateway, run_id)
    text = f"{answer['cancelled']} skipped; what was published before stands."
    emit(as_json, {"run_id": str(run_id), **answer}, lambda console: console.print(plain(text), soft_wrap=True))


@contextmanager
def _display(*, as_json: bool) -> Iterator[Any]:
    """Where looks are shown: JSON lines, a live bar at a terminal, else a plain line now and then."""
    if as_json:
        yield _JsonLines()
        return
    console = stdout_console()
    if not console.is_terminal:
        yield _PlainLines(console)
        return
    with _LiveBar(console) as bar:
        yield bar


class _JsonLines:
    """One line per change."""

    def __init__(self) -> None:
        self._last: dict[str, Any] = {}

    def __call__(self, look: "Progress") -> None:
        numbers = {key: value for key, value in look.items() if key != "unchanged_seconds"}
        moved = {key: numbers[key] for key in ("done", "failed", "skipped", "running", "pending", "finished")}
        if moved != self._last and not look["finished"]:  # the end is said with its failures
            _json_line(numbers)
        self._last = moved


class _PlainLines:
    """A line at the start, at most every few seconds, and at the end."""

    def __init__(self, console: Console) -> None:
        import time

        self._console, self._clock, self._next = console, time.monotonic, 0.0

    def __call__(self, look: "Progress") -> None:
        if look["finished"] or self._clock() >= self._next:
            self._next = self._clock() + LINE_SECONDS
            self._console.print(plain(describe(look)), soft_wrap=True)


class _LiveBar:
    """A bar that moves, for a person at a terminal."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            BarColumn(), TaskProgressColumn(), TextColumn("{task.description}", markup=False), console=console
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> "_LiveBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, look: "Progress") -> None:
        ended = look["done"] + look["failed"] + look["skipped"]
        self._bar.update(self._task, completed=ended, total=max(look["total"], 1), description=plain(describe(look)))


def describe(look: "Progress") -> str:
    """One line for people: counts, rate, time left, and what to look at when nothing moves."""
    states = [f"{look[state]} {state}" for state in ("done", "failed", "skipped", "running", "pending") if look[state]]
    parts = [f"{look['total']} tenants: {', '.join(states) or 'none'}"]
    if look["per_minute"] is not None and not look["finished"]:
        parts.append(f"{look['per_minute']:.0f} a minute")
    if look["seconds_left"] and not look["finished"]:
        parts.append(f"about {duration(look['seconds_left'])} left")
    if look["unchanged_seconds"] >= QUIET_SECONDS and not look["finished"]:
        parts.append(f"nothing for {duration(look['unchanged_seconds'])}: `tenantcast worker --check` looks at workers")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as people say them: ``45 s``, ``12 min``, ``3 h 05 min``."""
    minutes = round(seconds / 60)
    if minutes < 2:  # noqa: PLR2004 - below two minutes in seconds
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"  # noqa: PLR2004


def _failures(gateway: "Gateway", look: "Progress") -> list[dict[str, Any]]:
    from app.db.store import SystemStore

    items = SystemStore(gateway).show_run(parse_run_id(look["run_id"]))["items"]
    return [
        {"tenant_id": item["tenant_id"], "name": item["name"], "error": item["error"]}
        for item in items
        if item["state"] == "failed"
    ]


def _say_the_end(look: "Progress", failed: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        _json_line({key: value for key, value in look.items() if key != "unchanged_seconds"} | {"failures": failed})
        return
    if failed:
        rows = [(item["name"] or item["tenant_id"], (item["error"] or {}).get("message", "")) for item in failed]
        console = stdout_console()
        console.print(table("Failed", ("tenant", "reason"), rows))
        next_step = f"Next: tenantcast runs show {look['run_id']}, or tenantcast runs retry {look['run_id']}"
        console.print(next_step, soft_wrap=True)


def _json_line(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()
