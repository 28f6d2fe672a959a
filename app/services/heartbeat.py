"""A file that a process touches while it is well, for probes: its age tells whether the process makes progress."""

import time
from pathlib import Path

FRESH_SECONDS = 60.0


def heartbeat_file(home: Path, name: str) -> Path:
    """Where the process of this name touches: ``<home>/heartbeat-<name>``."""
    return home / f"heartbeat-{name}"


def beat(file: Path) -> None:
    """Touch it. A file system that is full or read-only shows as a heartbeat that stops."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def heartbeat_age(file: Path) -> float | None:
    """Seconds since the last beat, 0 or more; None before the first."""
    try:
        return max(0.0, time.time() - file.stat().st_mtime)
    except FileNotFoundError:
        return None


def is_fresh(file: Path) -> bool:
    """Whether the process is well."""
    age = heartbeat_age(file)
    return age is not None and age < FRESH_SECONDS
