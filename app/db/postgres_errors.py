"""What psycopg raises, in our own words: who has to do what, and never a row's value or a password.

The server's primary message may quote a value ("invalid input syntax for type uuid: ..."), so only messages that our
own SQL raises (SQLSTATE TC...) are passed on; anything else is named by its SQLSTATE and constraint. psycopg's own
exception shows the whole row that was refused, so callers raise these `from None`: a logged traceback holds no sale.
"""

import psycopg
from psycopg import errors

from app.errors import ConfigError, DatabaseUnavailable, NotInstalled, QueryRefused, TenantcastError, WrongKey

VIEWS = "If nothing is pending, a source view is gone: make it again (docs/how-to/point-at-your-supabase.md)."
MIGRATE = "Run: tenantcast db migrate (with Supabase also: supabase db push)."
CHECK_URL = "Check user, password, host and database name in DATABASE_URL."
CHECK_REACHABLE = "Check that the server runs and that its host and port in DATABASE_URL are right; then try again."

_NOT_INSTALLED = (errors.UndefinedFunction, errors.UndefinedTable, errors.InvalidSchemaName)
_UNDONE = (errors.SerializationFailure, errors.DeadlockDetected, errors.LockNotAvailable)
_REFUSED_LOGIN = (
    "password authentication failed", "no password supplied", "no pg_hba.conf entry", "authentication failed",
    "permission denied for database", "Tenant or user not found",
)  # fmt: skip


def connection_error(error: psycopg.Error) -> TenantcastError:
    """Why a connection could not be made. The statement was not sent."""
    text = str(error)
    if isinstance(error, psycopg.ProgrammingError):
        return ConfigError("DATABASE_URL is no address of a PostgreSQL database.", next_step=CHECK_URL)
    if any(sign in text for sign in _REFUSED_LOGIN) or ("role " in text and "does not exist" in text):
        return WrongKey("The database refused our login.", next_step=CHECK_URL)
    if "database " in text and "does not exist" in text:
        return ConfigError("The server has no database of that name.", next_step=CHECK_URL)
    return DatabaseUnavailable("The database cannot be reached.", next_step=CHECK_REACHABLE)


def statement_error(function: str, error: psycopg.Error) -> TenantcastError:
    """Why a call failed after its statement was sent."""
    state = error.sqlstate or ""
    if isinstance(error, errors.InsufficientPrivilege) and "row-level security" not in str(error):
        return WrongKey(f"The database does not let this login call {function}.", next_step=MIGRATE)
    if isinstance(error, _NOT_INSTALLED) and _names_ours(function, error):
        next_step = MIGRATE if function in (error.diag.message_primary or "") else f"{MIGRATE} {VIEWS}"
        return NotInstalled(f"The database lacks {function} or what it needs.", next_step=next_step)
    if isinstance(error, (errors.QueryCanceled, *_UNDONE)):
        return _gave_up(function, error)
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) or state[:2] in {"08", "53", "57"}:
        return _sent(f"The database did not answer {function}.")
    if state.startswith("TC"):
        return QueryRefused(f"{function}: {error.diag.message_primary}.")
    constraint = f", constraint {error.diag.constraint_name}" if error.diag.constraint_name else ""
    return QueryRefused(f"The database refused {function} ({_condition(error)}{constraint}).")


def _names_ours(function: str, error: psycopg.Error) -> bool:
    """A function of ours, or a table or schema that it reads, is missing (and not one of the product's)."""
    text = str(error)
    return any(name in text for name in (function, "public.ml_", "tenantcast_"))


def _gave_up(function: str, error: psycopg.Error) -> DatabaseUnavailable:
    """The server itself undid the statement: too long, or in the way of another one."""
    unavailable = DatabaseUnavailable(
        f"The database gave up on {function} ({_condition(error)}).", next_step="Try again; look at the server's load."
    )
    unavailable.futile = isinstance(error, errors.QueryCanceled)  # the statement's time was up
    return unavailable


def _sent(message: str) -> DatabaseUnavailable:
    unavailable = DatabaseUnavailable(message, next_step=CHECK_REACHABLE)
    unavailable.sent = True
    return unavailable


def _condition(error: psycopg.Error) -> str:
    return f"{type(error).__name__}, SQLSTATE {error.sqlstate or 'unknown'}"
