"""The gateway over psycopg: a small pool, one transaction per call, errors in our own words."""

import json
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import psycopg
import structlog
import tenacity
from psycopg import sql
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from app.db.functions import NOT_REPEATABLE, parameter_types
from app.db.gateway import Json
from app.db.postgres_errors import connection_error, statement_error
from app.errors import DatabaseUnavailable, QueryRefused, TenantcastError

CONNECT_TIMEOUT_SECONDS = 5
ATTEMPTS = 4
IDLE_TIMEOUT = "30s"  # a process that is frozen inside a transaction holds its locks no longer than this

_log = structlog.get_logger()

# How a connection behaves whatever server it reaches. No prepared statements: a pooler in transaction mode (Supabase's
# port 6543) hands the next transaction to another server process.
_CONNECTION = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "tcp_user_timeout": 15_000,  # milliseconds: a black-holed connection is noticed
    "keepalives_idle": 30,
    "application_name": "tenantcast",
    "prepare_threshold": None,
}

_LIMITS = (
    "select set_config('statement_timeout', %s, true), set_config('idle_in_transaction_session_timeout', %s, true)"
)


class PostgresGateway:
    """Calls named SQL functions over a pool that connects at the first call (so after any fork)."""

    name = "postgres"

    def __init__(self, url: str, *, min_size: int = 0, max_size: int = 2, statement_timeout_seconds: int = 120) -> None:
        self._url = url
        self._sizes = (min_size, max_size)
        self._timeout = f"{statement_timeout_seconds}s"
        self._pool: ConnectionPool[psycopg.Connection[Any]] | None = None
        self._lock = threading.Lock()

    def call(self, function: str, params: Mapping[str, object]) -> Json:
        """Call ``public.<function>``; see `Gateway.call`.

        Connection errors are tried again, at most `ATTEMPTS` times: before the statement was sent always, after it
        only where a second call cannot do something else than the first.
        """
        statement, values = _statement(function, params)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(partial(_may_repeat, function)),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=2.0),
            before_sleep=partial(_log_retry, function),
            reraise=True,
        )
        return retrying(self._call_once, function, statement, values)

    def close(self) -> None:
        """Give connections back. Safe to call twice; a later call opens a new pool."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(timeout=CONNECT_TIMEOUT_SECONDS)

    def _call_once(self, function: str, statement: sql.Composed, values: Mapping[str, object]) -> Json:
        try:
            with self._opened().connection() as connection:
                return self._run(function, connection, statement, values)
        except (PoolTimeout, PoolClosed):
            raise self._why_unreachable() from None
        except psycopg.Error as error:  # the commit, or giving the connection back
            raise statement_error(function, error) from None

    def _run(
        self, function: str, connection: psycopg.Connection[Any], statement: sql.Composed, values: Mapping[str, object]
    ) -> Json:
        try:
            with connection.transaction():
                # For this transaction alone: startup options do not pass every pooler.
                connection.execute(_LIMITS, (self._timeout, IDLE_TIMEOUT))
                row = connection.execute(statement, values).fetchone()
                return cast("Json", row[0]) if row else None
        except psycopg.Error as error:
            raise statement_error(function, error) from None
        except (TypeError, ValueError) as error:
            raise QueryRefused(f"{function}: a parameter is not JSON: {error}.") from error

    def _opened(self) -> ConnectionPool[psycopg.Connection[Any]]:
        with self._lock:
            if self._pool is None:
                self._probe()
                min_size, max_size = self._sizes
                self._pool = ConnectionPool(
                    self._url,
                    min_size=min_size,
                    max_size=max_size,
                    kwargs=_CONNECTION,
                    check=ConnectionPool.check_connection,
                    timeout=CONNECT_TIMEOUT_SECONDS + 1,
                    reconnect_timeout=CONNECT_TIMEOUT_SECONDS,
                    open=True,
                )
            return self._pool

    def _probe(self) -> None:
        """Connect once ourselves: the pool only ever says that it timed out, not why."""
        try:
            psycopg.connect(self._url, **_CONNECTION).close()  # type: ignore[arg-type]
        except psycopg.Error as error:
            raise connection_error(error) from None

    def _why_unreachable(self) -> TenantcastError:
        try:
            self._probe()
        except TenantcastError as error:
            return error
        return DatabaseUnavailable(
            "No connection to the database became free in time.", next_step="Try again; look at the server's load."
        )


def _statement(function: str, params: Mapping[str, object]) -> tuple[sql.Composed, dict[str, object]]:
    types = parameter_types(function, params)
    arguments = sql.SQL(", ").join(
        sql.SQL("{name} => {value}::{type}").format(
            name=sql.Identifier(name), value=sql.Placeholder(name), type=sql.SQL(cast("Any", types[name]))
        )
        for name in params
    )
    statement = sql.SQL("select public.{function}({arguments})").format(
        function=sql.Identifier(function), arguments=arguments
    )
    return statement, {name: _value(types[name], value) for name, value in params.items()}


def _value(sql_type: str, value: object) -> object:
    if sql_type == "jsonb" and value is not None:
        return Jsonb(value, dumps=_dumps)
    return value


# NaN and Infinity are not JSON, though Python would write them.
_dumps = partial(json.dumps, allow_nan=False)


def _may_repeat(function: str, error: BaseException) -> bool:
    if not isinstance(error, DatabaseUnavailable) or error.futile:
        return False
    return not error.sent or function not in NOT_REPEATABLE


def _log_retry(function: str, state: tenacity.RetryCallState) -> None:
    outcome = state.outcome
    error = outcome.exception() if outcome else None
    _log.warning("database_retry", function=function, attempt=state.attempt_number, error=str(error))
