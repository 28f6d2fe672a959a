"""Worker processes for one run: started, listened to, replaced when they die, stopped."""

import contextlib
import multiprocessing
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess

import structlog

from app.errors import ConfigError, TenantcastError
from app.services.drain import Event, Work, drain

MAX_FAILED_STARTS = 3
STOP_SECONDS = 5.0
# Imported once, in a server process that only forks: it fits nothing, so XGBoost is safe in its children.
PRELOADED = [
    "app.services.ml.pipeline",
    "app.db.connect",
    "statsmodels.tsa.statespace.sarimax",
    "statsmodels.tsa.seasonal",
    "xgboost",
    "prophet",
]

_log = structlog.get_logger()


@dataclass(frozen=True, eq=False)
class _Member:
    """One worker process and the end of the pipe that it speaks into; a pipe each, so that none can block another."""

    number: int
    process: ForkServerProcess
    inbox: Connection


class Team:
    """``jobs`` processes that drain one run."""

    def __init__(self, work: Work, jobs: int) -> None:
        self._work = work
        self._jobs = jobs
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._members: list[_Member] = []
        self._at_work: dict[int, str] = {}  # member number -> tenant
        self._failed_starts = 0

    def fill(self) -> None:
        """Start processes until there are ``jobs``."""
        taken = {member.number for member in self._members}
        for number in sorted(set(range(self._jobs)) - taken):
            inbox, outbox = self._context.Pipe(duplex=False)
            process = self._context.Process(
                target=_work, args=(self._work, number, self._jobs, outbox), name=f"tenantcast {number}"
            )
            process.start()
            outbox.close()  # only the worker holds it now: its death ends the pipe
            self._members.append(_Member(number, process, inbox))

    def listen(self, seconds: float) -> list[Event]:
        """What the workers have said, waiting at most ``seconds`` for the first word; the dead are taken out.

        Raises
        ------
        TenantcastError : a worker cannot go on for a reason that concerns all of them
        """
        wait([member.inbox for member in self._members], timeout=seconds)
        events: list[Event] = []
        for member in list(self._members):
            try:
                while member.inbox.poll():
                    events += self._hear(member, member.inbox.recv())
            except (EOFError, OSError):
                events += self._bury(member)
        return events

    def stop(self) -> None:
        """End all processes: politely, then not. Their items come back when the leases end."""
        for member in self._members:
            member.process.terminate()
        for member in self._members:
            member.process.join(STOP_SECONDS)
            if member.process.is_alive():
                member.process.kill()
                member.process.join()
            member.inbox.close()
            member.process.close()
        self._members.clear()

    def _hear(self, member: _Member, said: object) -> list[Event]:
        if isinstance(said, TenantcastError):
            raise said
        if said == "ready":
            self._failed_starts = 0
            self._at_work[member.number] = ""
            return []
        event: Event = said  # type: ignore[assignment]
        self._at_work[member.number] = event["tenant_id"] if event["kind"] == "started" else ""
        return [event]

    def _bury(self, member: _Member) -> list[Event]:
        member.process.join()
        code = member.process.exitcode
        member.inbox.close()
        member.process.close()
        self._members.remove(member)
        tenant_id = self._at_work.pop(member.number, None)
        if code == 0:
            return []
        if tenant_id is None:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise ConfigError(
                    f"Worker processes cannot start (exit code {code}).",
                    next_step="Look at the log; try `--jobs 1`, which works in one process.",
                )
        _log.warning("worker_lost", exit_code=code, tenant=tenant_id)
        held = (
            f"; tenant {tenant_id} is taken up again within {self._work.settings.ml_lease_seconds} s"
            if tenant_id
            else ""
        )
        text = f"a worker process ended with code {code}{held}"
        return [Event(kind="worker_lost", tenant_id=tenant_id or "", text=text)]


def _work(work: Work, number: int, jobs: int, outbox: Connection) -> None:
    """A worker process: its own logging, its own connections, until nothing is open or its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    from app.db.connect import open_gateway
    from app.log import configure_logging

    configure_logging(work.settings)
    parent = multiprocessing.parent_process()
    with contextlib.suppress(BrokenPipeError):  # the parent is gone: nobody waits for this run here
        try:
            outbox.send("ready")
            gateway = open_gateway(work.settings)
            try:
                drain(
                    work,
                    gateway,
                    tell=outbox.send,
                    share=(number, jobs),
                    go_on=lambda: parent is None or parent.is_alive(),
                )
            finally:
                gateway.close()
        except TenantcastError as error:
            outbox.send(error)
    outbox.close()
