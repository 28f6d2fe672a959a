"""The servers that a storm may hit: a PostgreSQL that can be restarted, a Redis that keeps nothing."""

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from app.db.cluster import Account, Cluster, Programs, find_programs, make_directory
from tests.servers.redis import RedisServer, running_redis

ANSWER_SECONDS = 60
# A commit that was answered has to survive the server's death (not the machine's): so no `synchronous_commit=off`.
SETTINGS = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off", "max_connections": "100"}


@dataclass(frozen=True)
class Postgres:
    """A server of the storm's own. Its log is beside its data."""

    cluster: Cluster
    programs: Programs

    def create_database(self, name: str) -> "Database":
        with psycopg.connect(self.cluster.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        return Database(self.cluster.url(name))

    def restart(self, how: signal.Signals) -> None:
        """SIGINT cuts all connections; SIGQUIT ends every process where it stands, and the log is replayed."""
        self.cluster.stop(how)
        self.cluster.start(self.programs)


@dataclass(frozen=True)
class Database:
    """One database, asked by the harness itself; a server that is just being restarted is waited for."""

    url: str

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of one statement in a transaction of its own; it may run twice, so it must be repeatable."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                with psycopg.connect(self.url, connect_timeout=5, application_name="harness") as connection:
                    cursor = connection.execute(query.encode(), values)
                    return cursor.fetchall() if cursor.description else []
            except (psycopg.OperationalError, psycopg.InterfaceError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def one(self, query: str, *values: object) -> Any:
        """The first column of the first row."""
        return self.ask(query, *values)[0][0]

    def terminate_backends(self) -> int:
        """Cut every connection but the harness's own; how many there were."""
        cut = self.ask(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid() and application_name <> 'harness'"
        )
        return len(cut)


@dataclass(frozen=True)
class Backends:
    """Both servers."""

    postgres: Postgres
    redis: RedisServer


@contextmanager
def running_backends() -> Iterator[Backends]:
    """Start both with files of their own; stop them and remove the files at the end."""
    account = Account.for_server()
    root = Path(tempfile.mkdtemp(prefix="tc-chaos-", dir="/tmp"))  # short: a socket's name has at most 107 bytes
    root.chmod(0o755)
    try:
        programs = find_programs().usable_by(account, root)
        for name in ("s", "c"):
            make_directory(root / name, account)
        cluster = Cluster(root / "c" / "data", root / "s", account, SETTINGS)
        cluster.create(programs, "--no-sync")
        cluster.start(programs)
        try:
            with running_redis() as redis:
                yield Backends(Postgres(cluster, programs), redis)
        finally:
            cluster.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(root)
