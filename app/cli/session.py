"""One invocation: the global options, the settings they complete, the database, and the tenant that was named."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.cli.output import waiting

if TYPE_CHECKING:
    from app.config.ml_settings import MLSettings
    from app.config.settings import Settings
    from app.db.gateway import Gateway

TenantArgument = Annotated[
    str, typer.Argument(metavar="TENANT", help="The tenant's id or its name.", show_default=False)
]

LogFormat = Literal["json", "console"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


@dataclass
class Session:
    """What the options before the command say; settings are read when a command first needs them."""

    log_format: LogFormat | None = None
    log_level: LogLevel | None = None

    @cached_property
    def settings(self) -> "Settings":
        """The settings, with the logging that they and the options ask for switched on."""
        from app.config.settings import Settings
        from app.log import configure_logging

        settings = Settings()
        settings = settings.model_copy(update=self._logging(settings.model_fields_set))
        configure_logging(settings)
        return settings

    @cached_property
    def ml_settings(self) -> "MLSettings":
        """What decides a forecast, from the environment; the candidates that it names exist."""
        from app.config.ml_settings import MLSettings, require_known_candidates
        from app.services.ml.candidates import candidate_names

        _ = self.settings  # logging first
        settings = MLSettings()
        require_known_candidates(settings, candidate_names())
        return settings

    def _logging(self, given: set[str]) -> dict[str, Any]:
        """Options win over the environment; a person at a terminal who chose nothing sees warnings as text."""
        person = sys.stderr.isatty()
        chosen: dict[str, Any] = {}
        if self.log_format or (person and "log_format" not in given):
            chosen["log_format"] = self.log_format or "console"
        if self.log_level or (person and "log_level" not in given):
            chosen["log_level"] = self.log_level or "WARNING"
        return chosen


def session_of(ctx: typer.Context) -> Session:
    """The session that the root callback made."""
    session = ctx.find_root().obj
    assert isinstance(session, Session)  # noqa: S101 - the root callback always runs first
    return session


@contextmanager
def open_database(ctx: typer.Context) -> Iterator["Gateway"]:
    """The gateway that the settings choose, closed at the end."""
    from app.db.connect import open_gateway

    with waiting("Opening the database …"):
        gateway = open_gateway(session_of(ctx).settings)
    try:
        yield gateway
    finally:
        gateway.close()
