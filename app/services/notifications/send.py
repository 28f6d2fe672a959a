"""Sending one message on one channel: claimed under a lease, tried, ended. At least once, and at most twice.

A sender that dies before it could say that it has sent leaves a lease that runs out; the next one sends again, and a
message whose sender was lost twice is given up. The receiver of a webhook can tell by `notification_id`.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict
from uuid import UUID

import structlog
from pydantic import SecretStr

from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import Row, SystemStore, TenantStore
from app.errors import AddressRefused, BellUnavailable, DeliveryFailed, UnknownNotification
from app.services.notifications.breaker import Breakers
from app.services.notifications.channels import Channel, Message
from app.services.notifications.config import OUTSIDE
from app.services.runs import failpoint
from app.tenancy import TenantId, parse_tenant_id

MAX_TRIES = 10  # over about three hours
BACKOFF_BASE_SECONDS = 30
BACKOFF_CAP_SECONDS = 3600
PAGE = 500

_log = structlog.get_logger()


class Delivery(TypedDict):
    """What became of one message on one channel."""

    notification_id: str
    channel: str
    outcome: str  # sent, failed, pending (again later), held, lost; or why it was left alone: busy, later, …


class Courier(Protocol):
    """Tells a worker to send one message; a ring that is lost is repeated by the next look at what is due."""

    def carry(self, tenant_id: TenantId, notification_id: UUID, channel: str) -> None:
        """Send one message that carries the ids. Raises BellUnavailable when it cannot."""
        ...


@dataclass(frozen=True)
class Sender:
    """Sends what is claimed; one per process, since its breakers remember."""

    channels: Mapping[str, Channel]
    breakers: Breakers
    lease_seconds: int
    daily_limit: int

    @classmethod
    def from_settings(cls, settings: Settings, channels: Mapping[str, Channel]) -> "Sender":
        return cls(channels, Breakers(), settings.notification_lease_seconds, settings.notification_daily_limit)

    def send(self, store: TenantStore, notification_id: UUID, channel: str) -> Delivery:
        """Claim one message for one channel, deliver it, and write down what became of it."""
        answer = store.claim_delivery(notification_id, channel, self.lease_seconds, self.daily_limit)
        outcome = str(answer["outcome"])
        if outcome == "claimed":
            failpoint("notification_claimed")
            end = self._deliver(store.tenant_id, channel, answer)
            failpoint("notification_sent")
            outcome = str(store.end_delivery(notification_id, channel, answer["fence"], **end)["outcome"])
        _log.info("notification_handled", notification=str(notification_id), channel=channel, outcome=outcome)
        return Delivery(notification_id=str(notification_id), channel=channel, outcome=outcome)

    def _deliver(self, tenant_id: TenantId, channel: str, claimed: Row) -> dict[str, Any]:
        """Try once; the arguments of `TenantStore.end_delivery`."""
        way, address = self.channels.get(channel), claimed["address"]
        if way is None or address is None:
            return {"state": "failed", "error": "no address"}
        secret = SecretStr(address)
        try:
            destination = f"{channel} {way.destination(secret)}"
            rest = self.breakers.rest_seconds(destination)
            if rest > 0:
                return {
                    "state": "pending", "error": "resting", "retry_in_seconds": math.ceil(rest), "counts": False,
                }  # fmt: skip
            way.send(secret, _message(tenant_id, claimed["message"]))
        except AddressRefused as error:
            return {"state": "failed", "error": error.message}
        except DeliveryFailed as error:
            self.breakers.failed(destination)
            return _again(int(claimed["tries"]) + 1, error.message)
        self.breakers.succeeded(destination)
        return {"state": "sent"}


def send_everywhere(
    sender: Sender, store: TenantStore, notification_id: object, channel: object = None
) -> list[Delivery]:
    """One message on one channel, or on every channel that it goes to. Arguments are hostile.

    Raises
    ------
    UnknownNotification : the id is none, or there is no such channel
    """
    if channel is not None and channel not in OUTSIDE:
        raise UnknownNotification(f"There is no channel {str(channel)[:40]!r}.")
    wanted = OUTSIDE if channel is None else (str(channel),)
    parsed = _parse_id(notification_id)
    found = [sender.send(store, parsed, each) for each in wanted]
    return [delivery for delivery in found if delivery["outcome"] != "unknown"]


def _parse_id(notification_id: object) -> UUID:
    try:
        return UUID(str(notification_id))
    except ValueError:
        raise UnknownNotification(f"{str(notification_id)[:40]!r} is no message's id.") from None


def ring_due(gateway: Gateway, courier: Courier) -> int:
    """Ring for every message that is due; how many rings went out. What could not be rung is due again next time."""
    rung = 0
    for item in SystemStore(gateway).due_deliveries(PAGE):
        try:
            courier.carry(parse_tenant_id(item["tenant_id"]), UUID(item["notification_id"]), item["channel"])
        except BellUnavailable as error:
            _log.warning("notifications_not_rung", code=error.code, rung=rung)
            return rung
        rung += 1
    return rung


def backoff_seconds(tries: int, jitter: float) -> int:
    """Seconds until the next try: 30 s doubled per try up to an hour, of which ``jitter`` (0..1) takes up to half."""
    ceiling = min(float(BACKOFF_CAP_SECONDS), BACKOFF_BASE_SECONDS * 2.0 ** (tries - 1))
    return math.ceil(ceiling * (1 - jitter / 2))


def _again(tries: int, error: str) -> dict[str, Any]:
    if tries >= MAX_TRIES:
        return {"state": "failed", "error": error}
    retry = backoff_seconds(tries, random.random())  # noqa: S311 - spreads load, guards nothing
    return {"state": "pending", "error": error, "retry_in_seconds": retry}


def _message(tenant_id: TenantId, row: Row) -> Message:
    return Message(
        notification_id=row["notification_id"],
        tenant_id=str(tenant_id),
        kind=row["kind"],
        title=row["title"],
        body=row["body"],
        created_at=row["created_at"],
        payload=row["payload"],
    )
