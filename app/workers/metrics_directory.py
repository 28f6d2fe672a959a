"""The directory that the processes of one worker share their metrics in, and those that killed workers have left.

A worker holds a lock in its directory for as long as one of its processes lives; the system gives it up when the last
one ends, however it ends. What is not locked, its worker has left.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import structlog

PREFIX = "tenantcast-metrics-"
LOCK = "lock"

_log = structlog.get_logger()


class MetricsDirectory:
    """A new, empty directory that is this worker's own. Make it before the pool forks: its children hold it too."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """When the worker ends in order."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def remove_left_behind() -> int:
    """Remove the directories of workers of this user that were killed; how many there were."""
    removed = 0
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if _is_left_behind(directory):
            shutil.rmtree(directory, ignore_errors=True)
            removed += not directory.exists()
    if removed:
        _log.info("metrics_of_killed_workers_removed", directories=removed)
    return removed


def _is_left_behind(directory: Path) -> bool:
    """Whether it is a directory of ours whose worker lives no more; one that is just being made has no lock yet."""
    try:
        if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
            return False
        lock = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(lock)
