"""The Redis of a machine that has none: a private Valkey that belongs to one home directory.

The same rule as for the private PostgreSQL: whoever needs it first starts it, everyone else adopts it, also after its
starter was killed, and it keeps running until someone calls `stop` or the machine ends. It listens on the loopback
alone, with a password that stands in the home (readable for its owner only), writes what it is told to disk
(``appendonly``) and never evicts: a broker that forgets is survived, but costs time.

In the home stand ``redis.json`` (port and password), ``redis.lock`` and, in ``redis/``, configuration, log and data.
"""

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from app.config.settings import Settings
from app.errors import ConfigError, RedisUnavailable
from app.services.redis_program import find_redis_program

LOOPBACK = "127.0.0.1"
USUAL_ADDRESS = f"redis://{LOOPBACK}:6379/0"
_WAIT_SECONDS = 30
_PORT_SECONDS = 2.0  # for the port of a server that has just been killed
_ANSWER_SECONDS = 5
_PASSWORD_BYTES = 32

log = structlog.get_logger(__name__)


def broker_address(settings: Settings) -> str:
    """`CELERY_BROKER_URL`, else `REDIS_URL`, else the private Redis of the home if it runs, else the usual port."""
    given = settings.celery_broker_url or settings.redis_url
    if given is not None:
        return given.get_secret_value()
    return EmbeddedRedis(settings.tenantcast_home).address() or USUAL_ADDRESS


@dataclass(frozen=True)
class _Address:
    """Where the server listens, and what it asks for."""

    port: int
    password: str

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def answers(self) -> bool:
        """Whether the server there takes our password. A server that still reads its file does not answer yet."""
        import redis

        client = redis.Redis(
            host=LOOPBACK, port=self.port, password=self.password,
            socket_timeout=_ANSWER_SECONDS, socket_connect_timeout=_ANSWER_SECONDS,
        )  # fmt: skip
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


class EmbeddedRedis:
    """The private Redis of ``home``. ``started`` says whether this object started the server that runs."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self.directory = self.home / "redis"
        self.started = False

    def ensure_running(self) -> str:
        """The address of the running server, password included; the first call makes it.

        Raises
        ------
        MissingPart : there is no Redis server for this machine
        ConfigError : the home cannot be written
        RedisUnavailable : the server does not start; the message says what its log says
        """
        with self._locked():
            address = self._read()
            if address is None or not (self._pid() and self._wait(address)):
                address = self._start(address)
            return address.url

    def address(self) -> str | None:
        """The address of the server if one runs; nothing is started for it."""
        address = self._read()
        return address.url if address is not None and self._pid() else None

    def stop(self) -> bool:
        """Stop the server, whoever started it; whether one ran. What it holds is on disk."""
        if not self.directory.exists():
            return False
        with self._locked():
            pid = self._pid()
            self.started = False
            if pid is None:
                return False
            os.kill(pid, signal.SIGTERM)
            self._wait_until_gone(pid)
            log.info("redis_stopped", directory=str(self.directory))
            return True

    @property
    def _record(self) -> Path:
        return self.home / "redis.json"

    def _start(self, earlier: _Address | None) -> _Address:
        """Start the server, on the port it had before if that is free: whoever knows the address keeps it."""
        program = find_redis_program()
        self.directory.mkdir(mode=0o700, exist_ok=True)
        password = earlier.password if earlier else secrets.token_urlsafe(_PASSWORD_BYTES)
        address = _Address(_port(earlier.port if earlier else 0), password)
        _write_private(self._record, json.dumps(asdict(address)))
        _write_private(self.directory / "redis.conf", _configuration(address))
        done = subprocess.run(  # noqa: S603 - a program that we found ourselves
            [program, "redis.conf"], cwd=self.directory, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}, check=False, timeout=_WAIT_SECONDS,
        )  # fmt: skip
        if done.returncode != 0 or not self._wait(address):
            raise self._unavailable(done.stderr)
        self.started = True
        log.info("redis_started", directory=str(self.directory), port=address.port)
        return address

    def _wait(self, address: _Address) -> bool:
        """Wait until the server answers; False when it is gone, or does not answer in time."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < deadline:
            if address.answers():
                return True
            time.sleep(0.05)
            if self._pid() is None:
                time.sleep(0.2)  # its process id is written a moment after the start
                if self._pid() is None:
                    return False
        return False

    def _wait_until_gone(self, pid: int) -> None:
        deadline = time.monotonic() + _WAIT_SECONDS
        while self._is_ours(pid):
            if time.monotonic() > deadline:
                raise self._unavailable("it does not stop")
            time.sleep(0.02)

    def _read(self) -> _Address | None:
        try:
            return _Address(**json.loads(self._record.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):  # cut short by a full disk
            log.warning("redis_record_unreadable", file=str(self._record), kept="nothing: a new one is written")
            return None

    def _pid(self) -> int | None:
        """The server's process if it runs; a number that a killed server left may be anyone's by now."""
        try:
            pid = int((self.directory / "redis.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if self._is_ours(pid) else None

    def _is_ours(self, pid: int) -> bool:
        """Whether ``pid`` works in our directory, where the server stays."""
        try:
            return Path(f"/proc/{pid}/cwd").samefile(self.directory)
        except OSError:  # gone, or of an account that we may not look at: not ours
            return False

    def _unavailable(self, said: str) -> RedisUnavailable:
        file = self.directory / "server.log"
        lines = (said + "\n" + (file.read_text(errors="replace") if file.exists() else "")).strip().splitlines()
        return RedisUnavailable(
            f"The private Redis in {self.directory} could not be used." + (f" It says: {lines[-1]}" if lines else ""),
            next_step=f"See {file}; a full disk is the usual cause. REDIS_URL uses another server.",
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one process starts or stops; the system lifts the lock when its holder dies."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            file = (self.home / "redis.lock").open("a")
        except OSError as error:
            raise ConfigError(
                f"{self.home} cannot be written ({error.strerror}).",
                next_step="Set TENANTCAST_HOME to a directory of your own, or REDIS_URL to use another server.",
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _configuration(address: _Address) -> str:
    """valkey.conf. Names are relative to the server's directory, so that no path has to be quoted."""
    settings = {
        "bind": LOOPBACK,
        "port": address.port,
        "requirepass": address.password,
        "daemonize": "yes",  # it outlives its starter
        "pidfile": "redis.pid",
        "logfile": "server.log",
        "dir": ".",
        "save": '""',
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
    }
    return "".join(f"{name} {value}\n" for name, value in settings.items())


def _write_private(file: Path, text: str) -> None:
    """For the owner alone from its first byte, and whole or not at all."""
    unfinished = file.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(file)


def _port(wanted: int) -> int:
    """``wanted`` if nobody listens there, else a free port of the loopback.

    The threads of a server that was killed a moment ago may hold its port a little longer than its process lives.
    """
    deadline = time.monotonic() + _PORT_SECONDS
    while wanted and time.monotonic() < deadline:
        if _is_free(wanted):
            return wanted
        time.sleep(0.05)
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
