"""Tells a worker that is idle from one that no longer hears its queues.

After a reconnect, or behind a network that swallows packets, a worker can look well (its loop runs, its database
answers) and never receive a message again. It shows in one way only: its queues hold messages, it has nothing to do,
and it takes none.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

LIMIT_SECONDS = 60.0


@dataclass(frozen=True)
class Look:
    """What one look at a worker and its queues has shown."""

    at_work: int  # messages that it has received and not finished
    taken: int  # tasks that it has begun since its start
    waiting: int | None  # messages in its queues; None when the broker did not say


class Watchdog:
    """Says for how long a worker has let messages lie although it had nothing to do."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deaf_since: float | None = None
        self._taken = 0

    def deaf_for(self, look: Look) -> float:
        """Seconds; 0 while it is at work, takes tasks, has none to take, or while nobody knows."""
        idle = look.at_work == 0 and look.taken == self._taken and bool(look.waiting)
        self._taken = look.taken
        if not idle:
            self._deaf_since = None
            return 0.0
        now = self._clock()
        if self._deaf_since is None:
            self._deaf_since = now
        return now - self._deaf_since
