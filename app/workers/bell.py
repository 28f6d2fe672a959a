"""The bell of `app.services.bell`, rung through Celery."""

from dataclasses import dataclass
from uuid import UUID

from celery import Celery
from kombu.exceptions import OperationalError

from app.errors import BellUnavailable
from app.tenancy import TenantId

TRAIN = "app.workers.ml_worker.train_tenant"
SEND = "app.workers.notification_worker.send_notification"
SEND_EXPIRES_SECONDS = 172_800  # by then others have been sent; shorter, and a clock that is ahead drops them all


@dataclass(frozen=True)
class CeleryBell:
    """Sends messages that carry ids only; fulfils `Bell`, `Clockwork` and `Courier`."""

    app: Celery

    def ring(self, run_id: UUID, tenant_id: TenantId) -> None:
        """See `Bell.ring`."""
        self._send(TRAIN, (str(run_id), str(tenant_id)), {})

    def carry(self, tenant_id: TenantId, notification_id: UUID, channel: str) -> None:
        """See `Courier.carry`."""
        self._send(SEND, (str(tenant_id), str(notification_id), channel), {"expires": SEND_EXPIRES_SECONDS})

    def trigger(self, job: str) -> None:
        """See `Clockwork.trigger`: the very message that beat sends."""
        entry = self.app.conf.beat_schedule[job]
        self._send(entry["task"], (), entry["options"])

    def turn_page(self, task: str, after: str) -> None:
        """The same task again, for the page of tenants that begins after this one."""
        self._send(task, (), {"kwargs": {"after": after}})

    def _send(self, task: str, arguments: tuple[str, ...], options: dict[str, object]) -> None:
        try:
            self.app.send_task(task, arguments, **options)
        except (OperationalError, OSError) as error:
            raise BellUnavailable(
                f"The message broker did not take {task}: {type(error).__name__}.",
                next_step="Nothing is lost: it is sent again. Look at Redis, REDIS_URL and CELERY_BROKER_URL.",
            ) from None
