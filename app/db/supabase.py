"""The way to a Supabase project: the same named functions through PostgREST's ``rpc``.

supabase-py takes an answer that is not JSON (a proxy's error page, a body cut short) for a text result, and repeats
nothing but reads. So every answer is checked before supabase-py reads it, and calls are repeated here: under its fence
or its key a function of ours may be carried out twice; the few that may not are in `functions.NOT_REPEATABLE`.
"""

import math
import random
import time
from collections.abc import Callable, Mapping
from datetime import date
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import structlog
from tenacity import RetryCallState, Retrying, stop_after_attempt

from app.config.settings import Settings
from app.db.functions import NOT_REPEATABLE, parameter_types
from app.db.gateway import Json
from app.db.postgrest_answers import KEY_STEP, NoResult, PassingFailure, error_of, refuse_what_is_no_result
from app.errors import ConfigError, DatabaseUnavailable, QueryRefused, WrongKey

if TYPE_CHECKING:
    from supabase import Client

log = structlog.get_logger(__name__)

ATTEMPTS = 4
FIRST_WAIT_SECONDS = 0.5  # at most; doubled each time, and a random part of its second half left out
LONGEST_WAIT_SECONDS = 15.0  # a server that asks for more patience gets it from the next run, not from this call

_UNREACHABLE_STEP = "Check SUPABASE_URL and the network; a paused project does not answer until it is restored."


def get_supabase_service_client(settings: Settings | None = None) -> "Client":
    """A supabase-py client with the service key, over HTTP/1.1 and with timeouts that fit a worker.

    Make it after a fork, one per process: its connections cannot be shared between processes.

    Raises
    ------
    ConfigError : SUPABASE_URL or SUPABASE_SERVICE_ROLE_KEY is missing or malformed
    """
    from supabase import ClientOptions, create_client

    url, key = _credentials(settings or Settings())
    http = httpx.Client(http2=False, timeout=httpx.Timeout(30, connect=5))
    options = ClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
    return create_client(url, key, options)


class SupabaseGateway:
    """Named SQL functions over PostgREST, through supabase-py.

    ``sleep`` is what waits between two attempts (seconds).
    """

    name = "supabase"

    def __init__(self, settings: Settings, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = get_supabase_service_client(settings)
        self._http = cast("httpx.Client", self._client.options.httpx_client)
        self._http.event_hooks = {"response": [refuse_what_is_no_result]}
        self._host = httpx.URL(settings.supabase_url or "").host
        self._retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=_patience,
            retry=_may_repeat,
            before_sleep=_note_repeat,
            sleep=sleep,
            reraise=True,
        )

    def call(self, function: str, params: Mapping[str, object]) -> Json:
        """As `Gateway.call`; up to four attempts where a later one may succeed."""
        parameter_types(function, params)
        body = {name: _as_json(value, f"{function}({name})") for name, value in params.items()}
        try:
            return self._retrying(self._call_once, function, body)
        except PassingFailure as passing:
            unavailable = DatabaseUnavailable(
                f"{self._host} did not carry out {function}: {passing.reason}.", next_step=_UNREACHABLE_STEP
            )
            unavailable.sent = passing.sent
            raise unavailable from passing.__cause__

    def close(self) -> None:
        """Close the connections. Safe to call twice."""
        self._http.close()

    def _call_once(self, function: str, body: dict[str, Json]) -> Json:
        try:
            result = self._client.rpc(function, cast("dict[str, object]", body)).execute().data
        except httpx.RequestError as error:
            unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            raise PassingFailure(f"{type(error).__name__}: {error}", sent=not unsent) from error
        except NoResult as refused:
            raise error_of(refused.response, function) from None
        if isinstance(result, str):  # supabase-py's reading of JSON that was cut short; ours are never plain text
            raise PassingFailure("an answer that was cut short")
        return cast("Json", result)


def project_address(settings: Settings) -> str:
    """SUPABASE_URL as it is used; nothing in it is a secret. Raises ConfigError as `get_supabase_service_client`."""
    return _credentials(settings)[0]


def _credentials(settings: Settings) -> tuple[str, str]:
    key = settings.supabase_service_role_key.get_secret_value().strip() if settings.supabase_service_role_key else ""
    url = (settings.supabase_url or "").strip().rstrip("/").removesuffix("/rest/v1")
    if not url or not key:
        raise ConfigError(
            "The Supabase gateway needs both SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY.",
            next_step=f"Set {'SUPABASE_SERVICE_ROLE_KEY' if url else 'SUPABASE_URL'}, or DATABASE_URL instead.",
        )
    if not _is_web_address(url):
        raise ConfigError(
            "SUPABASE_URL is no web address of a project.",  # it is not repeated: a key may have been put there
            next_step="It looks like https://PROJECT.supabase.co, without user or password.",
        )
    if not (key.isascii() and key.isprintable()):  # it could not be sent in a header
        raise WrongKey("SUPABASE_SERVICE_ROLE_KEY holds characters that no key has.", next_step=KEY_STEP)
    return url, key


def _is_web_address(url: str) -> bool:
    try:
        httpx.URL(url)
        parsed = urlsplit(url)
        return parsed.scheme in ("http", "https") and bool(parsed.hostname) and parsed.port != 0 and not parsed.username
    except (httpx.InvalidURL, ValueError):
        return False


def _may_repeat(state: RetryCallState) -> bool:
    failure = state.outcome.exception() if state.outcome else None
    return isinstance(failure, PassingFailure) and not (failure.sent and state.args[0] in NOT_REPEATABLE)


def _patience(state: RetryCallState) -> float:
    """Seconds to wait: a time that doubles, with jitter, and no less than the server asked for.

    PostgREST asks for 0 while it reconnects; four calls at once would all come too early.
    """
    passing = state.outcome.exception() if state.outcome else None
    longest = FIRST_WAIT_SECONDS * 2.0 ** (state.attempt_number - 1)
    asked = (passing.wait_seconds or 0.0) if isinstance(passing, PassingFailure) else 0.0
    return max(random.uniform(longest / 2, longest), min(asked, LONGEST_WAIT_SECONDS))  # noqa: S311 - not cryptography


def _note_repeat(state: RetryCallState) -> None:
    passing = state.outcome.exception() if state.outcome else None
    log.warning(
        "supabase_call_repeated",
        function=state.args[0],
        attempt=state.attempt_number,
        reason=passing.reason if isinstance(passing, PassingFailure) else "",
    )


def _as_json(value: object, path: str) -> Json:
    """``value`` as plain JSON; days and instants as ISO 8601, UUIDs as text.

    Raises
    ------
    QueryRefused : a number that JSON does not have, or a type that is none of ours; the message says where
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float() if math.isfinite(value):
            return value
        case date() | UUID():
            return value.isoformat() if isinstance(value, date) else str(value)
        case Mapping():
            return {str(key): _as_json(item, f"{path}.{key}") for key, item in value.items()}
        case list() | tuple():
            return [_as_json(item, f"{path}[{index}]") for index, item in enumerate(value)]
    what = f"{value} is no JSON number" if isinstance(value, float) else f"{type(value).__name__} is no JSON type"
    raise QueryRefused(f"{path} cannot be sent: {what}.", next_step="This is a defect of tenantcast: please report it.")
