"""The Protocol that every way to the database fulfils: call a named SQL function, get one JSON value."""

from collections.abc import Mapping
from typing import Protocol

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class Gateway(Protocol):
    """One way to the database. Nothing outside `app.db` knows which one runs."""

    name: str

    def call(self, function: str, params: Mapping[str, object]) -> Json:
        """Call ``public.<function>`` with named parameters in a transaction of its own; return its one JSON value.

        Parameters are JSON values, dates or UUIDs. A lost answer may be retried by the gateway only where the caller
        of the function can bear it: every function is idempotent under its fence or its key.

        Raises
        ------
        DatabaseUnavailable, WrongKey, NotInstalled, QueryRefused
        """
        ...

    def close(self) -> None:
        """Give connections back. Safe to call twice."""
        ...
