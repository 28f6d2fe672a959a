"""The ledger's verbs: start a run, ring for it, claim a tenant of it, keep the lease alive, publish, finish or fail.

Postgres holds the truth. A claim hands out a fence number and a lease on the database's clock; whoever has lost the
lease stops, and whatever it would write is refused by the fence.
"""

import math
import os
import random
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal
from uuid import UUID

import structlog

from app import __version__
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import Row, SystemStore, TenantStore
from app.errors import BellUnavailable, LeaseLost, TenantcastError, UnknownRun
from app.services.bell import Bell
from app.services.cache import bump_tenant
from app.tenancy import TenantId, parse_tenant_id

TRAINING = "global_model"  # the kind of a run that trains the global model, and forecasts nobody
RETRY_BASE_SECONDS = 10
RETRY_CAP_SECONDS = 600
BEATS_PER_LEASE = 3
# Of the hard limit of a task: a candidate that a worker was lost in after longer than this hung. A worker killed at
# random is as good as never so deep in one candidate, and the forecast must stay the one that it would have made.
HUNG_SHARE = 0.5

_log = structlog.get_logger()


@dataclass(frozen=True)
class Claim:
    """An item that is ours now, as number ``fence``, and what its run pins for every tenant."""

    fence: int
    attempt: int = 1
    force: bool = False  # compute again although nothing changed
    as_of: date | None = None  # the last day of sales to use
    reanchor: bool = False  # carry the active model forward instead of fitting one, where it can be
    # Candidates that earlier attempts hung in, and for how many seconds at least: this one leaves them out.
    hung: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class NotClaimed:
    """Someone else works on the tenant, it is not time yet, or there is nothing left to do."""

    outcome: Literal["busy", "later", "finished", "unknown"]
    retry_in_seconds: int
    state: str


def parse_run_id(text: object) -> UUID:
    """A run's id from a message or a command line.

    Raises
    ------
    UnknownRun : it is no id of a run
    """
    try:
        return text if isinstance(text, UUID) else UUID(str(text))
    except ValueError:
        raise UnknownRun(
            f"{str(text)[:40]!r} is no run id.", next_step="List the runs with `tenantcast runs list`."
        ) from None


def start_run(
    gateway: Gateway,
    kind: str,
    *,
    tenants: list[TenantId] | None,
    force: bool = False,
    as_of: date | None = None,
    reanchor: bool = False,
    ring: bool = True,
    slot: datetime | None = None,
    spread_seconds: int = 0,
    local_hour: int | None = None,
) -> UUID:
    """A new run over ``tenants`` (None: all active ones); what it pins for every tenant is in its parameters.

    Parameters
    ----------
    ring : workers are to be rung for it; False where the caller works it off, until two minutes of silence
    slot : one run per (kind, slot): for a slot that has one, that one's id is given
    spread_seconds : tenants begin spread over so many seconds
    local_hour : and not before this hour of their own day (0 to 23)
    """
    params: Row = {"force": force, "as_of": as_of.isoformat() if as_of else None}
    if reanchor:
        params["reanchor"] = True
    started = SystemStore(gateway).start_run(
        kind, params, __version__, tenants, slot, ring=ring, spread_seconds=spread_seconds, local_hour=local_hour
    )
    return UUID(started["run_id"])


def ring_next(gateway: Gateway, bell: Bell, run_id: UUID, settings: Settings) -> int:
    """End the run if nothing of it is open, and ring for whatever is due next in any run; how many rings went out.

    Raises what `Gateway.call` raises; a bell that does not ring is no error, because the reconciler rings again.
    """
    answer = SystemStore(gateway).next_items(run_id, settings.ml_reconcile_seconds, settings.ml_ring_window)
    return ring_all(bell, answer["ring"])


def ring_all(bell: Bell, rings: list[Row]) -> int:
    """Ring for items that the ledger has noted as rung; stops at the first that cannot be sent."""
    for number, ring in enumerate(rings):
        try:
            bell.ring(UUID(ring["run_id"]), parse_tenant_id(ring["tenant_id"]))
        except BellUnavailable as error:
            _log.warning("bell_unavailable", rung=number, wanted=len(rings), reason=error.message)
            return number
    return len(rings)


