"""Three beats as processes, one of them killed meanwhile, and sixty slots: sixty runs, none twice and none missing.

The slots are those of a retrain every minute. Their clock stands in a table, and the test moves it on by a minute when
every beat has sent the message of the minute before: sixty slots take seconds, and none depends on a fast machine.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.celery_app import CONTROL, KEY_PREFIX
from app.db.postgres import PostgresGateway
from app.db.store import SystemStore
from app.services.heartbeat import heartbeat_file
from app.services.schedule import RETRAIN
from tests.integration.celery_processes import CeleryProcess, running, wait_until
from tests.integration.shops import add_shop
from tests.servers.redis import RedisServer

SLOTS = 60
KILLED_AT, STARTED_AGAIN_AT = 20, 40
MINUTE = timedelta(minutes=1)

# The product's function, with the time of day taken from a table; leases keep the real one.
MOVE_THE_CLOCK_INTO_A_TABLE = """
create table tenantcast_internal.test_clock (at timestamptz not null);
grant select on tenantcast_internal.test_clock to tenantcast_system;
alter function public.ml_read_schedule() rename to ml_read_schedule_now;
create function public.ml_read_schedule() returns jsonb
language sql security invoker set search_path = '' set role = tenantcast_system
as $$
  select public.ml_read_schedule_now() || jsonb_build_object('now', tenantcast_internal.iso(c.at))
  from tenantcast_internal.test_clock as c
$$;
grant execute on function public.ml_read_schedule() to public;
"""
# Whoever starts a run, also when the slot has one already and nothing is inserted.
COUNT_STARTS = """
create table public.test_start (slot timestamptz);
create function public.test_start() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.test_start values (new.slot);
  return new;
end; $$;
create trigger test_start before insert on ml_run for each row execute function test_start();
"""


@dataclass
class Stage:
    """A database whose schedule reads the test's clock, a broker, and the processes between them."""

    url: str
    redis: RedisServer
    directory: Path
    crew: ExitStack

    def rows(self, statement: str, *params: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

    def set_clock(self, slot: datetime) -> None:
        """Two seconds past the slot: late enough that the reconciler, too, sends what nobody has carried out."""
        self.rows("delete from tenantcast_internal.test_clock")
        self.rows("insert into tenantcast_internal.test_clock values (%s)", slot + timedelta(seconds=2))

    def is_carried_out(self, slot: datetime) -> bool:
        statement = "select finished_at is not null from tenantcast_internal.schedule_tick where job = %s and slot = %s"
        return self.rows(statement, RETRAIN, slot) == [(True,)]

    def start(self, name: str, *command: str) -> CeleryProcess:
        """A process of ours, when it shows its first sign of life."""
        home = self.directory / "home"
        environment = {
            "DATABASE_URL": self.url, "REDIS_URL": self.redis.url, "TENANTCAST_HOME": str(home),
            "ML_RETRAIN_CRON": "* * * * *", "ML_RECONCILE_SECONDS": "1",
        }  # fmt: skip
        process = self.crew.enter_context(
            running((sys.executable, "-m", *command, name), environment, self.directory / f"{name}.log")
        )
        alive = heartbeat_file(home, name)
        wait_until(lambda: alive.exists() or not process.is_running(), f"the first beat of {name}", process)
        assert process.is_running(), process.words()[-4000:]
        return process

    def open_messages(self) -> int:
        """Those in the queue, and those that a worker has and has not acknowledged: a task is over when it has."""
        with self.redis.client() as client:
            return int(client.llen(KEY_PREFIX + CONTROL)) + int(client.hlen(f"{KEY_PREFIX}unacked"))


@pytest.fixture
def stage(database_url: str, redis_server: RedisServer, redis_url: str, tmp_path: Path) -> Iterator[Stage]:
    del redis_url  # empties the queues
    with psycopg.connect(database_url) as connection:
        connection.execute(MOVE_THE_CLOCK_INTO_A_TABLE)
        connection.execute(COUNT_STARTS)
    with ExitStack() as crew:
        yield Stage(database_url, redis_server, tmp_path, crew)


def _sent(beat: CeleryProcess) -> int:
    return beat.words().count(f"Sending due task {RETRAIN}")


def _send_everyone(stage: Stage, beats: list[CeleryProcess], slot: datetime) -> None:
    """Begin the slot, and wait until every beat has sent its message and somebody has carried it out."""
    before = [_sent(beat) for beat in beats]
    stage.set_clock(slot)
    wait_until(lambda: all(_sent(beat) > number for beat, number in zip(beats, before, strict=True)), f"{slot}", *beats)
    wait_until(lambda: stage.is_carried_out(slot), f"the slot {slot} to be carried out", *beats)


def test_three_beats_one_of_them_killed_and_started_again_make_one_run_for_each_of_sixty_slots(stage: Stage) -> None:
    gateway = PostgresGateway(stage.url, max_size=1)
    add_shop(gateway, "a", days=3)
    installed = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=3)
    tick = SystemStore(gateway).claim_tick(RETRAIN, installed, 60)
    SystemStore(gateway).finish_tick(RETRAIN, installed, tick["fence"])
    gateway.close()
    stage.set_clock(installed)
    slots = [installed + number * MINUTE for number in range(1, SLOTS + 1)]

    worker = stage.start("control", "tenantcast", "worker", "--queues", CONTROL, "--concurrency", "2", "--name")
    beats = [stage.start(f"beat{number}", "tests.integration.hasty_beat") for number in range(3)]
    everyone = list(beats)
    for number, slot in enumerate(slots):
        if number == KILLED_AT:
            beats.pop().end()
        if number == STARTED_AGAIN_AT:
            beats.append(stage.start("beat2-again", "tests.integration.hasty_beat"))
            everyone.append(beats[-1])
        _send_everyone(stage, beats, slot)
    for beat in beats:
        beat.end()
    wait_until(lambda: stage.open_messages() == 0, "the end of the last message", worker)

    made = stage.rows("select slot from ml_run where kind = 'retrain' order by slot")
    ticks = stage.rows(
        "select slot, attempts, finished_at is not null from tenantcast_internal.schedule_tick"
        " where job = %s and slot > %s order by slot", RETRAIN, installed
    )  # fmt: skip
    assert made == [(slot,) for slot in slots]
    assert ticks == [(slot, 1, True) for slot in slots]
    assert min(_sent(beat) for beat in everyone) >= KILLED_AT
    assert stage.rows("select slot from test_start order by slot") == [(slot,) for slot in slots]
    assert worker.words().count("slot_not_taken") >= SLOTS  # others came for the slots, and found them taken
