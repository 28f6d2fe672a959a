"""What has to be forecast: every method's series and origins, and the key that each result is filed under."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from app.services.ml.series import SEASON
from benchmarks.data import digest, origins, sample
from benchmarks.methods import Known, Method
from benchmarks.store import Key, machine


@dataclass(frozen=True)
class Span:
    """How far and how often every series is forecast."""

    horizon: int
    windows: int


@dataclass(frozen=True, eq=False)
class Wanted:
    """One forecast of the plan; ``window`` is 1 for the newest, and one more for each further back."""

    known: Known
    window: int
    key: Key


def plan(method: Method, series: Sequence[Known], span: Span) -> list[Wanted]:
    """Everything that ``method`` has to forecast, series by series, oldest window first."""
    chosen = series if method.share == 1 else sample(series, max(1, round(method.share * len(series))))
    shown = [
        (_shown(method, one, known), (len(one.series) - known) // span.horizon)
        for one in chosen
        for known in origins(len(one.series), span.horizon, span.windows, SEASON)
    ]
    settings, version, kind = json.dumps(dict(method.settings), sort_keys=True), method.version(), machine()
    together = _batch_digests(shown) if method.together else {}
    found = []
    for known, window in shown:
        data = together[window] if method.together else digest([known])
        name, n_days = known.unique_id, len(known.series)
        found.append(Wanted(known, window, Key(method.name, name, n_days, span.horizon, data, version, settings, kind)))
    return found


def _shown(method: Method, one: Known, known: int) -> Known:
    """The first ``known`` days, and the country only for a method that is told it."""
    return Known(one.unique_id, one.series.head(known), one.country if method.countries else "")


def _batch_digests(shown: Sequence[tuple[Known, int]]) -> dict[int, str]:
    """Of a method that learns from all series at once: the hash of all that it is shown, by window."""
    batches: dict[int, list[Known]] = {}
    for known, window in shown:
        batches.setdefault(window, []).append(known)
    return {window: digest(batch) for window, batch in batches.items()}
