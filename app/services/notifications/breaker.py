"""Circuit breakers: a destination that keeps failing is left alone for a while, then tried once.

They belong to one process; each process learns by itself, after a few failures, what the others learned.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

FAILURES_TO_OPEN = 5  # in a row
FIRST_REST_SECONDS = 60.0
LONGEST_REST_SECONDS = 900.0


@dataclass
class _Circuit:
    failures: int = 0
    rests: int = 0
    closed_again_at: float = 0.0


@dataclass
class Breakers:
    """One circuit per destination. ``clock`` gives seconds that never go back."""

    clock: Callable[[], float] = time.monotonic
    _circuits: dict[str, _Circuit] = field(default_factory=dict)

    def rest_seconds(self, destination: str) -> float:
        """How long to leave the destination alone; 0 when it may be tried."""
        circuit = self._circuits.get(destination)
        return max(0.0, circuit.closed_again_at - self.clock()) if circuit else 0.0

    def succeeded(self, destination: str) -> None:
        self._circuits.pop(destination, None)

    def failed(self, destination: str) -> None:
        """After five failures in a row each further one opens the circuit for twice as long, at most 15 minutes."""
        circuit = self._circuits.setdefault(destination, _Circuit())
        circuit.failures += 1
        if circuit.failures < FAILURES_TO_OPEN:
            return
        rest = min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2.0 ** min(circuit.rests, 10))
        circuit.rests += 1
        circuit.closed_again_at = self.clock() + rest
