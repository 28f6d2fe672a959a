"""`tenantcast worker` as a process over real servers: signs of life, a broker that goes away, kill -9, SIGTERM."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from app.celery_app import make_celery
from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.services.heartbeat import heartbeat_file
from app.workers.pulse import Pulse
from tests.servers.redis import RedisServer, running_redis

CHECKOUT = Path(__file__).parents[2]
PATIENCE_SECONDS = 240  # a full machine


@pytest.fixture
def broker() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@contextmanager
def running_worker(database_url: str, redis_url: str, home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker on the queue `control`, once its loop beats."""
    environment = {
        **os.environ, "DATABASE_URL": database_url, "REDIS_URL": redis_url, "TENANTCAST_HOME": str(home),
        "PYTHONPATH": str(CHECKOUT),
    }  # fmt: skip
    home.mkdir()
    with (home / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tenantcast", "worker", "--queues", "control", "--name", "probe"],
            env=environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        wait_for(heartbeat_file(home, "probe").exists, home)
        yield worker
    finally:
        worker.kill()
        worker.wait()


def wait_for(look: Callable[[], object], home: Path) -> object:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, (home / "worker.log").read_text(errors="replace")[-4000:]
        time.sleep(0.05)
    return found


def _beats_again(home: Path) -> Callable[[], bool]:
    """Whether it has beaten since this call."""
    file = heartbeat_file(home, "probe")
    before = file.stat().st_mtime
    return lambda: file.stat().st_mtime > before


def _connections(home: Path) -> int:
    return (home / "worker.log").read_text(errors="replace").count("Connected to")


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_it_beats_also_while_the_broker_is_away_and_comes_back_to_it(database_url, broker, tmp_path):
    home = tmp_path / "home"
    with running_worker(database_url, broker.url, home) as worker:
        wait_for(_beats_again(home), home)

        broker.kill()
        wait_for(lambda: "Connection to broker lost" in (home / "worker.log").read_text(errors="replace"), home)
        wait_for(_beats_again(home), home)
        broker.start()
        wait_for(lambda: _connections(home) == 2, home)
        wait_for(_beats_again(home), home)

        assert worker.poll() is None


def test_told_to_end_an_idle_worker_ends_in_order(database_url, redis_url, tmp_path):
    home = tmp_path / "home"
    with running_worker(database_url, redis_url, home) as worker:
        children = wait_for(psutil.Process(worker.pid).children, home)

        worker.send_signal(signal.SIGTERM)

        # Far below the minute that a soft shutdown (REMAP_SIGTERM) would sleep: see docs/how-to/operate.md.
        assert worker.wait(30) == 0
        assert isinstance(children, list)
        wait_for(lambda: not any(_alive(child) for child in children), home)


def test_the_children_of_a_killed_worker_end_with_it(database_url, redis_url, tmp_path):
    home = tmp_path / "home"
    with running_worker(database_url, redis_url, home) as worker:
        wait_for(lambda: "worker_process_started" in (home / "worker.log").read_text(errors="replace"), home)
        children = psutil.Process(worker.pid).children()

        worker.kill()

        assert children
        wait_for(lambda: not any(_alive(child) for child in children), home)


def test_the_watchdog_sees_what_lies_in_its_queues(redis_url, tmp_path):
    app = make_celery(Settings(redis_url=redis_url), MLSettings())
    pulse = Pulse(app, ("control", "maintenance"), tmp_path / "heartbeat-probe")
    empty = pulse.look()

    for _ in range(3):
        app.send_task("app.workers.control_worker.reconcile")
    app.send_task("app.workers.notification_worker.check_notification_rules")  # of another worker's queue

    assert (empty.waiting, pulse.look().waiting) == (0, 3)


def test_the_watchdog_knows_nothing_of_a_broker_that_is_away(broker, tmp_path):
    app = make_celery(Settings(redis_url=broker.url), MLSettings())
    pulse = Pulse(app, ("control",), tmp_path / "heartbeat-probe")

    broker.kill()

    assert pulse.look().waiting is None


IN_MINIATURE = """
import sys, threading, time
from pathlib import Path
from types import SimpleNamespace
from app.celery_app import celery_app
from app.workers import pulse
pulse.LOOK_SECONDS, pulse.LIMIT_SECONDS, pulse.FROZEN_SECONDS = 0.05, 0.5, float(sys.argv[1])
alive = pulse.Pulse(celery_app, ("control",), Path(sys.argv[2]))
alive.connected(SimpleNamespace(timer=SimpleNamespace(call_repeatedly=lambda *_: None)))
if sys.argv[3] == "away":
    alive.disconnected()
time.sleep(3)
print("still here")
"""


def _in_miniature(
    redis_url: str, file: Path, *, frozen_after: float, broker: str
) -> "subprocess.CompletedProcess[str]":
    """A pulse with a watchdog of half a second, whose worker takes nothing for three."""
    return subprocess.run(
        [sys.executable, "-c", IN_MINIATURE, str(frozen_after), str(file), broker],
        env={**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip


def _ring(redis_url: str) -> None:
    make_celery(Settings(redis_url=redis_url), MLSettings()).send_task("app.workers.control_worker.reconcile")


def test_a_worker_that_hears_nothing_ends_itself(redis_url, tmp_path):
    _ring(redis_url)

    done = _in_miniature(redis_url, tmp_path / "beat", frozen_after=60, broker="there")

    assert done.returncode == -signal.SIGKILL
    assert "worker_hears_nothing" in done.stdout + done.stderr


def test_a_worker_with_nothing_to_hear_goes_on(redis_url, tmp_path):
    done = _in_miniature(redis_url, tmp_path / "beat", frozen_after=60, broker="there")

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "still here")


def test_a_worker_whose_loop_is_frozen_ends_itself(redis_url, tmp_path):
    done = _in_miniature(redis_url, tmp_path / "beat", frozen_after=1, broker="there")

    assert done.returncode == -signal.SIGKILL
    assert "worker_loop_frozen" in done.stdout + done.stderr


def test_a_worker_that_waits_for_its_broker_is_neither_deaf_nor_frozen(redis_url, tmp_path):
    _ring(redis_url)

    done = _in_miniature(redis_url, tmp_path / "beat", frozen_after=1, broker="away")

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "still here")
