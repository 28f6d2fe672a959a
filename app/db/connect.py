"""Which database: DATABASE_URL, else Supabase, else the private PostgreSQL of this home."""

import re
from typing import TYPE_CHECKING

from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import SystemStore
from app.errors import ConfigError, MigrationRefused

if TYPE_CHECKING:
    from app.db.migrate import MigrationStatus

# `postgresql+psycopg://` and the like are an ORM's spelling; libpq does not know it.
_DRIVER = re.compile(r"^(postgres(?:ql)?)\+\w+://")


def open_gateway(settings: Settings) -> Gateway:
    """The way to the database that the settings name. Open it after a fork, once per process; close it at the end.

    Raises
    ------
    ConfigError : DATABASE_URL is malformed, or one of the two Supabase settings is missing
    MissingPart, DatabaseUnavailable : the private PostgreSQL cannot be started
    """
    if chooses_supabase(settings):
        from app.db.supabase import SupabaseGateway

        return SupabaseGateway(settings)

    from app.db.postgres import PostgresGateway

    return PostgresGateway(direct_url(settings))


def direct_url(settings: Settings) -> str:
    """The address for psycopg, password included; the private PostgreSQL is started for it.

    Raises
    ------
    MigrationRefused : the settings name a Supabase project, which PostgREST gives no such address of
    ConfigError, MissingPart, DatabaseUnavailable : as `open_gateway`
    """
    if settings.database_url is not None:
        return _checked(settings.database_url.get_secret_value())
    if chooses_supabase(settings):
        raise MigrationRefused(
            "Tables and functions cannot be made or dropped through PostgREST.",
            next_step="Run `supabase db push` to migrate, or set DATABASE_URL to the project's connection string.",
        )
    from app.db.embedded import EmbeddedPostgres

    return EmbeddedPostgres(settings.tenantcast_home).ensure_running()


def database_address(settings: Settings) -> str:
    """The address of the database in use, to show: no password of the operator's is in it."""
    if chooses_supabase(settings):
        from app.db.supabase import project_address

        return project_address(settings)
    url = direct_url(settings)
    return url if settings.database_url is None else _without_password(url)


def migration_status(settings: Settings) -> "MigrationStatus":
    """Which of our migrations the database in use has; over PostgREST our own function tells it.

    Raises
    ------
    NotInstalled : over PostgREST, where that function is not there yet
    ConfigError, MissingPart, DatabaseUnavailable, WrongKey, MigrationRefused
    """
    from app.db.migrate import status, status_of

    if not chooses_supabase(settings):
        return status(direct_url(settings))
    gateway = open_gateway(settings)
    try:
        return status_of({row["version"] for row in SystemStore(gateway).check_installation()["migrations"]})
    finally:
        gateway.close()


def chooses_supabase(settings: Settings) -> bool:
    """True when the way to the database is PostgREST."""
    return settings.database_url is None and bool(settings.supabase_url or settings.supabase_service_role_key)


def _checked(url: str) -> str:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    plain = _DRIVER.sub(r"\1://", url.strip())
    try:
        parts = conninfo_to_dict(plain)
    except ProgrammingError:  # its text quotes the address, with the password
        parts = None
    # An @ in the password that was not encoded: its rest would be taken, and shown, for the host.
    if parts is None or any("@" in str(parts.get(name, "")) for name in ("host", "port", "dbname")):
        raise ConfigError(
            "DATABASE_URL is no address of a PostgreSQL database.",
            next_step="It looks like postgresql://USER:PASSWORD@HOST:5432/DATABASE; encode special characters as %XX.",
        )
    return plain


def _without_password(url: str) -> str:
    """The same address as a URL, with its secrets left out."""
    from urllib.parse import quote, urlencode

    from psycopg.conninfo import conninfo_to_dict

    parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    user, host, port = parts.pop("user", ""), parts.pop("host", ""), parts.pop("port", "")
    database = parts.pop("dbname", "")
    login = quote(user) + (":***" if parts.pop("password", None) else "")
    rest = {name: value for name, value in parts.items() if "password" not in name}
    if host.startswith("/"):
        rest["host"], host = host, ""
    address = f"postgresql://{login}{'@' if login else ''}{host}{f':{port}' if port else ''}/{quote(database, safe='')}"
    return address + (f"?{urlencode(rest)}" if rest else "")
