"""Faults while work is going on: each strikes when enough of it is done, so that none comes after the end."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tests.chaos.faults import FAULTS, Scene, Strike
from tests.chaos.verdict import Verdict

LOOK_SECONDS = 0.15
STRIKES_UNTIL = 0.9  # the share of the work that is done when the last fault strikes
LONGEST_CALM = 12.0  # seconds: a storm that has stopped all work strikes again
STALLED_SECONDS = 150.0


class Work(Protocol):
    """Something that a fleet works on, for every tenant once."""

    def finished(self) -> int: ...  # tenants
    def held(self) -> set[tuple[str, int]]: ...  # what is being worked on: tenant and fence
    def is_over(self) -> bool: ...
    def judge(self) -> Verdict: ...


@dataclass
class Hit:
    """One fault that struck, and how long it took until nobody was held by it and the next tenant was finished."""

    strike: Strike
    victim: str
    at: float
    held: set[tuple[str, int]]
    finished: int
    recovered: float | None = None  # seconds


@dataclass
class Storm:
    """``strikes`` over a work of ``tenants``; `blow` returns when the work is over, or has stalled."""

    scene: Scene
    work: Work
    strikes: list[Strike]
    tenants: int
    tell: Callable[[str], None] = print
    hits: list[Hit] = field(default_factory=list)
    stalled: bool = False

    def blow(self) -> list[Hit]:
        """Strike until the plan is used up, look after the fleet, and wait for the end of the work."""
        waiting = list(self.strikes)
        last_news, last_finished, last_strike = time.monotonic(), -1, time.monotonic()
        while not self.work.is_over():
            self.scene.fleet.tend()
            self.scene.do_what_is_due()
            finished = self.work.finished()
            if finished != last_finished:
                last_news, last_finished = time.monotonic(), finished
            calm = time.monotonic() - last_strike
            if waiting and finished and (finished >= self._due(waiting[0]) or calm > LONGEST_CALM):
                self._strike(waiting.pop(0), finished)
                last_strike = last_news = time.monotonic()
            self._note_recoveries(finished)
            if time.monotonic() - last_news > STALLED_SECONDS:
                self.stalled = True
                break
            time.sleep(LOOK_SECONDS)
        self.scene.do_what_is_due(all_of_it=True)
        self._note_recoveries(self.tenants, over=not self.stalled)
        return self.hits

    def _due(self, strike: Strike) -> int:
        return math.floor(self.tenants * STRIKES_UNTIL * strike.number / (len(self.strikes) + 1))

    def _strike(self, strike: Strike, finished: int) -> None:
        held = self.work.held()
        victim = FAULTS[strike.kind](self.scene, strike)
        self.hits.append(Hit(strike, victim, time.monotonic(), held, finished))
        self.tell(f"fault {strike.number:4d}  {strike.kind:16s} {victim:28s} {finished:5d} of {self.tenants} done")

    def _note_recoveries(self, finished: int, *, over: bool = False) -> None:
        open_hits = [hit for hit in self.hits if hit.recovered is None]
        if not open_hits:
            return
        held = set() if over else self.work.held()
        for hit in open_hits:
            if over or (finished > hit.finished and not hit.held & held):
                hit.recovered = time.monotonic() - hit.at


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least ``share`` of all values do not exceed; nan without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan
