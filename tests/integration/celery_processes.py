"""Real workers and beats as subprocesses of a test: started, watched, ended by their own process group."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

CHECKOUT = Path(__file__).parents[2]
PATIENCE_SECONDS = 180  # bounds a wait; nothing is asserted about how long anything took
CELERY = (sys.executable, "-m", "celery", "-A", "app.celery_app")
POISONED = (sys.executable, "-m", "tests.integration.poisoned_worker")


@dataclass(frozen=True)
class CeleryProcess:
    """One `celery worker` or `celery beat`, the leader of a process group."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def is_running(self) -> bool:
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """A signal to the process and its pool children."""
        os.killpg(self.process.pid, number)

    def end(self) -> None:
        """kill -9, frozen or not."""
        if self.is_running():
            self.send(signal.SIGKILL)
        self.process.wait(PATIENCE_SECONDS)

    def words(self) -> str:
        return self.log.read_text(errors="replace")


def wait_until(holds: Callable[[], object], what: str, *processes: CeleryProcess) -> None:
    """Until it holds; fails with the ends of the logs."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        logs = "\n".join(f"--- {each.log.name}\n{each.words()[-4000:]}" for each in processes)
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS} s for {what}\n{logs}"
        time.sleep(0.1)


@contextmanager
def running(command: tuple[str, ...], environment: Mapping[str, str], log: Path) -> Iterator[CeleryProcess]:
    """The command, in a process group of its own, until the block ends."""
    with log.open("wb") as written:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONWARNINGS": "ignore", **environment},
            stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    started = CeleryProcess(process, log)
    try:
        yield started
    finally:
        started.end()


@contextmanager
def worker(
    environment: Mapping[str, str], directory: Path, name: str = "worker", program: tuple[str, ...] = CELERY
) -> Iterator[CeleryProcess]:
    """A worker with one child that does forecasts and keeps the ledger moving; ready when the block begins."""
    command = (
        *program, "worker", "--queues", "ml_processing,control", "--concurrency", "1", "--hostname", f"{name}@%h",
        "--loglevel", "INFO", "--without-mingle", "--without-gossip", "--without-heartbeat",
    )  # fmt: skip
    with running(command, environment, directory / f"{name}.log") as started:
        wait_until(lambda: " ready." in started.words() or not started.is_running(), "a ready worker", started)
        assert started.is_running(), started.words()[-4000:]
        yield started


@contextmanager
def beat(environment: Mapping[str, str], directory: Path, name: str = "beat") -> Iterator[CeleryProcess]:
    """A beat, which sends the reconciler's message every second or as the environment says."""
    with running((*CELERY, "beat", "--loglevel", "INFO"), environment, directory / f"{name}.log") as started:
        yield started
