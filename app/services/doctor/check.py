"""One finding of `tenantcast doctor`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warn", "fail"]
SHOWN = 3  # examples that a finding names


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and what to do about it."""

    name: str
    status: Status
    detail: str
    next_step: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def some(things: Sequence[object]) -> str:
    """The first few of many, and how many more there are."""
    named = ", ".join(str(thing) for thing in things[:SHOWN])
    return f"{named} and {len(things) - SHOWN} more" if len(things) > SHOWN else named