def cancel_run(gateway: Gateway, run_id: UUID) -> Row:
    """Skip every open item; what is being computed for one right now can no longer be written.

    Returns
    -------
    dict : ``cancelled``, the number of items, and ``counts`` per state

    Raises
    ------
    UnknownRun : there is no such run
    """
    return _known(run_id, SystemStore(gateway).cancel_run(run_id))


def retry_items(gateway: Gateway, bell: Bell, run_id: UUID, settings: Settings, tenants: list[TenantId] | None) -> Row:
    """Try failed items again as if for the first time (of ``tenants``, skipped ones too), and ring for them.

    Returns
    -------
    dict : ``retried``, the number of items, and ``counts`` per state

    Raises
    ------
    UnknownRun : there is no such run
    """
    answer = _known(run_id, SystemStore(gateway).retry_items(run_id, tenants))
    ring_next(gateway, bell, run_id, settings)
    return answer


def _known(run_id: UUID, answer: Row | None) -> Row:
    if answer is None:
        raise UnknownRun(f"There is no run {run_id}.", next_step="List the runs with `tenantcast runs list`.")
    return answer


def claim_item(
    store: TenantStore, run_id: UUID, lease_seconds: int, task_seconds: int | None = None
) -> Claim | NotClaimed:
    """Take one tenant of a run to work on; a dead worker's lease on it is ended first.

    Parameters
    ----------
    task_seconds : how long a task may take; None: no candidate of an earlier attempt is judged to have hung
    """
    answer = store.claim_item(run_id, lease_seconds)
    if answer["outcome"] == "claimed":
        params = answer.get("params") or {}
        as_of = date.fromisoformat(params["as_of"]) if params.get("as_of") else None
        force, reanchor = bool(params.get("force")), bool(params.get("reanchor"))
        hung = hung_candidates(answer.get("lost_in") or [], task_seconds)
        return Claim(int(answer["fence"]), int(answer["attempt"]), force, as_of, reanchor, hung)
    return NotClaimed(answer["outcome"], int(answer.get("retry_in_seconds") or 0), str(answer.get("state") or ""))


def hung_candidates(lost_in: Iterable[Row], task_seconds: int | None) -> dict[str, int]:
    """Of the candidates that workers were lost in those that hung, and for how many seconds at least.

    Parameters
    ----------
    lost_in : what the last heartbeat of each lost worker said, as {candidate, seconds}
    task_seconds : the hard limit of a task, which ends whatever hears no signal; None: nothing counts as hung
    """
    if task_seconds is None:
        return {}
    return {
        str(lost["candidate"]): int(lost["seconds"])
        for lost in lost_in
        if int(lost["seconds"]) > HUNG_SHARE * task_seconds
    }


def finish_run(gateway: Gateway, run_id: UUID) -> bool:
    """End the run if no item is open; take items back from workers whose lease ran out. True when it is over."""
    return bool(SystemStore(gateway).finish_run(run_id)["finished"])


def retry_delay(attempt: int) -> int:
    """Seconds until the next attempt: full jitter below 10 s, doubled with every attempt, at most 10 minutes."""
    ceiling = min(RETRY_CAP_SECONDS, RETRY_BASE_SECONDS * 2 ** (attempt - 1))
    return max(1, math.ceil(random.uniform(0, ceiling)))  # noqa: S311 - spreads load, guards nothing


