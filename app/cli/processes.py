"""`up`, `worker`, `beat`: the processes that do the work."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from app.cli.output import JsonOption, emit, examples, plain, stdout_console, table
from app.cli.session import Session, session_of

if TYPE_CHECKING:
    from app.config.settings import Settings

UNWELL = 1
OURS = "up"  # the name before the supervisor's own lines
COLOURS = ("cyan", "green", "yellow", "magenta", "blue")

ConcurrencyOption = Annotated[
    int | None,
    typer.Option(min=1, max=512, help="Tenants that are forecast at once. Default: one per core.", show_default=False),
]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="Logs as JSON lines on stdout, each with its process.")]


def add_to(app: typer.Typer) -> None:
    """Put this module's commands into the command."""
    app.command("up", epilog=examples("tenantcast up", "tenantcast up --json", "tenantcast up --stop"))(up)
    app.command(
        "worker",
        epilog=examples(
            "tenantcast worker",
            "tenantcast worker --queues ml_processing --concurrency 8",
            "tenantcast worker --queues control,notifications,maintenance --name small",
            "tenantcast worker --name small --check",
        ),
    )(worker)
    app.command("beat", epilog=examples("tenantcast beat", "tenantcast beat --name beat-2 --check"))(beat)


def up(
    ctx: typer.Context,
    concurrency: ConcurrencyOption = None,
    stop: Annotated[
        bool, typer.Option("--stop", help="Only stop the private servers that an `up` which was killed has left.")
    ] = False,
    as_json: JsonLinesOption = False,
) -> None:
    """Everything on this machine in one terminal: database, Redis, workers and two beats, until Ctrl-C.

    What the settings do not name is started privately: PostgreSQL and Redis under `.tenantcast/`. Ctrl-C lets the
    tenants that are being forecast finish, then ends everything; a second Ctrl-C does not wait.
    """
    from app.services.pools import available_cores, beat_specs, worker_specs
    from app.services.up import Servers, the_only_one

    session = session_of(ctx)
    settings = session.settings
    servers = Servers(settings)
    home = settings.tenantcast_home.absolute()
    with the_only_one(home):
        if stop:
            _stop_servers(servers.stop(), as_json=as_json)
            return
        environment = _environment(session, as_json=as_json)
        specs = worker_specs(home, concurrency or available_cores(), environment) + beat_specs(home, environment)
        sink = _sink([OURS, *(spec.name for spec in specs)], as_json=as_json)
        _log_into(sink, settings, environment)
        try:
            servers.start()
            _supervise(specs, sink, each_look=servers.keep)
        finally:
            servers.stop()


