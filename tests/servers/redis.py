"""A throw-away Redis (Valkey) for one test run, which tests may flush, kill and start again."""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from app.services.redis_program import find_redis_program
from tests.servers.postgres import free_port

START_SECONDS = 20
# A broker must never evict; nothing of a test run has to survive unless the test says so (`appendonly`).
DEFAULTS = {"bind": "127.0.0.1", "save": "", "appendonly": "no", "maxmemory-policy": "noeviction", "daemonize": "no"}


@dataclass
class RedisServer:
    """A server on one port of the loopback; the port stays the same however often it is killed and started."""

    directory: Path
    port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The server's process; None when it does not run."""
        return self._process.pid if self.is_running() and self._process else None

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it unless it runs, and wait until it answers."""
        if self.is_running():
            return
        settings = {**DEFAULTS, "port": str(self.port), "dir": str(self.directory), **self.settings}
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_redis_program(), *options], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """End it in order (what `appendonly` says is kept)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9: without `appendonly` everything that was queued is gone."""
        self._end(signal.SIGKILL)

    def flush(self) -> None:
        """FLUSHALL."""
        with self.client() as client:
            client.flushall()

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A connection to look at it; closed at the end."""
        client = redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=10)
        try:
            yield client
        finally:
            client.close()

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(START_SECONDS)
        self._process = None

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with self.client() as client:
                    client.ping()
                    return
            except redis.ConnectionError:  # also BusyLoading: it still reads its file
                log = (self.directory / "server.log").read_text(errors="replace")
                assert self.is_running(), f"the Redis server ended at once:\n{log[-2000:]}"
                assert time.monotonic() < deadline, f"the Redis server does not answer:\n{log[-2000:]}"
                time.sleep(0.02)


@contextmanager
def running_redis(**settings: str) -> Iterator[RedisServer]:
    """Start a server with files of its own below the temporary directory; stop it and remove them at the end.

    ``settings`` are valkey.conf's, with `_` for `-`: ``running_redis(appendonly="yes", appendfsync="always")``.
    """
    directory = Path(tempfile.mkdtemp(prefix="tc-redis-"))
    server = RedisServer(directory, free_port(), {name.replace("_", "-"): value for name, value in settings.items()})
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory)
