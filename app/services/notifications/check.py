"""Looking at every tenant: rules every few minutes, the daily summary once per local date.

Which tenants are due stands in the database, under leases: any number of workers share the work, and a tenant whose
worker died comes back. What a second look would say again, the outbox refuses by its key.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypedDict

import structlog

from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import Row, SystemStore, TenantStore
from app.errors import ConfigError, TenantcastError, Transient
from app.services.cache import bump_tenant
from app.services.notifications.digest import daily_summary, digest
from app.services.notifications.facts import DAYS, Facts
from app.services.notifications.rules import due_notices
from app.services.notifications.send import Courier, ring_due
from app.services.schedule import SUMMARY_HOURS_LATE
from app.tenancy import TenantId, parse_tenant_id

PERIOD_SECONDS = 300
PAGE = 50
LEASE_SECONDS = 120
MAX_MISSES = 3
BUDGET_SECONDS = 240  # what is left then is taken up by the next tick

_log = structlog.get_logger()


class Checked(TypedDict):
    """What one tick did."""

    tenants: int
    failed: int
    written: int  # messages that are new
    rung: int  # deliveries that workers were told of


def check_rules(gateway: Gateway, settings: Settings, courier: Courier) -> Checked:
    """Judge the rules of every tenant that was not looked at in this period, then ring for what can be sent."""
    return _tick(gateway, settings, courier, "rules", lambda store, _slot: check_tenant(store))


def write_summaries(gateway: Gateway, settings: Settings, courier: Courier) -> Checked:
    """The daily summary, and the digest of what was held back, of every tenant past its local hour."""
    return _tick(gateway, settings, courier, "summary", summarise_tenant)


def check_tenant(store: TenantStore) -> int:
    """Judge one tenant's rules now; how many messages are new."""
    notices = due_notices(Facts.from_row(store.read_notification_facts(DAYS)))
    if not notices:
        return 0
    return int(store.write_notifications([notice.as_row() for notice in notices])["written"])


def summarise_tenant(store: TenantStore, slot: str) -> int:
    """One tenant's morning of the local date ``slot``; how many messages are new."""
    facts = Facts.from_row(store.read_notification_facts(DAYS))
    written = 0
    held_back = digest(facts, slot)
    if held_back is not None:
        written += int(store.write_digest(held_back.as_row(), facts.read_at)["written"])
    summary = daily_summary(facts, slot)
    if summary is not None:
        written += int(store.write_notifications([summary.as_row()])["written"])
    return written


def _tick(
    gateway: Gateway,
    settings: Settings,
    courier: Courier,
    job: Literal["rules", "summary"],
    work: Callable[[TenantStore, str], int],
) -> Checked:
    look = _Look(SystemStore(gateway), job, settings.notification_summary_hour)
    until = time.monotonic() + BUDGET_SECONDS
    while time.monotonic() < until and (due := look.take_page()):
        for item in due:
            look.at_one(TenantStore(gateway, parse_tenant_id(item["tenant_id"])), item["slot"], work)
    done = look.done
    done["rung"] = ring_due(gateway, courier)
    _log.info("notifications_checked", job=job, **done)
    return done


@dataclass
class _Look:
    """One tick over the tenants that are due."""

    system: SystemStore
    job: Literal["rules", "summary"]
    hour: int
    done: Checked = field(default_factory=lambda: Checked(tenants=0, failed=0, written=0, rung=0))
    misses: int = 0  # in a row

    def take_page(self) -> list[Row]:
        return self.system.due_notification_ticks(
            self.job,
            PAGE,
            LEASE_SECONDS,
            period_seconds=PERIOD_SECONDS,
            hour=self.hour,
            hours_late=SUMMARY_HOURS_LATE,
        )

    def at_one(self, store: TenantStore, slot: str, work: Callable[[TenantStore, str], int]) -> None:
        """One tenant's failure never reaches another tenant: its lease runs out, and it is looked at again."""
        try:
            written = work(store, slot)
            if written:
                bump_tenant(store.tenant_id)
            self.done["written"] += written
            self.system.end_notification_tick(store.tenant_id, self.job, slot)
            self.done["tenants"] += 1
            self.misses = 0
        except Transient as error:
            self._failed(store.tenant_id, error.code)
            self.misses += 1
            if self.misses >= MAX_MISSES:
                raise  # not this tenant: the database is away
        except ConfigError:
            raise
        except TenantcastError as error:
            self._failed(store.tenant_id, error.code)
        except Exception as error:  # noqa: BLE001 - the one edge: what nobody foresaw in one tenant's numbers
            self._failed(store.tenant_id, type(error).__name__)

    def _failed(self, tenant_id: TenantId, code: str) -> None:
        self.done["failed"] += 1
        _log.warning("notifications_of_tenant_failed", tenant=str(tenant_id), code=code)
