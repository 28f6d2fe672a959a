"""Real workers on a real Redis and a real Postgres: whatever happens to messages and processes, nothing is lost."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from celery import Celery

from app.celery_app import KEY_PREFIX, make_celery
from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.postgres import PostgresGateway
from app.services.retrain import start_retrain
from app.tenancy import TenantId
from app.workers.bell import TRAIN, CeleryBell
from tests.integration.celery_processes import POISONED, CeleryProcess, beat, wait_until, worker
from tests.integration.shops import add_shop, shop_id
from tests.servers.redis import RedisServer

RETRAIN = "app.workers.ml_worker.retrain_all_models"
QUEUE = f"{KEY_PREFIX}ml_processing"


@dataclass
class Stage:
    """A database with shops, a broker, and the settings that processes and this test share."""

    gateway: PostgresGateway
    url: str
    redis: RedisServer
    environment: dict[str, str]
    directory: Path

    @property
    def settings(self) -> Settings:
        return Settings(database_url=self.url, redis_url=self.redis.url, ml_reconcile_seconds=1)

    @property
    def app(self) -> Celery:
        """A client of its own, as any other process would have."""
        return make_celery(self.settings, MLSettings())

    def start(self, *names: str) -> UUID:
        tenants = [shop_id(name) for name in names]
        for name in names:
            add_shop(self.gateway, name, days=60)
        started = start_retrain(self.gateway, CeleryBell(self.app), self.settings, MLSettings(), tenants=tenants)
        return UUID(started["run_id"])

    def rows(self, statement: str, *params: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement, params).fetchall()

    def items(self, run_id: UUID) -> dict[UUID, tuple[str, int]]:
        """State and attempts per tenant."""
        found = self.rows("select tenant_id, state, attempt from ml_run_item where run_id = %s", run_id)
        return {tenant: (state, attempt) for tenant, state, attempt in found}

    def is_over(self, run_id: UUID) -> bool:
        return bool(self.rows("select 1 from ml_run where run_id = %s and finished_at is not null", run_id))

    def wait(self, run_id: UUID, *processes: CeleryProcess) -> None:
        wait_until(lambda: self.is_over(run_id), f"the end of run {run_id}", *processes)

    def forecasts(self) -> dict[UUID, int]:
        """How many runs each tenant's forecast is made of: 1, or it is a mixture."""
        found = self.rows(
            "select tenant_id, count(distinct (run_id, fence)) from ml_predictions"
            " where prediction_type = 'sales_forecast' group by 1"
        )
        return dict(found)

    def waiting_messages(self) -> int:
        with self.redis.client() as client:
            return int(client.llen(QUEUE))


@pytest.fixture
def stage(database_url: str, redis_server: RedisServer, redis_url: str, tmp_path: Path) -> Iterator[Stage]:
    """Short leases and a reconciler every second, so that recoveries are quick."""
    environment = {
        "DATABASE_URL": database_url, "REDIS_URL": redis_url, "TENANTCAST_HOME": str(tmp_path / "home"),
        "ML_MODEL_CANDIDATES": "naive,snaive", "ML_LEASE_SECONDS": "3", "ML_RECONCILE_SECONDS": "1",
        "ML_RETRAIN_SPREAD_SECONDS": "0",
    }  # fmt: skip
    gateway = PostgresGateway(database_url, max_size=1)
    yield Stage(gateway, database_url, redis_server, environment, tmp_path)
    gateway.close()


@pytest.fixture
def crew() -> Iterator[ExitStack]:
    """Processes that end with the test."""
    with ExitStack() as stack:
        yield stack


def test_a_clients_message_retrains_every_tenant_and_false_late_and_repeated_ones_do_nothing(
    stage: Stage, crew: ExitStack
) -> None:
    for name in ("a", "b", "c"):
        add_shop(stage.gateway, name, days=60)
    crew.enter_context(beat(stage.environment, stage.directory))
    running = crew.enter_context(worker(stage.environment, stage.directory))

    stage.app.send_task(RETRAIN)
    wait_until(lambda: stage.rows("select 1 from ml_run where finished_at is not null"), "the run's end", running)
    run_id = stage.rows("select run_id from ml_run")[0][0]
    before = stage.rows("select * from ml_predictions order by 1, 2, 3"), stage.items(run_id)
    hostile: list[tuple[object, ...]] = [
        (str(run_id), str(shop_id("a"))), (str(run_id), str(shop_id("a"))),  # repeated
        (str(uuid4()), str(shop_id("a"))), (str(run_id), str(uuid4())),  # no such run, no such tenant
        ("'; drop table ml_run; --", "x"), (None, None), ({"$": 1}, ["a"]),
    ]  # fmt: skip
    for arguments in hostile:
        stage.app.send_task(TRAIN, arguments)
    stage.app.send_task(RETRAIN, kwargs={"tenant_ids": ["\u0000"], "force": "yes"})
    last = stage.app.send_task(TRAIN, ("last", "last"))
    wait_until(lambda: f"{last.id}] succeeded" in running.words(), "the last message", running)

    assert stage.items(run_id) == {shop_id(name): ("done", 1) for name in ("a", "b", "c")}
    assert (stage.rows("select * from ml_predictions order by 1, 2, 3"), stage.items(run_id)) == before
    assert stage.forecasts() == {shop_id(name): 1 for name in ("a", "b", "c")}
    assert stage.rows("select count(*) from ml_run") == [(1,)]
    assert "Traceback" not in running.words()
    said = [json.loads(line) for line in running.words().splitlines() if line.startswith("{")]
    imported = [line["pid"] for line in said if line["event"] == "libraries_imported"]
    assert imported == [running.process.pid]  # in the parent, which fits nothing


