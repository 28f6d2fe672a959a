"""Applies supabase/migrations in order, keeping the Supabase CLI's own history table.

Each file is one transaction, together with its row of history; a lock inside that transaction lets any number of
processes migrate at once. `supabase db push` sees what was applied here, and the other way round.
"""

from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import structlog

from app.db.postgres_errors import connection_error
from app.errors import MigrationRefused

OLDEST_SERVER = 150000
_LOCK = 7_236_401_598_112_734  # any number, as long as every version of ours takes the same one
_HERE = Path(__file__).resolve()

_log = structlog.get_logger()

_HISTORY = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (version text not null primary key);
alter table supabase_migrations.schema_migrations add column if not exists statements text[];
alter table supabase_migrations.schema_migrations add column if not exists name text;
"""


@dataclass(frozen=True)
class Migration:
    """One file: ``<version>_<name>.sql``."""

    version: str
    name: str
    path: Path

    @property
    def label(self) -> str:
        return f"{self.version}_{self.name}"


@dataclass(frozen=True)
class MigrationReport:
    """Labels (``version_name``) of what this call applied, and of what was there before it."""

    applied: tuple[str, ...]
    already: tuple[str, ...]


@dataclass(frozen=True)
class MigrationStatus:
    """Labels of our files that are applied and pending; ``others`` counts versions that are not ours."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    others: int


def migrate(url: str, *, examples: bool = False) -> MigrationReport:
    """Apply what is missing; with ``examples`` also the example product that demo and tests use.

    Raises
    ------
    MigrationRefused : over PostgREST, on a server older than 15, or when the database refuses a statement
    DatabaseUnavailable, WrongKey, ConfigError
    """
    applied: list[str] = []
    already: list[str] = []
    with _connected(url) as connection:
        _prepare_history(connection)
        for migration in _migrations(examples=examples):
            (applied if _apply(connection, migration) else already).append(migration.label)
    return MigrationReport(tuple(applied), tuple(already))


def status(url: str) -> MigrationStatus:
    """What is applied and what is pending. Changes nothing; raises as `migrate`."""
    with _connected(url) as connection:
        return status_of(_versions(connection))


def status_of(known: Set[str]) -> MigrationStatus:
    """The same, from the versions in the history of a database that somebody else asked."""
    ours = _migrations(examples=False)
    names = {migration.version for migration in _migrations(examples=True)}
    return MigrationStatus(
        applied=tuple(m.label for m in ours if m.version in known),
        pending=tuple(m.label for m in ours if m.version not in known),
        others=len(known - names),
    )


def uninstall(url: str, *, yes: bool) -> None:
    """Drop everything that the migrations made, forecasts included; the product's and the example's tables stay.

    Raises
    ------
    MigrationRefused : ``yes`` is false, or as `migrate`
    """
    if not yes:
        raise MigrationRefused(
            "This drops all forecasts, models and runs of every tenant.", next_step="Say so with --yes."
        )
    versions = [migration.version for migration in _migrations(examples=True)]
    with _connected(url) as connection, _refusals("uninstall"), connection.transaction():
        _lock(connection)
        connection.execute((_sql_folder().parent / "uninstall.sql").read_bytes())
        if _has_history(connection):
            connection.execute("delete from supabase_migrations.schema_migrations where version = any(%s)", (versions,))
    _log.info("uninstalled", versions=len(versions))


def _sql_folder() -> Path:
    """Where the SQL lies: beside this module in an installed wheel, else in the checkout."""
    in_wheel = _HERE.parent / "sql"
    in_checkout = _HERE.parents[2] / "supabase"
    for folder in (in_wheel, in_checkout):
        if (folder / "migrations").is_dir():
            return folder / "migrations"
    raise MigrationRefused("The SQL files are missing from this installation.", next_step="Install tenantcast again.")


def _migrations(*, examples: bool) -> list[Migration]:
    folder = _sql_folder()
    paths = sorted(folder.glob("*.sql"))
    if examples:
        paths += sorted((folder.parent / "examples").glob("*.sql"))
    parts = [(path, path.stem.partition("_")) for path in paths]
    return [Migration(version=version, name=name, path=path) for path, (version, _, name) in parts]


@contextmanager
def _connected(url: str) -> Iterator[psycopg.Connection[Any]]:
    if url.startswith(("http://", "https://")):
        raise MigrationRefused(
            "Migrations cannot be applied over PostgREST.",
            next_step="Copy supabase/migrations into your project and run: supabase db push (or set DATABASE_URL).",
        )
    try:
        connection = psycopg.connect(url, autocommit=True, connect_timeout=5, prepare_threshold=None)
    except psycopg.Error as error:
        raise connection_error(error) from None
    with connection:
        if connection.info.server_version < OLDEST_SERVER:
            raise MigrationRefused(
                f"PostgreSQL {connection.info.server_version // 10000} is too old.",
                next_step="Use PostgreSQL 15 or newer.",
            )
        yield connection


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """A statement that the database refuses, told with the file it stands in. No row is in such a message."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise connection_error(error) from None
    except psycopg.Error as error:
        said = error.diag.message_primary or type(error).__name__
        raise MigrationRefused(
            f"{what}: {said} (SQLSTATE {error.sqlstate}).",
            next_step="Nothing of it was kept. Mend the cause (a name that is taken, a missing right), then try again.",
        ) from None


def _prepare_history(connection: psycopg.Connection[Any]) -> None:
    with _refusals("The history of migrations"), connection.transaction():
        _lock(connection)
        if not _has_history(connection):
            connection.execute(_HISTORY)


def _apply(connection: psycopg.Connection[Any], migration: Migration) -> bool:
    text = migration.path.read_text(encoding="utf-8")
    with _refusals(f"Migration {migration.label}"), connection.transaction():
        _lock(connection)
        if migration.version in _versions(connection):
            return False
        connection.execute(text.encode())
        connection.execute(
            "insert into supabase_migrations.schema_migrations (version, statements, name) values (%s, %s, %s)",
            (migration.version, [text], migration.name),
        )
    _log.info("migrated", migration=migration.label)
    return True


def _lock(connection: psycopg.Connection[Any]) -> None:
    # Until the transaction ends, so that it also holds through a pooler in transaction mode.
    connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))


def _has_history(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute(
        "select count(*) = 3 from pg_attribute where attrelid = to_regclass('supabase_migrations.schema_migrations')"
        " and attname in ('version', 'statements', 'name') and not attisdropped"
    ).fetchone()
    return bool(row and row[0])


def _versions(connection: psycopg.Connection[Any]) -> set[str]:
    if not _has_history(connection):
        return set()
    rows = connection.execute("select version from supabase_migrations.schema_migrations").fetchall()
    return {row[0] for row in rows}
