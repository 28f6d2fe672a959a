"""What the process that computes wants to know of its candidates, and what it knows of them from earlier attempts."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Lookout:
    """Told around everything that one candidate computes; the default listens to nothing and knows of nothing."""

    computing: Callable[[str], AbstractContextManager[object]] = nullcontext  # called with the candidate's name
    # Candidates that hung in an earlier attempt at the same item: name -> seconds, at least, until their worker was
    # lost. They are left out.
    hung: Mapping[str, int] = field(default_factory=dict)

    def objection(self, name: str) -> str:
        """Why the candidate is not to be computed, in English; empty when it may be."""
        if name not in self.hung:
            return ""
        return f"{name} hung: the worker before was lost after {self.hung[name]} s or more of it."


NO_LOOKOUT = Lookout()
