"""Worker processes, looked after as systemd would: started, hit, started again, ended without a trace."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

CHECKOUT = Path(__file__).parents[2]
END_SECONDS = 30
PATIENCE_SECONDS = 120
RESTARTS_IN_A_ROW = 8  # deaths within two seconds of their start: the command itself is wrong


@dataclass(frozen=True)
class Role:
    """One long-lived process: how it is started, and whether faults may choose it."""

    name: str
    arguments: tuple[str, ...]
    works: bool = True  # has pool children that work on tenants


@dataclass
class Member:
    """The process that fills a role right now, in a process group of its own."""

    role: Role
    process: "subprocess.Popen[bytes]"
    log: Path
    started: float = field(default_factory=time.monotonic)
    frozen: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_running(self) -> bool:
        return self.process.poll() is None

    def family(self) -> list[psutil.Process]:
        """The process and its children, as far as they live."""
        try:
            main = psutil.Process(self.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def children(self) -> list[psutil.Process]:
        """The pool's own children, without what they have started themselves (Prophet's optimiser)."""
        try:
            return psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return []

    def signal_all(self, number: signal.Signals) -> None:
        """To the process and its children, children last: a frozen parent starts no new ones."""
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        self.frozen = number is signal.SIGSTOP

    def last_words(self, lines: int = 25) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Fleet:
    """All processes of a storm. `tend` starts again what has died."""

    def __init__(self, roles: Iterable[Role], environment: dict[str, str], logs: Path) -> None:
        self.members: dict[str, Member] = {}
        self.restarts = 0
        self._roles = list(roles)
        self._environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1", **environment}
        self._logs = logs
        self._strays: list[psutil.Process] = []
        self._former: list[Member] = []
        self._early_deaths = 0

    def start(self, *names: str) -> None:
        """Start the roles of these names, or all of them."""
        for role in self._roles:
            if not names or role.name in names:
                self._start(role)

    def tend(self) -> None:
        """Start again whatever has ended."""
        for role, member in [(member.role, member) for member in self.members.values()]:
            if member.is_running():
                continue
            self._early_deaths = self._early_deaths + 1 if time.monotonic() - member.started < 2 else 0
            assert self._early_deaths < RESTARTS_IN_A_ROW, f"{role.name} does not start:\n{member.last_words()}"
            self.restarts += 1
            self._start(role)

    def remember(self, processes: list[psutil.Process]) -> None:
        """Processes that may outlive their parent: ended with the fleet at the latest."""
        self._strays += processes

    def replace(self, member: Member) -> None:
        """Ask ``member`` to end in order and start its successor at once, as a deployment does."""
        self.remember(member.family())
        member.process.send_signal(signal.SIGTERM)
        self._former.append(member)
        self._start(member.role)

    def workers(self) -> list[Member]:
        """Members whose children work on tenants, awake ones only."""
        return [m for m in self.members.values() if m.role.works and m.is_running() and not m.frozen]

    def stop(self) -> None:
        """Kill everything that was started here, frozen or not, and wait until it is gone."""
        everyone = [*self.members.values(), *self._former]
        for member in everyone:
            self.remember(member.family())
        for process in self._strays:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()  # psutil looks at the start time: never a stranger with the same number
        for member in everyone:
            member.process.wait(END_SECONDS)
        _, alive = psutil.wait_procs(self._strays, END_SECONDS)
        assert not alive, f"these processes do not end: {alive}"

    def _start(self, role: Role) -> None:
        log = self._logs / f"{role.name}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, *role.arguments],
                env=self._environment,
                cwd=self._logs,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.members[role.name] = Member(role, process, log)


def wait_for(what: str, look: Callable[[], object]) -> None:
    """Look until it holds; nothing is asserted about how long that takes, as long as it ends."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not look():
        assert time.monotonic() < deadline, f"{what} did not come within {PATIENCE_SECONDS} s"
        time.sleep(0.02)