def worker(
    ctx: typer.Context,
    queues: Annotated[
        str | None,
        typer.Option(help="Comma-separated. Default: all of them, in separate processes.", show_default=False),
    ] = None,
    concurrency: ConcurrencyOption = None,
    name: Annotated[
        str | None, typer.Option(help="Of its heartbeat file. Default: after its queues.", show_default=False)
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only look at the heartbeat; ends with 1 when it is older than a minute.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Carry out what is due: all queues of this machine, or one process on the queues that are named.

    SIGTERM and Ctrl-C let the tenants that are being forecast finish. Killed, it loses nothing.
    """
    from app.services import pools

    session = session_of(ctx)
    home = session.settings.tenantcast_home.absolute()
    chosen = pools.parse_queues(queues) if queues else ()
    names = [name or pools.pool_name(chosen)] if chosen or name else list(pools.POOLS)
    if check:
        _check(home, names, as_json=as_json)
        return
    environment = _environment(session, as_json=as_json)
    if not chosen:
        specs = pools.worker_specs(home, concurrency or pools.available_cores(), environment)
        sink = _sink([OURS, *names], as_json=as_json)
        _log_into(sink, session.settings, environment)
        _supervise(specs, sink)
        return
    from app.workers.command import run_worker

    os.environ.update(environment)
    run_worker(_with_logging(session.settings, environment), chosen, concurrency or _default_jobs(chosen), names[0])


def beat(
    ctx: typer.Context,
    name: Annotated[str, typer.Option(help="Of its heartbeat file.")] = "beat",
    check: Annotated[
        bool, typer.Option("--check", help="Only look at the heartbeat; ends with 1 when it is older than a minute.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Send what the schedule says. Run two, on different machines: each slot is carried out once."""
    session = session_of(ctx)
    if check:
        _check(session.settings.tenantcast_home.absolute(), [name], as_json=as_json)
        return
    from app.workers.command import run_beat

    environment = _environment(session, as_json=as_json)
    os.environ.update(environment)
    run_beat(_with_logging(session.settings, environment), name)


def _supervise(
    specs: list[Any], sink: Callable[[str, str], None], *, each_look: Callable[[], None] = lambda: None
) -> None:
    import structlog

    from app.services.supervisor import Supervisor, wire_signals

    log = structlog.get_logger()
    supervisor = Supervisor(specs, sink, on_ready=lambda: log.info("ready", processes=len(specs)), each_look=each_look)
    wire_signals(supervisor)
    supervisor.run()
    log.info("stopped")


def _default_jobs(queues: tuple[str, ...]) -> int:
    from app.services.pools import available_cores

    return available_cores() if "ml_processing" in queues else len(queues)


def _environment(session: Session, *, as_json: bool) -> dict[str, str]:
    """What the options say about logs, for processes that read the environment. At a terminal too: from INFO on."""
    from app.config.settings import Settings

    configured = Settings()
    log_format = "json" if as_json else session.log_format or session.settings.log_format
    return {"LOG_FORMAT": log_format, "LOG_LEVEL": session.log_level or configured.log_level}


def _with_logging(settings: "Settings", environment: dict[str, str]) -> "Settings":
    return settings.model_copy(update={"log_format": environment["LOG_FORMAT"], "log_level": environment["LOG_LEVEL"]})


def _sink(names: list[str], *, as_json: bool) -> Callable[[str, str], None]:
    """Prints a line of a process: with its name in a colour of its own, or as one JSON object."""
    if as_json:
        return lambda name, line: print(json.dumps({**_as_object(line), "process": name}), flush=True)  # noqa: T201
    console = stdout_console()
    width = max(map(len, names))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}

    def show(name: str, line: str) -> None:
        console.print(Text.assemble((f"{name:<{width}} | ", colours[name]), plain(line)), soft_wrap=True)

    return show


def _as_object(line: str) -> dict[str, Any]:
    """A log line that is a JSON object as it is; any other text as an event."""
    try:
        read = json.loads(line)
    except ValueError:
        return {"event": line}
    return read if isinstance(read, dict) else {"event": line}


def _log_into(sink: Callable[[str, str], None], settings: "Settings", environment: dict[str, str]) -> None:
    """Our own log lines go where those of the processes go, so that there is one stream."""
    from app.log import configure_logging

    configure_logging(_with_logging(settings, environment))

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            sink(OURS, Text.from_ansi(self.format(record)).plain)  # at a terminal our lines come coloured

    root = logging.getLogger()
    lines = Lines()
    lines.setFormatter(root.handlers[0].formatter)
    root.handlers[:] = [lines]


def _stop_servers(stopped: list[str], *, as_json: bool) -> None:
    text = f"Stopped: {', '.join(stopped)}." if stopped else "No private server runs."
    emit(as_json, {"stopped": stopped}, lambda console: console.print(text))


def _check(home: Path, names: list[str], *, as_json: bool) -> None:
    from app.services.heartbeat import heartbeat_age, heartbeat_file, is_fresh

    ages = {name: heartbeat_age(heartbeat_file(home, name)) for name in names}
    well = all(is_fresh(heartbeat_file(home, name)) for name in names)

    def show(console: Console) -> None:
        rows = [(name, "never" if age is None else f"{age:.0f} s ago") for name, age in ages.items()]
        console.print(table("Heartbeats", ("process", "last"), rows))

    emit(as_json, {"well": well, "seconds_since_heartbeat": ages}, show)
    if not well:
        raise typer.Exit(UNWELL)