def test_a_flushed_redis_loses_no_tenant(stage: Stage, crew: ExitStack) -> None:
    run_id = stage.start("a", "b", "c", "d")
    rung = stage.waiting_messages()

    stage.redis.flush()
    crew.enter_context(beat(stage.environment, stage.directory))
    running = crew.enter_context(worker(stage.environment, stage.directory))
    stage.wait(run_id, running)

    assert rung == 4
    assert stage.items(run_id) == {shop_id(name): ("done", 1) for name in "abcd"}


def test_a_run_starts_while_redis_is_away_and_is_worked_off_when_it_is_back(stage: Stage, crew: ExitStack) -> None:
    stage.redis.kill()
    run_id = stage.start("a", "b")
    rung = stage.rows("select count(*) from ml_run_item where state = 'pending'")

    stage.redis.start()
    crew.enter_context(beat(stage.environment, stage.directory))
    running = crew.enter_context(worker(stage.environment, stage.directory))
    stage.wait(run_id, running)

    assert rung == [(2,)]
    assert stage.items(run_id) == {shop_id(name): ("done", 1) for name in "ab"}


def test_a_redis_that_dies_while_a_tenant_is_at_work_costs_not_even_an_attempt(stage: Stage, crew: ExitStack) -> None:
    environment = {**stage.environment, "POISON": str(shop_id("slow")), "DEED": "linger"}
    running = crew.enter_context(worker(environment, stage.directory, program=POISONED))
    crew.enter_context(beat(stage.environment, stage.directory))
    run_id = stage.start("slow", "b")
    wait_until(lambda: stage.items(run_id)[shop_id("slow")][0] == "running", "the slow tenant's turn", running)

    stage.redis.kill()
    wait_until(lambda: stage.items(run_id)[shop_id("slow")][0] != "running", "its end without Redis", running)
    without_redis = stage.items(run_id)[shop_id("slow")]
    stage.redis.start()
    stage.wait(run_id, running)

    assert without_redis == ("done", 1)
    assert stage.items(run_id) == {shop_id("slow"): ("done", 1), shop_id("b"): ("done", 1)}


def test_what_an_idle_worker_had_fetched_when_it_froze_and_died_is_done_by_another(
    stage: Stage, crew: ExitStack
) -> None:
    frozen = crew.enter_context(worker(stage.environment, stage.directory, "frozen"))
    frozen.send(signal.SIGSTOP)
    run_id = stage.start("a")
    # Redis has handed the message to a socket that nobody reads: it is in no queue any more.
    wait_until(lambda: stage.waiting_messages() == 0, "the message in the frozen worker's socket")
    untouched = stage.items(run_id)

    frozen.end()
    crew.enter_context(beat(stage.environment, stage.directory))
    running = crew.enter_context(worker(stage.environment, stage.directory))
    stage.wait(run_id, running)

    assert untouched == {shop_id("a"): ("pending", 0)}
    assert stage.items(run_id) == {shop_id("a"): ("done", 1)}


def test_a_worker_killed_in_the_middle_of_a_tenant_costs_an_attempt_and_nothing_else(
    stage: Stage, crew: ExitStack
) -> None:
    doomed = {**stage.environment, "TENANTCAST_FAILPOINT": "publish:2"}
    crew.enter_context(beat(stage.environment, stage.directory))
    first = crew.enter_context(worker(doomed, stage.directory, "doomed"))
    run_id = stage.start("a", "b", "c")
    wait_until(lambda: "SIGKILL" in first.words(), "the death of the first child", first)

    first.end()
    running = crew.enter_context(worker(stage.environment, stage.directory))
    stage.wait(run_id, running)

    states = stage.items(run_id)
    assert {state for state, _ in states.values()} == {"done"}
    # A lost lease counts double: the item that died was tried once, lost, and done.
    assert sorted(attempt for _, attempt in states.values()) == [1, 1, 3]
    assert stage.forecasts() == {shop_id(name): 1 for name in "abc"}


