"""The global model: one direct boosted model over the tenants that agreed, from scale-free rows only.

Where it is asked for and PyTorch is there, a network learns beside the trees (see `neural_training`).

Tenants are added one at a time; of each only a sample of its rows is kept, shares of its own level without a name or
an amount (see `direct_rows`). How many rows are kept in all is bounded, whatever the number of tenants.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from uuid import UUID

import numpy as np

from app.errors import NoGlobalModel
from app.services.ml.calendar import Calendar
from app.services.ml.candidates.direct_rows import FIRST_ORIGIN, Rows, Table
from app.services.ml.candidates.global_levels import NAME, GlobalFit, GlobalModel
from app.services.ml.candidates.levels import FARTHEST
from app.services.ml.candidates.network import Network
from app.services.ml.candidates.trees import Float32Array, Trees
from app.services.ml.candidates.windows import Windows
from app.services.ml.lessons import LessonBook
from app.services.ml.neural_training import Device, train_network
from app.services.ml.series import SEASON, DailySeries

N_TREES = 300
PARAMETERS = {
    "objective": "reg:absoluteerror",
    "grow_policy": "lossguide",
    "max_depth": 0,
    "max_leaves": 63,
    "min_child_weight": 20,
    "eta": 0.05,
    "colsample_bytree": 0.4,
    "max_bin": 63,
}
LEAST_TENANTS = 5  # with two, each could take its own part out and be left with the other's
MOST_TENANTS = 2_000  # read at most, chosen by a digest of their ids
MOST_ROWS = 200_000  # per fit in all
ROWS_PER_TENANT = (100, 500)  # at least and at most: three times as many gave nothing on the development data
LEAST_HISTORY = FIRST_ORIGIN + SEASON
SEED = 20240101


def chosen_tenants(tenant_ids: Sequence[UUID]) -> list[UUID]:
    """At most `MOST_TENANTS` of them, always the same ones, by id."""
    by_digest = sorted(tenant_ids, key=lambda tenant_id: hashlib.sha256(tenant_id.bytes).digest())
    return sorted(by_digest[:MOST_TENANTS])


@dataclass(eq=False)
class _Gathered:
    """Rows for the fit of one day, and windows for its network."""

    book: LessonBook
    values: list[Float32Array] = field(default_factory=list)
    distances: list[Float32Array] = field(default_factory=list)


class Gatherer:
    """Collects rows of many tenants, one after another, for a fit at each of ``days``.

    ``n_tenants`` is how many will be added at most: it decides the share of each. ``device`` is what a network is
    trained on; None: there will be none.
    """

    def __init__(self, days: Sequence[date], n_tenants: int, device: Device | None = None) -> None:
        fewest, most = ROWS_PER_TENANT
        self._share = min(max(MOST_ROWS // max(n_tenants, 1), fewest), most)
        self._gathered = {day: _Gathered(LessonBook(n_tenants)) for day in sorted(set(days))}
        self._device = device
        self._features: tuple[str, ...] = ()
        self.n_tenants = 0  # of which there are rows
        self.n_rows = 0  # in all fits

    def add(self, series: DailySeries, calendar: Calendar) -> None:
        """Keep a sample of the tenant's rows. For the fit of a day, the days after it do not exist."""
        seen = replace(calendar, closed_weekdays=frozenset())
        used = False
        for day, gathered in self._gathered.items():
            n_days = min((day - series.start).days + 1, len(series))
            if n_days < LEAST_HISTORY:
                continue
            known = series.head(n_days)
            with np.errstate(all="ignore"):
                every = Table.of(known, seen).training()
                rows = _sample(every, self._share)
                if self._device:
                    gathered.book.add(Windows.of(every, known, seen), n_days)
            distance = np.clip(rows.target - rows.base, -FARTHEST, FARTHEST)
            sound = np.isfinite(distance)
            gathered.values.append(rows.values[sound].astype(np.float32))
            gathered.distances.append(distance[sound].astype(np.float32))
            self._features, self.n_rows, used = rows.names, self.n_rows + int(sound.sum()), True
        self.n_tenants += used

    def train(self) -> GlobalModel:
        """The model. The rows are given up fit by fit. A device is one that `device_for` gave.

        Raises
        ------
        NoGlobalModel : fewer tenants than `LEAST_TENANTS` have enough days
        CandidateFailed, CandidateUnavailable : the library cannot fit, or is absent
        """
        ready = [day for day, gathered in self._gathered.items() if len(gathered.values) >= LEAST_TENANTS]
        if not ready:
            raise NoGlobalModel(
                f"{self.n_tenants} of the tenants that agreed have enough sales; a global model needs {LEAST_TENANTS}.",
                next_step="Nothing to do: tenants are forecast from their own sales.",
            )
        fits = []
        for day in ready:
            gathered = self._gathered.pop(day)
            values, distances = np.concatenate(gathered.values), np.concatenate(gathered.distances)
            gathered.values.clear()  # the fit takes memory enough
            trees = Trees.fit(values, distances, PARAMETERS, N_TREES, NAME)
            fits.append(GlobalFit(day, trees, self._network(gathered.book)))
        return GlobalModel(tuple(fits), self._features)

    def _network(self, book: LessonBook) -> Network | None:
        """None when nobody asked for it, or all tenants are too young to hold days out."""
        lessons = book.lessons()
        return train_network(*lessons, self._device) if self._device and lessons else None


def _sample(rows: Rows, most: int) -> Rows:
    """At most so many rows, in their order; the same ones for the same number of rows, whoever the tenant is."""
    n_rows = rows.target.size
    if n_rows <= most:
        return rows
    kept = np.zeros(n_rows, dtype=bool)
    kept[np.random.default_rng(SEED).permutation(n_rows)[:most]] = True
    return rows.where(kept)
