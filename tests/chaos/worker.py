"""The product's own worker or beat with probes in it: ``python -m tests.chaos.worker worker -Q …``.

What the probes add is what a test cannot reach from outside: a fit that takes a moment, so that faults find somebody at
work, and death at a named point of one tenant's work. Everything else is the real `app.celery_app`.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NoReturn

import structlog
from celery import Celery

from tests.chaos.tickets import has_ticket, take_ticket

SLOW_SECONDS = "CHAOS_FIT_SECONDS"
RETRY_SECONDS = "CHAOS_RETRY_SECONDS"
# In the order in which an item passes them; `received` is the main process, all others are pool children.
POINTS = (
    "received", "before_claim", "claimed", "read", "compute", "cross_validation", "fit", "heartbeat", "publish",
    "committing", "published", "before_ack",
)  # fmt: skip
WITHOUT_SALES = ("finish", "finished")  # points of an item that ends without a publish
VISIBILITY_SECONDS = "CHAOS_VISIBILITY_SECONDS"  # set: the broker gives back what nobody has acknowledged by then
LIGHT = "CHAOS_LIGHT"  # set: no candidate needs the large libraries, so no worker imports them at its start
COMMIT_SECONDS = 0.3  # after this long the database is in the middle of a publish that is made slow
SLOW_FOR_HEARTBEAT = 3.0


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable: SIGKILL cannot be handled")


def die_with_ticket(point: str, tenant: object) -> None:
    if take_ticket(point, tenant):
        die()


def install_probes() -> None:
    """Wrap the product's functions; before any task module is imported, and before the pool forks."""
    from app.services import runs

    runs.RETRY_BASE_SECONDS = int(os.environ.get(RETRY_SECONDS, runs.RETRY_BASE_SECONDS))
    _probe_claim()
    _probe_item()
    _probe_engine()
    _probe_commit()
    _probe_messages()


def _probe_claim() -> None:
    from app.services import runs

    claim_item = runs.claim_item

    @wraps(claim_item)
    def probed(store: Any, *args: Any, **named: Any) -> Any:
        die_with_ticket("before_claim", store.tenant_id)
        claimed = claim_item(store, *args, **named)
        die_with_ticket("claimed", store.tenant_id)
        return claimed

    runs.claim_item = probed


def _probe_item() -> None:
    from app.db.store import TenantStore
    from app.services.runs import Item

    def around(method: str, before: str = "", after: str = "") -> None:
        original = getattr(TenantStore, method)

        @wraps(original)
        def probed(self: TenantStore, *args: Any, **named: Any) -> Any:
            die_with_ticket(before, self.tenant_id)
            answer = original(self, *args, **named)
            die_with_ticket(after, self.tenant_id)
            return answer

        setattr(TenantStore, method, probed)

    around("publish_item", after="published")
    around("finish_item", before="finish", after="finished")
    around("heartbeat_item", after="heartbeat")
    enter = Item.enter

    def probed_enter(self: Item, stage: str) -> None:
        enter(self, stage)
        die_with_ticket(stage, self.store.tenant_id)

    Item.enter = probed_enter  # type: ignore[method-assign]


def _probe_engine() -> None:
    """The engine knows no tenant; the log's context does."""
    from app.services.ml import backtest, ladder, ml_engine

    seconds = float(os.environ.get(SLOW_SECONDS, "0"))

    def probed(point: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def slowed(*args: Any, **named: Any) -> Any:
            tenant = structlog.contextvars.get_contextvars().get("tenant")
            time.sleep(SLOW_FOR_HEARTBEAT if has_ticket("heartbeat", tenant) else seconds)
            die_with_ticket(point, tenant)
            return original(*args, **named)

        return slowed

    for point, original in (("cross_validation", backtest.cross_validate), ("fit", ladder.fit_member)):
        setattr(ml_engine, original.__name__, probed(point, original))


def _probe_commit() -> None:
    """Die while the database is in the middle of the publish (`slow_publishes` gives us the time to)."""
    from app.db.postgres import PostgresGateway

    call = PostgresGateway.call

    def probed(self: PostgresGateway, function: str, params: Mapping[str, object]) -> Any:
        if function == "ml_publish_item" and take_ticket("committing", params["p_tenant_id"]):
            threading.Timer(COMMIT_SECONDS, die).start()
        return call(self, function, params)

    PostgresGateway.call = probed  # type: ignore[method-assign]


def _probe_messages() -> None:
    from celery.signals import task_postrun, task_received

    def tenant_of(arguments: Any) -> str:
        return str(arguments[1]) if len(arguments or ()) > 1 else ""

    def received(request: Any = None, **_: Any) -> None:
        die_with_ticket("received", tenant_of(request.args))

    def before_ack(args: Any = None, **_: Any) -> None:
        die_with_ticket("before_ack", tenant_of(args))

    task_received.connect(received, weak=False)
    task_postrun.connect(before_ack, weak=False)


def main() -> None:
    install_probes()
    if os.environ.get(LIGHT):
        from app.workers import process

        process.PRELOADED = ("app.services.ml.pipeline", "statsmodels.tsa.seasonal")
    from app.celery_app import celery_app

    if visibility := int(os.environ.get(VISIBILITY_SECONDS, "0")):
        _shorten_visibility(celery_app, visibility)
    celery_app.start(sys.argv[1:])


def _shorten_visibility(celery_app: Celery, seconds: int) -> None:
    """In all three places, or the broker keeps the product's: longer than any task may take."""
    celery_app.conf.broker_transport_options |= {"visibility_timeout": seconds, "unacked_restore_interval": 1}
    celery_app.conf.result_backend_transport_options |= {"visibility_timeout": seconds}
    celery_app.conf.visibility_timeout = seconds


if __name__ == "__main__":
    main()
