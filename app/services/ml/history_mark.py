"""What candidates were compared on, in a few numbers: is the history that is known now still the same?"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np

from app.services.ml.calendar import Calendar
from app.services.ml.series import DailySeries, FloatArray

BLOCK_DAYS = 28
CHANGED_SHARE = 0.1  # of the sales: a late refund changes less, an import of other years more
GROWN_SHARE = 0.1  # of its days: a young shop has other candidates, and more to learn, every week


@dataclass(frozen=True, eq=False)
class HistoryMark:
    """Sums of absolute sales in blocks of 28 days back from ``end``, the newest first, and the days announced by then.

    ``known_days`` is a digest of closures, promotions and events up to ``end``.
    """

    start: date
    end: date
    blocks: FloatArray  # shape (n_blocks,); days before the oldest whole block are in none
    known_days: str

    @classmethod
    def of(cls, series: DailySeries, calendar: Calendar, end: date | None = None) -> "HistoryMark":
        """The mark of a history as far as it goes up to ``end`` (default: all of it)."""
        end = end or series.end
        y = np.abs(series.y[: max((end - series.start).days + 1, 0)])
        n_blocks = y.size // BLOCK_DAYS
        blocks = y[y.size - n_blocks * BLOCK_DAYS :].reshape(n_blocks, BLOCK_DAYS).sum(axis=1)[::-1]
        days = sorted(f"{known.day} {known.kind} {known.name}" for known in calendar.known_days if known.day <= end)
        return cls(series.start, end, blocks, hashlib.sha256("\n".join(days).encode()).hexdigest()[:16])

    def change(self, series: DailySeries, calendar: Calendar) -> str:
        """What has become of the history since, in words; "" when it is what it was, and some newer days."""
        now = HistoryMark.of(series, calendar, self.end)
        if now.start < self.start - timedelta(days=BLOCK_DAYS):
            return "The history reaches further back than when the candidates were compared."
        if now.known_days != self.known_days:
            return "Closures, promotions or events of past days have changed since the candidates were compared."
        n_blocks = min(now.blocks.size, self.blocks.size)
        total = float(self.blocks[:n_blocks].sum())
        if float(np.abs(now.blocks[:n_blocks] - self.blocks[:n_blocks]).sum()) > CHANGED_SHARE * total:
            return "The sales of past days are others than when the candidates were compared."
        if (series.end - self.end).days > GROWN_SHARE * ((self.end - self.start).days + 1):
            return "The history has grown by a tenth since the candidates were compared."
        return ""

    def to_state(self) -> dict[str, Any]:
        """Plain numbers, strings and arrays."""
        return {
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "blocks": self.blocks,
            "known_days": self.known_days,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "HistoryMark":
        """Back from `to_state`; KeyError, TypeError or ValueError when it is something else."""
        blocks = np.asarray(state["blocks"], dtype=np.float64)
        if blocks.ndim != 1 or not np.isfinite(blocks).all():
            raise ValueError("blocks are no finite vector")
        return cls(
            date.fromisoformat(state["start"]), date.fromisoformat(state["end"]), blocks, str(state["known_days"])
        )
