"""`tenantcast up` as an operator has it: one terminal, a client in another, kill -9, Ctrl-C."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.shell import INSTALLED, Shell

PATIENCE_SECONDS = 300  # a full machine takes a minute to import what the workers need
SHOPS = 6
SETTINGS = {"ML_MODEL_CANDIDATES": "naive,snaive,weekday_mean", "ML_LEASE_SECONDS": "5", "ML_RECONCILE_SECONDS": "2"}
RETRAIN = "app.workers.ml_worker.retrain_all_models"


@dataclass
class Machine:
    """A directory with its `up`, and a shell for everything else."""

    shell: Shell
    ups: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return self.shell.directory

    def up(self) -> None:
        """Start `up` and wait until it says that it is ready."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "LANG": "C.UTF-8"}
        log = self.directory / f"up-{len(self.ups)}.log"
        with log.open("wb") as file:
            started = subprocess.Popen(
                [INSTALLED, "up", "--json", "--concurrency", "2"], cwd=self.directory, stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT, env={**environment, **self.shell.settings},
            )  # fmt: skip
        self.ups.append(started)
        wait_for(lambda: started.poll() is not None or self._said("ready"), self.logs)
        assert started.poll() is None, self.logs()

    def end(self, how: signal.Signals) -> int:
        """Send a signal to `up`, and wait for its end; its exit code."""
        self.ups[-1].send_signal(how)
        return self.ups[-1].wait(PATIENCE_SECONDS)

    def processes(self, *, workers_only: bool = False) -> list[str]:
        """Every process that works in the directory: workers, beats, servers; as command lines."""
        found = []
        for process in psutil.process_iter():
            try:
                inside = Path(process.cwd()).is_relative_to(self.directory)
                command = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if inside and (not workers_only or "--name" in command):
                found.append(command)
        return found

    def logs(self) -> str:
        """What the last `up` has said."""
        return (self.directory / f"up-{len(self.ups) - 1}.log").read_text(errors="replace")[-6000:]

    def _said(self, event: str) -> bool:
        lines = (self.directory / f"up-{len(self.ups) - 1}.log").read_text(errors="replace").splitlines()
        said = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return any(line["process"] == "up" and line["event"] == event for line in said)


def wait_for(look: Callable[[], Any], explain: Callable[[], str]) -> Any:
    """What ``look`` gives as soon as it is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, explain()
        time.sleep(0.1)
    return found


@contextmanager
def machine() -> Iterator[Machine]:
    """An empty directory below the temporary one that every account can enter; nothing of it is left afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="tenantcast-up-"))
    directory.chmod(0o755)
    here = Machine(Shell(directory, settings=SETTINGS))
    try:
        yield here
    finally:
        for started in here.ups:
            if started.poll() is None:
                started.kill()
                started.wait()
        here.shell.run("up", "--stop", code=None)
        wait_for(lambda: not here.processes(), lambda: f"still there: {here.processes()}")
        shutil.rmtree(directory)


@pytest.fixture
def a_machine() -> Iterator[Machine]:
    with machine() as here:
        yield here


def import_sales(here: Machine, days: int = 60) -> None:
    """A few shops, through yesterday."""
    today = datetime.now(UTC).date()
    with (here.directory / "sales.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["tenant_id", "fecha", "total", "producto_id"])
        for shop in range(SHOPS):
            for back in range(days, 0, -1):
                day = today - timedelta(days=back)
                rows.writerow([f"shop {shop}", f"{day}T10:00:00", f"{100 + 10 * shop + day.weekday()}.00", "bread"])
    here.shell.run("import", "sales.csv")


def trigger(here: Machine) -> None:
    """As a client of any kind would: Celery's own command, in the same directory, with no address given."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(here.directory), **here.shell.settings}
    subprocess.run(
        [sys.executable, "-P", "-m", "celery", "-A", "app.celery_app", "call", RETRAIN],
        cwd=here.directory, env=environment, check=True, capture_output=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip


def newest_run(here: Machine) -> dict[str, Any] | None:
    return next((run for run in here.shell.json("runs", "list")["runs"] if run["kind"] == "retrain"), None)


def watched(here: Machine, run_id: str) -> dict[str, Any]:
    """The last line of `runs watch`, which ends with the run."""
    lines = here.shell.run("runs", "watch", run_id, "--json").stdout.splitlines()
    return dict(json.loads(lines[-1]))


def test_one_terminal_a_client_in_another_and_ctrl_c_leaves_nothing(a_machine):
    a_machine.up()
    import_sales(a_machine)

    trigger(a_machine)
    run = wait_for(lambda: newest_run(a_machine), a_machine.logs)
    end = watched(a_machine, run["run_id"])

    assert (end["total"], end["done"], end["failed"], end["finished"]) == (SHOPS, SHOPS, 0, True)
    assert end["failures"] == []
    assert len(a_machine.shell.json("predict", "shop 3")["days"]) == 28
    well = a_machine.shell.json("worker", "--check")
    assert well["well"]
    assert sorted(well["seconds_since_heartbeat"]) == ["control", "ml", "notices"]
    second = a_machine.shell.run("up", code=2)
    assert "runs already" in second.stderr

    assert a_machine.end(signal.SIGINT) == 0, a_machine.logs()
    assert a_machine.processes() == []


def test_killed_in_the_middle_of_a_run_and_started_again_it_goes_on(a_machine):
    a_machine.up()
    import_sales(a_machine)
    trigger(a_machine)
    run = wait_for(lambda: newest_run(a_machine), a_machine.logs)

    a_machine.end(signal.SIGKILL)
    wait_for(lambda: not a_machine.processes(workers_only=True), lambda: str(a_machine.processes()))
    assert any("redis.conf" in command or "valkey" in command for command in a_machine.processes())
    a_machine.up()
    end = watched(a_machine, run["run_id"])

    assert (end["done"], end["failed"], end["finished"]) == (SHOPS, 0, True)
    assert a_machine.end(signal.SIGTERM) == 0, a_machine.logs()
    assert a_machine.processes() == []
