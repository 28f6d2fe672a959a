"""What an answer of PostgREST, or of something in front of it, means: a result, a failure that passes, or an error."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from app.errors import ConfigError, DatabaseUnavailable, NotInstalled, QueryRefused, TenantcastError, WrongKey

# Codes of PostgreSQL (five characters) and of PostgREST, by their beginnings.
_UNDONE = ("53", "40001", "40P01", "55P03", "PGRST000", "PGRST001", "PGRST002", "PGRST003")  # certainly not carried out
_PASSING = ("08", "57P", *_UNDONE)
_CANCELLED = "57014"
_KEY_REFUSED = ("28", "42501", "PGRST300", "PGRST301", "PGRST302", "PGRST303")
_ABSENT = ("42883", "42P01", "3F000", "PGRST106", "PGRST202", "PGRST203", "PGRST205")
_QUOTABLE = ("TC", "23")  # messages of our own functions, and of constraints; those of other classes quote values

KEY_STEP = "Set SUPABASE_SERVICE_ROLE_KEY to the project's service role (secret) key, not the anon (publishable) one."
_INSTALL_STEP = "Run `supabase db push` with our supabase/migrations; after that PostgREST finds them by itself."


@dataclass(eq=False)
class PassingFailure(Exception):
    """An attempt that failed where another may not.

    ``sent`` says that the call may have been carried out all the same; ``wait_seconds`` is what the server asked for.
    """

    reason: str
    sent: bool = True
    wait_seconds: float | None = None


@dataclass(eq=False)
class NoResult(Exception):
    """An answer that is no function's result."""

    response: httpx.Response


def refuse_what_is_no_result(response: httpx.Response) -> None:
    """A success that says it is JSON and holds something passes; everything else is raised as `NoResult`."""
    response.read()
    is_json = response.headers.get("content-type", "").partition(";")[0].strip() == "application/json"
    if not (response.status_code == httpx.codes.OK and is_json and response.content):
        raise NoResult(response)


def error_of(response: httpx.Response, function: str) -> TenantcastError | PassingFailure:
    """What an answer means that is no result: by its code where it has one, else by its HTTP status."""
    code, message = _code_and_message(response)
    host, status = response.url.host, response.status_code
    if code.startswith(_KEY_REFUSED) or (not code and status in (401, 403)):
        return WrongKey(f"{host} refused our key for {function} ({code or f'HTTP {status}'}).", next_step=KEY_STEP)
    if code.startswith(_ABSENT):
        return NotInstalled(f"The database behind {host} lacks {function} ({code}).", next_step=_INSTALL_STEP)
    if code == _CANCELLED:  # it would take as long again
        return DatabaseUnavailable(
            f"{function} took longer than the database allows ({code}).",
            next_step="Raise the statement_timeout of service_role, or set DATABASE_URL.",
        )
    if not code and (response.is_redirect or status == httpx.codes.NOT_FOUND):
        return ConfigError(f"{host} is no Supabase project (HTTP {status}).", next_step="Check SUPABASE_URL.")
    broken = response.is_server_error and (not code or code.startswith("PGRST"))
    if response.is_success or broken or code.startswith(_PASSING) or status == httpx.codes.TOO_MANY_REQUESTS:
        return _passing(response, code)
    quoted = f": {message[:300]}" if code.startswith(_QUOTABLE) else ""
    return QueryRefused(
        f"{function} was refused with {code or f'HTTP {status}'}{quoted}.",
        next_step="Run `tenantcast doctor`; if it finds nothing, report this.",
    )


def _passing(response: httpx.Response, code: str) -> PassingFailure:
    if response.is_success:
        return PassingFailure("it answered with something that is not JSON" if response.content else "an empty answer")
    sent = not (code.startswith(_UNDONE) or response.status_code == httpx.codes.TOO_MANY_REQUESTS)
    return PassingFailure(f"it answered {code or f'HTTP {response.status_code}'}", sent, _retry_after(response))


def _code_and_message(response: httpx.Response) -> tuple[str, str]:
    """The error's code and primary message; empty where the body is not PostgREST's. Its details hold values."""
    try:
        error = json.loads(response.content)
    except ValueError:
        return "", ""
    if response.is_success or not isinstance(error, dict):
        return "", ""
    return str(error.get("code") or ""), str(error.get("message") or "")


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the server asks us to wait; None when it does not say."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (until - datetime.now(UTC)).total_seconds()) if until.tzinfo else None
