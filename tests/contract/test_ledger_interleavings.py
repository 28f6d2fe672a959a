"""Workers that claim, stall, fail and publish in random orders: what must hold after every single step."""

import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from app.db.postgres import PostgresGateway
from app.errors import QueryRefused
from tests.contract.ledger_factory import (
    AS_OF,
    STRANGER,
    TENANT,
    claim,
    fail,
    publish,
    result,
    start,
)

TENANTS = (TENANT, STRANGER)
STEPS = 60


@dataclass
class World:
    """Runs, and the claims that workers hold or once held: nobody tells a worker that its lease is gone."""

    gateway: PostgresGateway
    owner: psycopg.Connection[Any]
    chance: random.Random
    runs: list[str] = field(default_factory=list)
    held: list[tuple[UUID, str, int]] = field(default_factory=list)
    published: dict[UUID, int] = field(default_factory=dict)

    def step(self) -> None:
        moves = [self.begin_run, self.claim, self.claim, self.publish, self.publish, self.fail, self.stall, self.wait]
        self.chance.choice(moves)()

    def begin_run(self) -> None:
        self.runs.append(start(self.gateway, *TENANTS, kind=self.chance.choice(["retrain", "trial"])))

    def claim(self) -> None:
        if self.runs:
            run_id, tenant = self.chance.choice(self.runs), self.chance.choice(TENANTS)
            answer = claim(self.gateway, run_id, tenant)
            if answer["outcome"] == "claimed":
                self.held.append((tenant, run_id, answer["fence"]))

    def publish(self) -> None:
        """Any worker, zombies included, with an input that is never older than a day."""
        if self.held:
            tenant, run_id, fence = self.chance.choice(self.held)
            day = AS_OF + timedelta(days=self.chance.randint(0, 3))
            what = result(day, version=f"v{fence}", horizon=self.chance.randint(1, 5), yhat=float(fence))
            before = self.rows(
                "select state, fence from ml_run_item where run_id = %s and tenant_id = %s", run_id, tenant
            )
            outcome = publish(self.gateway, run_id, fence, what, tenant)["outcome"]
            # "done" with one's own fence is a repeat of what was answered before.
            assert outcome == "lost" or before[0] in {("running", fence), ("done", fence)}, "a zombie wrote"
            if outcome == "published":
                self.published[tenant] = max(fence, self.published.get(tenant, 0))

    def fail(self) -> None:
        if self.held:
            tenant, run_id, fence = self.chance.choice(self.held)
            fail(self.gateway, run_id, fence, self.chance.choice([None, 0, 5]), tenant)

    def stall(self) -> None:
        self.owner.execute("update ml_run_item set lease_until = now() - interval '1 s' where state = 'running'")

    def wait(self) -> None:
        self.owner.execute("update ml_run_item set not_before = now() - interval '1 s'")

    def rows(self, statement: str, *params: object) -> list[tuple[Any, ...]]:
        return self.owner.execute(statement, params).fetchall()

    def check(self) -> None:
        running = self.rows("select tenant_id from ml_run_item where state = 'running'")
        assert len(running) == len(set(running)), "two workers on one tenant"
        mixed = self.rows(
            "select p.tenant_id, count(distinct p.fence), max(p.fence) from ml_predictions p"
            " join ml_active_forecast a using (tenant_id)"
            " where p.prediction_type = 'sales_forecast' and p.prediction_date > a.as_of group by 1",
        )
        for tenant, fences, newest in mixed:
            assert fences == 1, "a mixture of two publishes"
            assert newest == self.published[tenant], "not the last publish"
        production = self.rows("select tenant_id from ml_models where stage = 'production'")
        assert sorted(production) == sorted((tenant,) for tenant in self.published)
        issued = self.rows("select count(*) from ml_forecast_ledger")
        done = self.rows("select count(*) from ml_run_item where answer is not null")
        assert issued == done, "a publish without its record, or a record without its publish"


def play(url: str, seed: int) -> World:
    """`STEPS` random steps, checked one by one; then every worker dies and the runs are finished."""
    gateway = PostgresGateway(url)
    with psycopg.connect(url, autocommit=True) as owner:
        world = World(gateway, owner, random.Random(seed))
        world.begin_run()
        try:
            for _ in range(STEPS):
                world.step()
                world.check()
            world.stall()
            for run_id in world.runs:
                gateway.call("ml_finish_run", {"p_run_id": run_id})
            assert world.rows("select count(*) from ml_run_item where state = 'running'") == [(0,)]
        finally:
            gateway.close()
    return world


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_order_a_tenant_has_one_worker_and_one_whole_forecast(database_url: str, seed: int) -> None:
    world = play(database_url, seed)

    assert world.published, "no order of this seed published anything: it proves nothing"


def test_without_the_fence_the_same_orders_fail(database_url: str) -> None:
    """The negative control: if publish did not ask who owns the item, these very steps would show it."""
    with psycopg.connect(database_url, autocommit=True) as owner:
        (text,) = owner.execute("select pg_get_functiondef('ml_publish_item'::regproc)").fetchone() or ("",)
        unfenced = text.replace("elsif v_item.state is distinct from 'running' then", "elsif false then")
        assert unfenced != text
        owner.execute(unfenced)

    # Our check says so, or the ledger's key does, which knows each run once.
    with pytest.raises((AssertionError, QueryRefused), match=r"a zombie wrote|ml_forecast_ledger_pkey"):
        play(database_url, 0)
