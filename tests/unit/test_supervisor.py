"""The supervisor with real processes: small scripts that live, die, fall silent and refuse to end."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from app.services.heartbeat import beat, heartbeat_age, heartbeat_file, is_fresh
from app.services.lifeline import PARENT_VARIABLE
from app.services.supervisor import BackOff, ChildSpec, Supervisor

CHECKOUT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60
FOREVER = "import time\nwhile True: time.sleep(0.05)"


def _script(code: str, *, name: str = "one", heartbeat: Path | None = None, **environment: str) -> ChildSpec:
    return ChildSpec(name, (sys.executable, "-u", "-c", code), environment, heartbeat)


class _Run:
    """A supervisor that is asked to stop as soon as ``until`` holds, looked at by the supervisor itself."""

    def __init__(self, *specs: ChildSpec, until: Callable[["_Run"], bool], **options) -> None:
        self.lines: list[tuple[str, str]] = []
        self.ready = 0
        self.pids: list[int] = []
        self._until = until
        self._deadline = time.monotonic() + PATIENCE_SECONDS
        options.setdefault("stop_signal", signal.SIGTERM)  # these scripts would print a traceback for SIGINT
        options.setdefault("back_off", lambda: BackOff(first=0.01, most=0.05))
        self.supervisor = Supervisor(
            specs, lambda *line: self.lines.append(line), on_ready=self._on_ready, each_look=self._look, **options
        )

    def __call__(self) -> "_Run":
        self.supervisor.run()
        return self

    def count(self, line: str) -> int:
        return sum(text == line for _, text in self.lines)

    def _on_ready(self) -> None:
        self.ready += 1

    def _look(self) -> None:
        assert time.monotonic() < self._deadline, f"nothing more came after {self.lines}"
        self.pids += [pid for pid in self.supervisor.pids().values() if pid not in self.pids]
        if self._until(self):
            self.supervisor.stop()


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait(look: Callable[[], object]) -> object:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_every_line_comes_with_the_name_of_its_process():
    run = _Run(
        _script(f"print('hello')\n{FOREVER}", name="a"),
        _script(f"import sys\nprint('hola \\u00f1', file=sys.stderr)\n{FOREVER}", name="b", PYTHONIOENCODING="utf-8"),
        until=lambda run: len(run.lines) == 2,
    )()

    assert sorted(run.lines) == [("a", "hello"), ("b", "hola ñ")]


def test_a_line_without_an_end_is_not_lost_and_one_in_pieces_is_one_line():
    pieces = (
        "import sys, time\n"
        "for piece in ('one ', 'line\\n', 'rest'):\n sys.stdout.write(piece); sys.stdout.flush(); time.sleep(0.3)"
    )

    run = _Run(_script(pieces), until=lambda run: run.count("rest") > 0)()

    assert run.lines[:2] == [("one", "one line"), ("one", "rest")]


def test_a_process_that_dies_is_started_again():
    run = _Run(_script("print('born')"), until=lambda run: run.count("born") == 4)()

    assert len(set(run.pids)) >= 2  # a very short life may pass between two looks


def test_a_process_that_is_killed_is_started_again_and_the_others_stay():
    def kill_the_first(run: _Run) -> bool:
        if len(run.lines) == 2 and len(run.pids) == 2:
            os.kill(run.pids[0], signal.SIGKILL)
            run.pids.append(0)
        return len(run.lines) == 3

    run = _Run(
        _script(f"print('up')\n{FOREVER}"), _script(f"print('up')\n{FOREVER}", name="two"), until=kill_the_first
    )()

    assert sorted(run.lines) == [("one", "up"), ("one", "up"), ("two", "up")]


def test_what_a_dead_process_leaves_in_its_group_goes_with_it():
    leaves = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {FOREVER!r}], stdout=subprocess.DEVNULL)\n"
        "print(child.pid)"
    )

    run = _Run(_script(leaves), until=lambda run: len(run.lines) >= 1)()

    assert run.lines
    _wait(lambda: not any(_alive(int(line)) for _, line in run.lines))


def test_asked_to_stop_processes_finish_what_they_do():
    finishes = (
        "import signal, sys, time\n"
        "def end(*_):\n print('finishing'); time.sleep(0.3); print('finished'); sys.exit(0)\n"
        f"signal.signal(signal.SIGTERM, end)\nprint('ready')\n{FOREVER}"
    )

    run = _Run(_script(finishes), until=lambda run: run.count("ready") == 1)()

    assert [line for _, line in run.lines] == ["ready", "finishing", "finished"]


def test_one_that_does_not_end_is_killed_in_the_end():
    deaf = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready')\n{FOREVER}"

    run = _Run(_script(deaf), until=lambda run: run.count("ready") == 1, stop_seconds=0.3)()

    assert not any(_alive(pid) for pid in run.pids)


def test_asked_twice_nobody_is_waited_for():
    deaf = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready')\n{FOREVER}"
    run = _Run(_script(deaf), until=lambda run: run.count("ready") == 1, stop_seconds=10_000)

    def ask_again() -> None:
        _wait(lambda: run.supervisor._asked)
        run.supervisor.stop()

    stopped = threading.Thread(target=ask_again)
    stopped.start()

    run()

    stopped.join()
    assert not any(_alive(pid) for pid in run.pids)


def test_ready_is_said_once_when_every_process_has_beaten(tmp_path):
    file = heartbeat_file(tmp_path, "one")
    beats = f"import pathlib, time\ntime.sleep(0.5)\npathlib.Path({str(file)!r}).touch()\nprint('beat')\n{FOREVER}"
    beat(file)  # an earlier process's, which does not count

    run = _Run(
        _script(beats, heartbeat=file), _script(FOREVER, name="two"), until=lambda run: run.ready > 0,
    )()  # fmt: skip

    assert run.ready == 1


def test_one_that_falls_silent_is_killed_and_started_again(tmp_path):
    file = heartbeat_file(tmp_path, "one")
    freezes = f"import pathlib\npathlib.Path({str(file)!r}).touch()\nprint('beat')\n{FOREVER}"

    run = _Run(_script(freezes, heartbeat=file), until=lambda run: run.count("beat") == 2, silence_seconds=0.5)()

    assert len(set(run.pids)) >= 2


def test_one_that_never_beats_is_killed_and_started_again(tmp_path):
    hangs = f"print('hangs')\n{FOREVER}"

    run = _Run(
        _script(hangs, heartbeat=heartbeat_file(tmp_path, "one")),
        until=lambda run: run.count("hangs") == 2,
        startup_seconds=0.5,
    )()

    assert run.ready == 0


@pytest.mark.parametrize(
    ("lives", "pauses"),
    [
        ([1, 1, 1, 1, 1, 1, 1, 1, 1], [0, 1, 2, 4, 8, 16, 32, 60, 60]),
        ([1, 1, 1, 100, 1, 1], [0, 1, 2, 0, 1, 2]),
        ([100, 100, 100], [0, 0, 0]),
    ],
)
def test_pauses_double_until_a_process_has_lasted(lives, pauses):
    back_off = BackOff(first=1.0, most=60.0, lasting=60.0)

    assert [back_off.after(lived) for lived in lives] == pauses


def test_processes_end_when_their_supervisor_is_killed(tmp_path):
    tells = (
        "import os\nfrom app.services.lifeline import end_with_supervisor\n"
        f"end_with_supervisor()\nopen({str(tmp_path / 'pid')!r} + '.new', 'w').write(str(os.getpid()))\n"
        f"os.rename({str(tmp_path / 'pid')!r} + '.new', {str(tmp_path / 'pid')!r})\n{FOREVER}"
    )
    parent = (
        "import sys\nfrom app.services.supervisor import ChildSpec, Supervisor\n"
        f"Supervisor([ChildSpec('one', (sys.executable, '-c', {tells!r}))], print).run()"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", parent], env={**os.environ, "PYTHONPATH": str(CHECKOUT)})
    child = int(str(_wait(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())))

    supervisor.kill()
    supervisor.wait(PATIENCE_SECONDS)

    _wait(lambda: not _alive(child))


def test_a_process_whose_supervisor_is_gone_already_ends_at_once():
    late = "from app.services.lifeline import end_with_supervisor\nend_with_supervisor()\nprint('still here')"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), PARENT_VARIABLE: "1"}

    done = subprocess.run(
        [sys.executable, "-c", late], env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS,
        check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (-signal.SIGINT, "")


def test_a_heartbeat_is_fresh_for_a_minute(tmp_path):
    file = heartbeat_file(tmp_path / "home", "ml")
    assert (heartbeat_age(file), is_fresh(file)) == (None, False)

    beat(file)

    assert is_fresh(file)
    old = time.time() - 61
    os.utime(file, (old, old))
    assert not is_fresh(file)
