"""Fail-points that fire once: a process dies at a named point of one tenant's work where a ticket lies for it.

The ticket is taken away first, so whoever comes by next passes: every tenant of a run can be hit exactly once.
"""

import contextlib
import os
from pathlib import Path

VARIABLE = "CHAOS_TICKETS"


def write_ticket(directory: Path, point: str, tenant: str) -> None:
    (directory / f"{point}.{tenant}").touch()


def has_ticket(point: str, tenant: object) -> bool:
    directory = os.environ.get(VARIABLE)
    return bool(directory) and Path(directory or "", f"{point}.{tenant}").exists()


def take_ticket(point: str, tenant: object) -> bool:
    """Whether a ticket lay there and is now ours; of several processes exactly one gets it."""
    directory = os.environ.get(VARIABLE)
    if directory:
        with contextlib.suppress(FileNotFoundError):
            Path(directory, f"{point}.{tenant}").unlink()
            return True
    return False
