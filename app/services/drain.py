"""One worker: claim open items of a run and work on them until none is open."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypedDict
from uuid import UUID

import structlog

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import Row, SystemStore, TenantStore
from app.errors import Transient
from app.services import runs
from app.services.item_work import carry_out
from app.tenancy import TenantId, parse_tenant_id

PAGE = 64  # items per look at the ledger
MAX_NAP_SECONDS = 1.0
MAX_MISSES = 7  # looks at a database that does not answer, about a minute in all
TOLD_SECONDS = 3  # a shorter wait is not worth a word

if TYPE_CHECKING:
    from app.services.ml.artifact import ArtifactKeys

_log = structlog.get_logger()


class Event(TypedDict):
    """What a worker tells the process that watches it."""

    kind: Literal["started", "ended", "waiting", "worker_lost"]
    tenant_id: str
    text: str


@dataclass(frozen=True)
class Work:
    """What every worker of a run is told; travels to other processes."""

    settings: Settings
    ml_settings: MLSettings
    run_id: UUID


def drain(
    work: Work,
    gateway: Gateway,
    *,
    tell: Callable[[Event], None],
    share: tuple[int, int] = (0, 1),
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Work on open items until there are none, or until ``go_on`` says no.

    Items that others hold are looked at again until they are done: should their worker die, they are taken over when
    the lease ends.

    Parameters
    ----------
    share : this worker's number and how many there are, so that all do not reach for the same item

    Raises
    ------
    DatabaseUnavailable, WrongKey, NotInstalled : the database cannot be used (any more)
    """
    from app.services.ml.artifact import load_keys

    worker = _Worker(work, gateway, load_keys(work.settings), tell)
    patience = Patience()
    while go_on():
        try:
            items = SystemStore(gateway).pending_items(work.run_id, PAGE)
            patience.renew()
            if not items:
                return
            if not worker.work_on_one(_mine_first(items, share)):
                worker.wait(items)
        except Transient as error:
            patience.bear(error)


class Patience:
    """Rides out a database that does not answer for about a minute, with growing pauses."""

    def __init__(self) -> None:
        self._misses = 0

    def renew(self) -> None:
        """It has answered."""
        self._misses = 0

    def bear(self, error: Transient) -> None:
        """Pause; raises ``error`` when it has been borne too often in a row."""
        self._misses += 1
        if self._misses >= MAX_MISSES:
            raise error
        _log.warning("ledger_unreachable", code=error.code, misses=self._misses)
        time.sleep(random.uniform(0.5, 1.0) * min(30.0, 2.0**self._misses))  # noqa: S311 - spreads load only


@dataclass(frozen=True)
class _Worker:
    """What stays the same from item to item."""

    work: Work
    gateway: Gateway
    keys: "ArtifactKeys"
    tell: Callable[[Event], None]
    told: set[str] = field(default_factory=set)

    def work_on_one(self, items: list[Row]) -> bool:
        """Claim the first item that can be had and work on it; False when none can be had now."""
        for item in items:
            if not item["ready"]:
                continue
            tenant_id = parse_tenant_id(item["tenant_id"])
            settings = self.work.settings
            claimed = runs.claim_item(
                self._store(tenant_id), self.work.run_id, settings.ml_lease_seconds, settings.ml_task_seconds
            )
            if isinstance(claimed, runs.Claim):
                self._work(tenant_id, claimed)
                return True
        return False

    def wait(self, items: list[Row]) -> None:
        """Sleep a little; say once per tenant when it is held by someone else for longer."""
        soonest = min(items, key=lambda item: int(item["retry_in_seconds"]))
        seconds, tenant_id = int(soonest["retry_in_seconds"]), str(soonest["tenant_id"])
        if seconds >= TOLD_SECONDS and tenant_id not in self.told:
            self.told.add(tenant_id)
            text = f"waiting for tenant {tenant_id}: held elsewhere or to be tried again, at most {seconds} s"
            self.tell(Event(kind="waiting", tenant_id=tenant_id, text=text))
        time.sleep(min(max(seconds, 0.1), MAX_NAP_SECONDS))

    def _work(self, tenant_id: TenantId, claimed: runs.Claim) -> None:
        self.tell(Event(kind="started", tenant_id=str(tenant_id), text=""))
        settings = self.work.settings
        item = runs.Item(self._store(tenant_id), self.work.run_id, claimed, settings.ml_lease_seconds, settings)
        done = carry_out(item, self.work.ml_settings, self.keys, claimed)
        text = f"{done['tenant_name'] or tenant_id}: {done['status'].replace('_', ' ')}"
        self.tell(Event(kind="ended", tenant_id=str(tenant_id), text=text))

    def _store(self, tenant_id: TenantId) -> TenantStore:
        return TenantStore(self.gateway, tenant_id)


def _mine_first(items: list[Row], share: tuple[int, int]) -> list[Row]:
    """The items in an order of this worker's own: every n-th first, then the others."""
    number, workers = share
    return items[number::workers] + [item for n, item in enumerate(items) if n % workers != number]
