"""What a network learns from: windows of many tenants, a bounded number of each, the newest weeks held out."""

from dataclasses import dataclass

import numpy as np

from app.services.ml.candidates.windows import Float32Array, Windows
from app.services.ml.series import SEASON, BoolArray

HELD_OUT = 8 * SEASON  # days at the end of every tenant: they say when to stop
MOST_WINDOWS = 8_000  # per fit in all, of about 8 kB each
WINDOWS_PER_TENANT = (4, 60)  # at least and at most
SEED = 20240101


@dataclass(frozen=True, eq=False)
class Lessons:
    """Windows of many tenants; arrays as in `Windows`."""

    weeks: Float32Array
    days: Float32Array
    target: Float32Array

    @classmethod
    def joined(cls, parts: "list[Lessons]") -> "Lessons":
        """One after another; there is at least one."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("weeks", "days", "target")))


class LessonBook:
    """Collects the windows for one network; ``n_tenants`` is how many will be added at most."""

    def __init__(self, n_tenants: int) -> None:
        fewest, most = WINDOWS_PER_TENANT
        self._share = min(max(MOST_WINDOWS // max(n_tenants, 1), fewest), most)
        self._known: list[Lessons] = []
        self._held_out: list[Lessons] = []

    def add(self, windows: Windows, n_days: int) -> None:
        """Keep some windows of a tenant with ``n_days`` of history.

        ::

            |------ known: origins, and their days ahead as far as here ------|---- held out: origins ----|
            0                                                      n_days - HELD_OUT                   n_days
        """
        first = n_days - HELD_OUT
        later = windows.origins[:, None] + np.arange(windows.target.shape[1]) >= first
        earlier = np.where(later, np.nan, windows.target).astype(np.float32)
        self._known += _some(windows, earlier, windows.origins < first, self._share)
        self._held_out += _some(windows, windows.target, windows.origins >= first, self._share)

    def lessons(self) -> tuple[Lessons, Lessons] | None:
        """What is known and what is held out; None when either is nothing. The book is empty afterwards."""
        known, held_out, self._known, self._held_out = self._known, self._held_out, [], []
        return (Lessons.joined(known), Lessons.joined(held_out)) if known and held_out else None


def _some(windows: Windows, target: Float32Array, wanted: BoolArray, most: int) -> list[Lessons]:
    """At most so many of the wanted windows with a target, in their order; the same ones for the same number."""
    at = np.flatnonzero(wanted & np.isfinite(target).any(axis=1))
    at = at[np.sort(np.random.default_rng(SEED).permutation(at.size)[:most])]
    return [Lessons(windows.weeks[at], windows.days[at], target[at])] if at.size else []
