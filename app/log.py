"""Structured logs on standard error: JSON for machines, `console` for people; never a secret.

Events carry run, tenant, stage and duration as fields. Standard-library loggers go the same way. Every string passes
the redaction, which knows our secrets by value and the usual ones by shape.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import structlog
from pydantic import SecretStr

from app.config.settings import Settings

HIDDEN = "[hidden]"
MIN_SECRET = 6  # characters: hiding a shorter value would hide ordinary words
QUIET = ("cmdstanpy", "prophet", "httpx", "httpcore", "hpack", "urllib3", "asyncio", "psycopg.pool", "matplotlib")
PATTERNS = (
    re.compile(r"(?<=://)[^/\s:@\"']*:[^@\s\"']+(?=@)"),  # user:password@ of any address
    re.compile(r"\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*"),  # a JSON web token
    re.compile(r"\bsb_secret_[\w-]+"),  # a Supabase secret key
    re.compile(r"(?i)(?<=bearer )[\w.~+/=-]{8,}"),
    re.compile(r"(?i)(?<=password[=:])\s*[^\s,;\"'}]+"),
    re.compile(r"(?i)(?<=apikey[=:])\s*[^\s,;\"'}]+"),
    re.compile(r"(?i)(?<=secret[=:])\s*[^\s,;\"'}]+"),
)
SECRET_NAMES = re.compile(r"(?i)password|passwd|secret|api_?key|service_role|token|authorization|artifact_keys")

Processor = Callable[[Any, str, Any], Any]


class Redactor:
    """A structlog processor that hides secrets in keys, values and everything nested in them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted({s for s in secrets if len(s) >= MIN_SECRET}, key=len, reverse=True)

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
        return cast("dict[str, Any]", self.clean(dict(event)))

    def clean(self, value: Any) -> Any:
        """``value`` without secrets; objects other than JSON's are shown as text, then cleaned."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            return {self.text(str(key)): self._named(str(key), item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.clean(item) for item in value]
        return self.text(value if isinstance(value, str) else str(value))

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        for pattern in PATTERNS:
            text = pattern.sub(HIDDEN, text)
        return text

    def _named(self, key: str, value: Any) -> Any:
        return HIDDEN if SECRET_NAMES.search(key) and value is not None else self.clean(value)


def configure_logging(settings: Settings) -> None:
    """Send all logs of this process to standard error, as `LOG_LEVEL` and `LOG_FORMAT` say. May be called again."""
    redactor = Redactor(secrets_of(settings))
    level = logging.getLevelNamesMapping()[settings.log_level]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.PositionalArgumentsFormatter()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redactor, _renderer(settings)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
        logging.getLogger(name).handlers.clear()


def secrets_of(settings: Settings) -> list[str]:
    """The secret values of the settings, and the password inside a database address in both spellings."""
    values = [value.get_secret_value() for _, value in settings if isinstance(value, SecretStr)]
    found = list(values)
    for value in values:
        found += [part.partition(":")[2].strip() for part in value.split(",")]  # "id:key,id:key"
        password = _password_of(value)
        found += [password, unquote(password)]
    return found


def _password_of(address: str) -> str:
    try:
        return urlsplit(address).password or ""
    except ValueError:
        return ""


def _renderer(settings: Settings) -> Processor:
    if settings.log_format == "console":
        return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return structlog.processors.JSONRenderer(sort_keys=True)
