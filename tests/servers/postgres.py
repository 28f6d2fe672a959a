"""A throw-away PostgreSQL for one test run: durable in nothing, gone afterwards."""

import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql

from app.db.cluster import Account, Cluster, find_programs, make_directory

# Nothing of a test run has to survive a power cut.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "60",
    "shared_buffers": "64MB",
}


# As every Supabase project has them. `service_role` bypasses row security there, so no policy ever applies to it:
# that our functions still keep tenants apart is what the contract tests show.
SUPABASE_ROLES = """
do $$
begin
  if to_regrole('anon') is null then create role anon nologin noinherit; end if;
  if to_regrole('authenticated') is null then create role authenticated nologin noinherit; end if;
  if to_regrole('service_role') is null then create role service_role nologin noinherit bypassrls; end if;
  if to_regrole('authenticator') is null then create role authenticator login noinherit; end if;
end
$$;
grant anon, authenticated, service_role to authenticator;
"""

# What Supabase grants in advance on everything that is ever made in `public`; migrations have to take it back.
SUPABASE_DEFAULTS = """
grant usage on schema public to anon, authenticated, service_role;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
"""


@dataclass(frozen=True)
class PostgresServer:
    """A running server; over its socket everyone is trusted, over ``port`` of the loopback a password is needed."""

    cluster: Cluster
    port: int

    def url(self, database: str, user: str = "postgres") -> str:
        return self.cluster.url(database, user)

    def loopback_url(self, database: str, user: str, password: str) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, template: str = "template0") -> str:
        """A new database, a copy of ``template``; gives its address."""
        self._execute(
            sql.SQL("create database {} template {} strategy file_copy").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is still connected."""
        self._execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def add_supabase_roles(self) -> None:
        """Roles are the server's, not a database's: to be there before a migration makes plain ones of these names."""
        with psycopg.connect(self.url("postgres")) as connection:
            connection.execute(SUPABASE_ROLES)

    def imitate_supabase(self, database: str) -> None:
        """Give ``database`` the grants in advance that every Supabase project has."""
        with psycopg.connect(self.url(database)) as connection:
            connection.execute(SUPABASE_DEFAULTS)

    @contextmanager
    def scratch_database(self, template: str = "template0") -> Iterator[str]:
        """A database for one test: its address; dropped at the end."""
        name = f"test_{uuid4().hex}"
        url = self.create_database(name, template)
        try:
            yield url
        finally:
            self.drop_database(name)

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Start a server with files of its own below the temporary directory; stop it and remove them at the end."""
    account = Account.for_server()
    root = Path(tempfile.mkdtemp(prefix="tc-pg-", dir="/tmp"))  # short: a socket's name has at most 107 bytes
    root.chmod(0o755)
    try:
        programs = find_programs().usable_by(account, root)
        for name in ("s", "c"):
            make_directory(root / name, account)
        port = free_port()
        settings = FAST | {"listen_addresses": "127.0.0.1", "port": str(port)}
        cluster = Cluster(root / "c" / "data", root / "s", account, settings)
        cluster.create(programs, "--no-sync")
        cluster.start(programs)
        try:
            yield PostgresServer(cluster, port)
        finally:
            cluster.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(root)


def free_port() -> int:
    """A port of the loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
