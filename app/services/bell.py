"""The bell that services ring: "look at this tenant of this run". Celery implements it (`app.workers.bell`).

A ring that is lost, repeated or late changes nothing: what is to be done stands in the ledger, and the reconciler rings
again. Services know nothing of brokers.
"""

from typing import Protocol
from uuid import UUID

from app.tenancy import TenantId


class Bell(Protocol):
    """Tells workers to look at one tenant of one run."""

    def ring(self, run_id: UUID, tenant_id: TenantId) -> None:
        """Send one message that carries the two ids.

        Raises
        ------
        BellUnavailable : it could not be sent
        """
        ...


class Clockwork(Protocol):
    """Sends the message of a scheduled job, as beat would have."""

    def trigger(self, job: str) -> None:
        """Send the message of the job with this name.

        Raises
        ------
        BellUnavailable : it could not be sent
        """
        ...


class Silent:
    """A bell without a sound: the reconciler's rings are enough, only later."""

    def ring(self, run_id: UUID, tenant_id: TenantId) -> None:
        """Nothing is sent."""
