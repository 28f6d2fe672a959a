"""Everything on this machine under one process: database, Redis, workers, beats.

The private servers belong to the home and not to this process: killed, it leaves them running, and the next one adopts
them. Its workers and beats end with it.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from app.config.settings import Settings
from app.errors import ConfigError, TenantcastError
from app.services.embedded_redis import EmbeddedRedis

LOOK_SECONDS = 5.0

_log = structlog.get_logger()


@dataclass
class Servers:
    """The private servers that the settings leave to us: none, one or both of PostgreSQL and Redis."""

    settings: Settings
    _next_look: float = field(default=0.0, init=False)

    def start(self) -> None:
        """Start or adopt them, and look whether the database can be used.

        Raises
        ------
        MissingPart, DatabaseUnavailable, RedisUnavailable : one does not start
        NotInstalled, WrongKey : the database that the settings name cannot be used
        """
        from app.db.connect import open_gateway
        from app.db.store import SystemStore

        if self._own_redis():
            EmbeddedRedis(self.settings.tenantcast_home).ensure_running()
        gateway = open_gateway(self.settings)  # starts the private PostgreSQL where no other is named
        try:
            SystemStore(gateway).check_installation()
        finally:
            gateway.close()

    def keep(self) -> None:
        """Start again what has died; a few times a minute. What cannot be started now is tried again."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        try:
            self._start_the_dead()
        except TenantcastError as error:
            _log.error("server_down", code=error.code, reason=error.message)

    def stop(self) -> list[str]:
        """Stop the private servers, whoever started them; which ones ran."""
        from app.db.embedded import EmbeddedPostgres

        home = self.settings.tenantcast_home
        stopped = {"postgres": self._own_postgres() and EmbeddedPostgres(home).stop()}
        stopped["redis"] = self._own_redis() and EmbeddedRedis(home).stop()
        return [name for name, ran in stopped.items() if ran]

    def _start_the_dead(self) -> None:
        from app.db.embedded import EmbeddedPostgres

        home = self.settings.tenantcast_home
        if self._own_redis():
            EmbeddedRedis(home).ensure_running()
        if self._own_postgres() and not EmbeddedPostgres(home).is_running():
            EmbeddedPostgres(home).ensure_running()

    def _own_redis(self) -> bool:
        return self.settings.redis_url is None and self.settings.celery_broker_url is None

    def _own_postgres(self) -> bool:
        return self.settings.database_url is None and not self.settings.supabase_url


@contextmanager
def the_only_one(home: Path) -> Iterator[None]:
    """Two of these in one home would fight over its servers. The system lifts the lock when its holder dies.

    Raises
    ------
    ConfigError : another one runs, or the home cannot be written
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = (home / "up.lock").open("a+")
    except OSError as error:
        raise ConfigError(
            f"{home} cannot be written ({error.strerror}).", next_step="Set TENANTCAST_HOME to a directory of your own."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigError(
                f"`tenantcast up` runs already in {home} (process {file.read().strip() or 'unknown'}).",
                next_step="End that one with Ctrl-C, or set TENANTCAST_HOME to another directory.",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
