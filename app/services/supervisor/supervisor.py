"""The parent of several processes: it restarts the dead and the silent, and ends all of them together."""

import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from app.services.supervisor.back_off import BackOff
from app.services.supervisor.child import Child, ChildSpec

LOOK_SECONDS = 0.25

Sink = Callable[[str, str], None]  # the process's name, one line of its output

_log = structlog.get_logger()


@dataclass
class _Place:
    """One process to keep alive: the one that runs, or when the next one starts."""

    spec: ChildSpec
    back_off: BackOff
    child: Child | None = None
    start_at: float = 0.0
    restarts: int = 0


@dataclass
class Supervisor:
    """Keeps the processes of ``specs`` running until `stop` is called; all lines that they write go to ``sink``.

    Parameters
    ----------
    on_ready : called once, when every process has shown that it is well
    each_look : called a few times a second, for whatever else has to be kept alive
    stop_signal : asks a process to end what it is doing, and then itself
    stop_seconds : after which a process that was asked to end is killed
    silence_seconds : without a heartbeat, after which a process is killed and started again
    startup_seconds : the same before the first heartbeat
    """

    specs: Sequence[ChildSpec]
    sink: Sink
    on_ready: Callable[[], None] = lambda: None
    each_look: Callable[[], None] = lambda: None
    back_off: Callable[[], BackOff] = BackOff
    stop_signal: signal.Signals = signal.SIGINT
    stop_seconds: float = 60.0
    silence_seconds: float = 60.0
    startup_seconds: float = 300.0
    _asked: int = 0
    _ready: bool = False
    _places: list[_Place] = field(default_factory=list)

    def stop(self) -> None:
        """Ask all to end; the second call kills them. May be called from a signal handler."""
        self._asked += 1

    def run(self) -> None:
        """Until `stop` is called and every process has ended, however this ends."""
        self._places = [_Place(spec, self.back_off()) for spec in self.specs]
        try:
            while not self._asked:
                self._start_due()
                self._listen()
                self._bury()
                self._end_silent()
                self._tell_when_ready()
                self.each_look()
        finally:
            self._end_all()

    def pids(self) -> dict[str, int]:
        """The running processes, by name."""
        return {place.spec.name: place.child.pid for place in self._places if place.child is not None}

    def _start_due(self) -> None:
        for place in self._places:
            if place.child is None and time.monotonic() >= place.start_at:
                place.child = Child(place.spec)
                _log.info("process_started", child=place.spec.name, pid=place.child.pid, restarts=place.restarts)

    def _listen(self) -> None:
        running = [child for place in self._places if (child := place.child) is not None]
        readable, _, _ = select.select([child.output for child in running], [], [], LOOK_SECONDS)
        for child in running:
            if child.output in readable:
                lines = child.read_lines()
                for line in lines:
                    self.sink(child.spec.name, line)
                if not lines and child.exit_code() is not None:
                    time.sleep(0.01)  # its pipe stays readable at its end: no busy loop until it is buried

    def _bury(self) -> None:
        for place in self._places:
            if place.child is None or (code := place.child.exit_code()) is None:
                continue
            lived = place.child.lived()
            self._take_out(place)
            if not self._asked:
                pause = place.back_off.after(lived)
                place.start_at, place.restarts = time.monotonic() + pause, place.restarts + 1
                _log.warning("process_ended", child=place.spec.name, exit_code=code, restarted_in_seconds=pause)

    def _take_out(self, place: _Place) -> None:
        """Whatever a dead process has left in its group goes with it; its last lines are passed on."""
        if place.child is not None:
            place.child.kill()
            for line in place.child.close():
                self.sink(place.spec.name, line)
            place.child = None

    def _end_silent(self) -> None:
        for place in self._places:
            child = place.child
            if child is None or child.spec.heartbeat is None:
                continue
            limit = self.silence_seconds if child.ready() else self.startup_seconds
            if child.silent_for() > limit:
                _log.error("process_silent", child=child.spec.name, pid=child.pid, seconds=round(child.silent_for()))
                child.kill()

    def _tell_when_ready(self) -> None:
        if not self._ready and all(place.child is not None and place.child.ready() for place in self._places):
            self._ready = True
            self.on_ready()

    def _end_all(self) -> None:
        """Politely, then not: what is cut off here comes back by its lease."""
        deadline = time.monotonic() + self.stop_seconds
        for place in self._places:
            if place.child is not None:
                place.child.signal(self.stop_signal)
        while any(place.child is not None for place in self._places):
            self._listen()
            self._bury()
            if self._asked > 1 or time.monotonic() > deadline:
                for place in self._places:
                    self._kill_now(place)

    def _kill_now(self, place: _Place) -> None:
        if place.child is not None:
            _log.warning("process_killed", child=place.spec.name, pid=place.child.pid)
            place.child.kill()
            self._take_out(place)


def wire_signals(supervisor: Supervisor) -> None:
    """Ctrl-C, SIGTERM and a closed terminal end the supervisor. In the main thread only."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: supervisor.stop())
