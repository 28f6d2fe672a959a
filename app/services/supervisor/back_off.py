"""How long to wait before a process that died is started again."""

from dataclasses import dataclass


@dataclass
class BackOff:
    """The first restart is at once; each further one waits twice as long, until the process has lasted.

    All in seconds. A process that lived for ``lasting`` counts as well, and its next death starts from the beginning.
    """

    first: float = 1.0
    most: float = 60.0
    lasting: float = 60.0
    _deaths: int = 0

    def after(self, lived: float) -> float:
        """The pause before the next start of a process that lived so long."""
        if lived >= self.lasting:
            self._deaths = 0
        self._deaths += 1
        if self._deaths == 1:
            return 0.0
        return float(min(self.most, self.first * 2.0 ** min(self._deaths - 2, 32)))
