"""The one message of an item, sent by hand: for tests that must know how many are out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from celery import Celery
from kombu.entity import Queue

from app.celery_app import KEY_PREFIX, ML
from app.workers.bell import TRAIN
from tests.servers.redis import RedisServer


@contextmanager
def doorbell(redis: RedisServer) -> Iterator[Callable[[UUID, str], None]]:
    """Sends the message that the reconciler would send, over a connection that is open already."""
    app = Celery(broker=redis.url)
    app.conf.broker_transport_options = {"global_keyprefix": KEY_PREFIX}
    app.conf.task_queues = [Queue(ML, routing_key=ML)]  # type: ignore[no-untyped-call]
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=3)

        def ring(run_id: UUID, tenant: str) -> None:
            app.send_task(TRAIN, (str(run_id), tenant), queue=ML, connection=connection)

        yield ring
    app.close()