class Item:
    """One claimed tenant of a run: its lease, and the only ways to write its outcome.

    Every method that writes raises LeaseLost when another worker owns the item; then nothing was written.
    ``settings`` say where the cache is that a publish outdates; None reads the environment, which takes milliseconds.
    """

    def __init__(
        self, store: TenantStore, run_id: UUID, claim: Claim, lease_seconds: int, settings: Settings | None = None
    ) -> None:
        self.store = store
        self.run_id = run_id
        self.fence = claim.fence
        self.attempt = claim.attempt
        self.reanchor = claim.reanchor
        self.hung = claim.hung
        self._lease_seconds = lease_seconds
        self._settings = settings
        self._stage = "claimed"
        self._computing: tuple[str, float] | None = None  # the candidate, and since when
        self._stop = threading.Event()
        self._lost = threading.Event()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Renew the lease every third of it, from a thread, until the block ends."""
        beat = threading.Thread(target=self._beat, name=f"lease {self.store.tenant_id}", daemon=True)
        beat.start()
        try:
            yield
        finally:
            self._stop.set()
            beat.join()

    def enter(self, stage: str) -> None:
        """Say which stage begins. Raises LeaseLost when the lease was lost meanwhile."""
        if self._lost.is_set():
            raise self._lost_error()
        self._stage = stage
        failpoint(stage)

    @contextmanager
    def computing(self, candidate: str) -> Iterator[None]:
        """Around everything that one candidate computes: if it takes long, the beats say so.

        Only remembered here: a quick candidate costs nothing. Should it hang, the beats go on (code that holds the
        interpreter would stop them) until the hard limit kills this process, and the last one is what remains.
        """
        self._computing = (candidate, time.monotonic())
        try:
            yield
        finally:
            self._computing = None

    def publish(self, result: Row) -> Row:
        """All of the result, in one transaction; the answer's outcome is published or older."""
        answer = self._owned(self.store.publish_item(self.run_id, self.fence, result))
        failpoint("published")
        if answer["outcome"] == "published":
            bump_tenant(self.store.tenant_id, self._settings)
        return answer

    def publish_model(self, model: Row, report: Row) -> None:
        """A model version that comes without a forecast, and the end of the item, in one transaction."""
        self._owned(self.store.publish_model(self.run_id, self.fence, model, report))
        failpoint("published")

    def finish(self, state: Literal["done", "skipped"], reason: str, report: Row, input_hash: str | None) -> None:
        """End the item without publishing."""
        self._owned(self.store.finish_item(self.run_id, self.fence, state, reason, report, input_hash))

    def fail(self, error: TenantcastError, *, again: bool) -> str:
        """Note the error; "pending" when the item will be tried again, else "failed"."""
        delay = retry_delay(self.attempt) if again else None
        return str(self._owned(self.store.fail_item(self.run_id, self.fence, error.as_dict(), delay))["outcome"])

    def _owned(self, answer: Row) -> Row:
        if answer["outcome"] == "lost":
            raise self._lost_error()
        return answer

    def _beat(self) -> None:
        sure_until = time.monotonic() + self._lease_seconds
        while not self._stop.wait(self._lease_seconds / BEATS_PER_LEASE):
            asked = time.monotonic()
            try:
                answer = self.store.heartbeat_item(
                    self.run_id, self.fence, self._lease_seconds, self._stage, *self._at_work()
                )
                alive = bool(answer["alive"])
                sure_until = asked + self._lease_seconds
            except TenantcastError as error:
                # One unanswered beat is no loss yet: two more fit into the lease.
                _log.warning("heartbeat_failed", tenant=str(self.store.tenant_id), code=error.code)
                alive = time.monotonic() < sure_until
            if not alive:
                self._lost.set()
                return

    def _at_work(self) -> tuple[str | None, int]:
        """The candidate that is being computed, and for how many seconds already."""
        computing = self._computing
        return (computing[0], int(time.monotonic() - computing[1])) if computing else (None, 0)

    def _lost_error(self) -> LeaseLost:
        return LeaseLost(
            f"Another worker owns tenant {self.store.tenant_id} of run {self.run_id} now; nothing was written.",
            next_step="Nothing to do: whoever owns it finishes it.",
            tenant_id=str(self.store.tenant_id),
        )


_seen: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Kill this process (SIGKILL) where a test asks for it: ``TENANTCAST_FAILPOINT=compute`` or ``publish:3``.

    The names are the stages (read, compute, publish) and "published"; the number counts how often this process has
    come past.
    """
    wanted = os.environ.get("TENANTCAST_FAILPOINT")
    if not wanted:
        return
    stage, _, count = wanted.partition(":")
    _seen[name] = _seen.get(name, 0) + 1
    if stage == name and _seen[name] == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