@pytest.mark.parametrize("deed", ["kill", "hang"])
def test_a_tenant_that_costs_two_workers_is_parked_and_the_others_are_done(
    stage: Stage, crew: ExitStack, deed: str
) -> None:
    environment = {**stage.environment, "POISON": str(shop_id("poison")), "DEED": deed, "ML_TASK_SECONDS": "5"}
    crew.enter_context(beat(stage.environment, stage.directory))
    running = crew.enter_context(worker(environment, stage.directory, program=POISONED))
    run_id = stage.start("a", "poison", "b")

    stage.wait(run_id, running)

    assert stage.items(run_id) == {
        shop_id("a"): ("done", 1), shop_id("b"): ("done", 1), shop_id("poison"): ("failed", 4),
    }  # fmt: skip
    code = stage.rows("select losses, error ->> 'code' from ml_run_item where state = 'failed'")
    assert code == [(2, "worker_lost")]


def test_a_tenant_that_takes_too_long_is_told_so_and_costs_no_worker(stage: Stage, crew: ExitStack) -> None:
    environment = {**stage.environment, "POISON": str(shop_id("slow")), "DEED": "dawdle", "ML_TASK_SECONDS": "10"}
    crew.enter_context(beat(stage.environment, stage.directory))
    running = crew.enter_context(worker(environment, stage.directory, program=POISONED))
    run_id = stage.start("slow", "b")

    stage.wait(run_id, running)

    assert stage.items(run_id) == {shop_id("slow"): ("failed", 1), shop_id("b"): ("done", 1)}
    error = stage.rows("select losses, error ->> 'code', error ->> 'kind' from ml_run_item where state = 'failed'")
    assert error == [(0, "out_of_time", "data")]
    assert "SIGKILL" not in running.words()


def test_three_beats_send_one_slot_and_one_run_begins(stage: Stage, crew: ExitStack) -> None:
    environment = {**stage.environment, "ML_RETRAIN_CRON": "* * * * *"}
    add_shop(stage.gateway, "a", days=60)
    running = crew.enter_context(worker(environment, stage.directory))
    app = make_celery(stage.settings, MLSettings(retrain_cron="* * * * *"))

    for _ in range(3):  # what each of three beats sends
        CeleryBell(app).trigger("weekly-ml-retrain")
    last = app.send_task(TRAIN, ("last", "last"))
    wait_until(lambda: f"{last.id}] succeeded" in running.words(), "the last message", running)
    wait_until(lambda: running.words().count(f"Task {RETRAIN}[") == 6, "three messages, come and gone", running)

    slots = stage.rows("select slot from ml_run")
    ticks = stage.rows("select slot, finished_at is not null from tenantcast_internal.schedule_tick")
    assert 1 <= len(slots) <= 2  # two if a minute began between the messages
    assert sorted(slots) == sorted((slot,) for slot, _ in ticks)
    assert all(finished for _, finished in ticks)
    assert running.words().count("slot_not_taken") == 3 - len(slots)


def test_a_request_for_one_tenant_does_not_wait_for_a_long_run(stage: Stage, crew: ExitStack) -> None:
    many = [f"shop{n}" for n in range(12)]
    environment = {**stage.environment, "ML_RING_WINDOW": "2"}
    for name in [*many, "urgent"]:
        add_shop(stage.gateway, name, days=60)
    long_run = start_retrain(
        stage.gateway, CeleryBell(stage.app), stage.settings.model_copy(update={"ml_ring_window": 2}), MLSettings(),
        tenants=[shop_id(name) for name in many],
    )  # fmt: skip
    urgent = start_retrain(
        stage.gateway, CeleryBell(stage.app), stage.settings.model_copy(update={"ml_ring_window": 2}), MLSettings(),
        tenants=[TenantId(shop_id("urgent"))], force=True,
    )  # fmt: skip

    running = crew.enter_context(worker(environment, stage.directory))
    stage.wait(UUID(long_run["run_id"]), running)
    stage.wait(UUID(urgent["run_id"]), running)

    order = stage.rows("select run_id from ml_run_item where state = 'done' order by finished_at")
    place = [str(run_id) for (run_id,) in order].index(urgent["run_id"])
    # Behind the two messages that were out and, taking turns, at most one more of the long run.
    assert place <= 4
    assert len(order) == 13
