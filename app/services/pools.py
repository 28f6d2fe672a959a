"""Which worker processes one machine runs, and on which queues: who rings must never wait behind a fit."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from app.errors import ConfigError
from app.services.heartbeat import heartbeat_file
from app.services.supervisor import ChildSpec

# Name of the pool -> its queues. Fits take all cores for minutes; the ledger's queue is worked off in milliseconds.
POOLS: Mapping[str, tuple[str, ...]] = {
    "ml": ("ml_processing",),
    "notices": ("notifications", "maintenance"),
    "control": ("control",),
}
ALL_QUEUES = tuple(queue for queues in POOLS.values() for queue in queues)
BEATS = ("beat-1", "beat-2")  # two, for the case that one is down: slots are claimed in the database


def parse_queues(text: str) -> tuple[str, ...]:
    """``ml_processing,control`` as a person writes it.

    Raises
    ------
    ConfigError : a queue that does not exist, or none
    """
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in ALL_QUEUES]
    if unknown or not names:
        raise ConfigError(
            f"There is no queue {', '.join(map(repr, unknown)) or text!r}.",
            next_step=f"Choose among {', '.join(ALL_QUEUES)}.",
        )
    return names


def pool_name(queues: tuple[str, ...]) -> str:
    """What a worker on these queues is called unless it is told: as its pool, or after its queues."""
    return next((name for name, own in POOLS.items() if own == queues), "-".join(queues))


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_specs(home: Path, concurrency: int, environment: Mapping[str, str]) -> list[ChildSpec]:
    """A worker per pool; ``concurrency`` is the number of tenants that are forecast at once."""
    return [
        _spec(home, name, environment, "worker", "--queues", ",".join(queues), "--concurrency",
              str(concurrency if name == "ml" else 1))
        for name, queues in POOLS.items()
    ]  # fmt: skip


def beat_specs(home: Path, environment: Mapping[str, str]) -> list[ChildSpec]:
    """Two beats."""
    return [_spec(home, name, environment, "beat") for name in BEATS]


def _spec(home: Path, name: str, environment: Mapping[str, str], *arguments: str) -> ChildSpec:
    # -P: a package `app` in the working directory, as many a product has one, must not hide ours.
    command = (sys.executable, "-P", "-m", "tenantcast", *arguments, "--name", name)
    return ChildSpec(name, command, environment, heartbeat_file(home.absolute(), name))
