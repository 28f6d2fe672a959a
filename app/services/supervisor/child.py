"""One process under a supervisor: what it is, and the one that runs now."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.services.heartbeat import heartbeat_age
from app.services.lifeline import PARENT_VARIABLE

MAX_LINE_BYTES = 65_536  # a longer line is passed on in pieces


@dataclass(frozen=True)
class ChildSpec:
    """What to run.

    Parameters
    ----------
    name : stands before each line of its output
    environment : variables beside those of the supervisor
    heartbeat : a file that the process touches while it is well; None when it has none
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    heartbeat: Path | None = None


class Child:
    """A running process in a process group of its own: a Ctrl-C at the terminal reaches its supervisor alone."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.started = time.monotonic()
        if spec.heartbeat is not None:
            spec.heartbeat.unlink(missing_ok=True)  # an earlier process's
        self._process = subprocess.Popen(  # noqa: S603 - our own commands
            spec.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0,
            env={**os.environ, **spec.environment, PARENT_VARIABLE: str(os.getpid())},
        )  # fmt: skip
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        self.output = self._process.stdout
        os.set_blocking(self.output.fileno(), False)
        self._unfinished = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def lived(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self.started

    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        return self._process.poll()

    def read_lines(self) -> list[str]:
        """The whole lines that it has written since the last look."""
        data = self._read()
        *lines, rest = (self._unfinished + data).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            lines, rest = [*lines, rest], b""
        self._unfinished = rest
        return [line.decode(errors="replace") for line in lines if line.strip()]

    def ready(self) -> bool:
        """Whether it has shown that it is well; a process without a heartbeat is from its start."""
        return self.spec.heartbeat is None or heartbeat_age(self.spec.heartbeat) is not None

    def silent_for(self) -> float:
        """Seconds since its last heartbeat, or since its start before the first."""
        age = None if self.spec.heartbeat is None else heartbeat_age(self.spec.heartbeat)
        return self.lived() if age is None else age

    def signal(self, how: signal.Signals) -> None:
        """To the process alone: it ends those that it has started itself."""
        if self.exit_code() is None:
            self._process.send_signal(how)

    def kill(self) -> None:
        """End it at once, with everything that it has started; also what a dead one has left in its group."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:  # all of them are gone
            return

    def close(self) -> list[str]:
        """Reap it and give the pipe back; its last lines, also one without an end."""
        self._process.wait()
        lines = self.read_lines()
        last = self._unfinished.decode(errors="replace")
        self.output.close()
        return [*lines, last] if last.strip() else lines

    def _read(self) -> bytes:
        data = b""
        while len(data) <= MAX_LINE_BYTES:
            try:
                piece = os.read(self.output.fileno(), MAX_LINE_BYTES)
            except BlockingIOError:
                break
            if not piece:
                break
            data += piece
        return data
