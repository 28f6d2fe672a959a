"""The negative control: the same tenants and faults, but the message is the work.

No ledger: one message per tenant with the safest settings that Celery has (late acknowledgement, redelivery when a
worker is lost), and rows written in three chunks that are committed one by one. It must fail under the storm that the
ledger stands; if it does not, the storm hits nothing.
"""

import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import psycopg
from celery import Celery
from redis import RedisError

from tests.chaos.backends import Database
from tests.chaos.verdict import Verdict
from tests.chaos.worker import SLOW_SECONDS
from tests.servers.redis import RedisServer

HORIZON_DAYS = 14
CHUNKS = 3
QUEUE = "control_group"
VISIBILITY_SECONDS = 6
QUIET_SECONDS = 4.0  # nothing queued, nothing unacknowledged, nothing new: whatever is missing now is lost

TABLE = "create table message_forecast (tenant_id uuid, day date, value numeric, primary key (tenant_id, day))"
_FORECAST = """
with sales as (
  select fecha::date as day, total from ventas where negocio_id = %s
), ahead as (
  select (select max(day) from sales) + step as day from generate_series(1, 14) as step
)
select a.day, (
  select round(avg(s.total), 2) from sales as s where extract(isodow from s.day) = extract(isodow from a.day))
from ahead as a order by a.day
"""
_WRITE = """
insert into message_forecast values (%s, %s, %s) on conflict (tenant_id, day) do update set value = excluded.value
"""
_OUTPUT = """
select tenant_id::text, string_agg(day || '=' || coalesce(value::text, '-'), ';' order by day), count(*)
from message_forecast group by tenant_id
"""


def make_celery(broker: str) -> Celery:
    app = Celery("control_group", broker=broker)
    app.conf.update(
        broker_transport_options={"visibility_timeout": VISIBILITY_SECONDS, "unacked_restore_interval": 1},
        visibility_timeout=VISIBILITY_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_default_queue=QUEUE,
    )
    app.task(name="forecast", shared=False)(forecast)  # of this app alone, not of every one in the process
    return app


def forecast(tenant: str) -> None:
    """Read, compute for a while, write chunk by chunk; an error is an error, and the message is gone."""
    pause = float(os.environ.get(SLOW_SECONDS, "0"))
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, connect_timeout=5) as connection:
        rows = connection.execute(_FORECAST, [tenant]).fetchall()
        time.sleep(2 * pause)
        for n in range(CHUNKS):
            with connection.cursor() as cursor:
                cursor.executemany(_WRITE, [(tenant, *row) for row in rows[n::CHUNKS]])
            time.sleep(pause / CHUNKS)


@dataclass
class MessageWork:
    """One message per tenant; judged by the same rules as the ledger's run."""

    database: Database
    redis: RedisServer
    tenants: list[str]
    expected: dict[str, str]
    _last: tuple[int, float] = field(default=(-1, 0.0))

    @classmethod
    def start(cls, database: Database, redis: RedisServer, tenants: list[str]) -> "MessageWork":
        database.ask(TABLE)
        expected = {tenant: _text(database.ask(_FORECAST, tenant)) for tenant in tenants}
        app = make_celery(redis.url)
        for tenant in tenants:
            app.send_task("forecast", (tenant,))
        app.close()
        return cls(database, redis, tenants, expected)

    def finished(self) -> int:
        return int(self.database.one("select count(distinct tenant_id) from message_forecast"))

    def held(self) -> set[tuple[str, int]]:
        return set()

    def is_over(self) -> bool:
        rows = int(self.database.one("select count(*) from message_forecast"))
        if self._messages() or rows != self._last[0]:
            self._last = rows, time.monotonic()
        return time.monotonic() - self._last[1] > QUIET_SECONDS

    def judge(self) -> Verdict:
        found = {str(tenant): (str(text), int(days)) for tenant, text, days in self.database.ask(_OUTPUT)}
        return Verdict(
            tenants=len(self.tenants),
            lost=sorted(set(self.tenants) - set(found)),
            mixed=sorted(tenant for tenant, (_, days) in found.items() if days != HORIZON_DAYS),
            different=sorted(tenant for tenant, (text, _) in found.items() if text != self.expected[tenant]),
            foreign=sorted(set(found) - set(self.tenants)),
        )

    def _messages(self) -> int:
        """Queued and unacknowledged; one where Redis does not answer, for then nobody knows."""
        try:
            with self.redis.client() as client:
                return int(client.llen(QUEUE)) + int(client.hlen("unacked"))
        except RedisError:
            return 1


def _text(rows: list[tuple[Any, ...]]) -> str:
    return ";".join(f"{day}={'-' if value is None else value}" for day, value in sorted(rows))


if __name__ == "__main__":
    make_celery(os.environ["CELERY_BROKER_URL"]).start(sys.argv[1:])
