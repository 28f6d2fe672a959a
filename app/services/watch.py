"""A run as it goes: how many tenants have ended, how fast, and how long the rest will take."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypedDict
from uuid import UUID

from app.db.gateway import Gateway
from app.db.store import Row, SystemStore
from app.errors import Transient, UnknownRun
from app.services.drain import Patience

ENDED = ("done", "failed", "skipped")
WINDOW_SECONDS = 120.0  # the rate is that of the last two minutes


class Progress(TypedDict):
    """One look at a run; numbers of tenants."""

    run_id: str
    kind: str
    total: int
    done: int
    failed: int
    skipped: int
    running: int
    pending: int
    per_minute: float | None  # tenants that end; None until some have ended while we looked
    seconds_left: float | None  # None when nobody can say
    unchanged_seconds: float  # since a number last changed
    finished: bool


class Rate:
    """Tenants per second over the last `WINDOW_SECONDS`."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, at: float, ended: int) -> float | None:
        """The rate after a look at ``at`` seconds that found ``ended`` tenants; None while none has ended since."""
        if self._seen and ended < self._seen[-1][1]:
            self._seen.clear()  # items that had ended are tried again
        self._seen.append((at, ended))
        while len(self._seen) > 2 and self._seen[1][0] <= at - WINDOW_SECONDS:  # noqa: PLR2004 - both ends of a window
            self._seen.popleft()
        since, before = self._seen[0]
        return (ended - before) / (at - since) if ended > before and at > since else None


def watch(
    gateway: Gateway,
    run_id: UUID | None,
    *,
    period: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Progress]:
    """Look at a run (None: the newest) every ``period`` seconds until it has ended; the last look says so.

    Raises
    ------
    UnknownRun : there is no such run, or nothing was run yet
    DatabaseUnavailable : the database stays away for longer than about a minute
    """
    rate, patience = Rate(), Patience()
    last: tuple[dict[str, int], float] | None = None
    while True:
        try:
            run = read_run(gateway, run_id)
        except Transient as error:
            patience.bear(error)
            continue
        patience.renew()
        run_id, now = UUID(run["run_id"]), clock()
        counts = {state: int((run["counts"] or {}).get(state, 0)) for state in (*ENDED, "running", "pending")}
        if last is None or last[0] != counts:
            last = counts, now
        look = _progress(run, counts, rate.see(now, sum(counts[state] for state in ENDED)), now - last[1])
        yield look
        if look["finished"]:
            return
        sleep(period)


def read_run(gateway: Gateway, run_id: UUID | None) -> Row:
    """A run without its items. Raises UnknownRun when there is none."""
    run = SystemStore(gateway).read_run(run_id)
    if run is None:
        raise UnknownRun(
            f"There is no run {run_id}." if run_id else "Nothing was run yet.",
            next_step="`tenantcast runs list` shows what there is; `tenantcast retrain` starts one.",
        )
    return run


def _progress(run: Row, counts: dict[str, int], per_second: float | None, unchanged: float) -> Progress:
    open_items = counts["running"] + counts["pending"]
    return Progress(
        run_id=run["run_id"],
        kind=run["kind"],
        total=sum(counts.values()),
        done=counts["done"],
        failed=counts["failed"],
        skipped=counts["skipped"],
        running=counts["running"],
        pending=counts["pending"],
        per_minute=None if per_second is None else round(per_second * 60, 2),
        seconds_left=0.0 if open_items == 0 else None if per_second is None else round(open_items / per_second, 1),
        unchanged_seconds=round(unchanged, 1),
        finished=open_items == 0,
    )
