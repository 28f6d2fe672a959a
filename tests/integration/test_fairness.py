"""One huge tenant among small ones: the small ones do not wait for it. Told by the ledger's order, not by the clock."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest

from app.config.settings import Settings
from app.db.store import TenantStore
from app.services import runs
from app.services.retrain import retrain
from app.tenancy import TenantId, parse_tenant_id
from tests.integration.shops import CHEAP

SMALL = 20
SMALL_ROWS = 120
HUGE = TenantId(UUID(int=1))  # by its id it would be the first


@pytest.fixture
def settings(database_url: str, tmp_path) -> Settings:
    return Settings(database_url=database_url, tenantcast_home=tmp_path / "home", ml_lease_seconds=2)


def fill(url: str, huge_rows: int) -> list[TenantId]:
    """``SMALL`` tenants with a sale a day, and (with rows) a huge one of as many days; the ids of the small ones."""
    small = [parse_tenant_id(f"small {n}") for n in range(SMALL)]
    now = datetime.now(UTC)
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("set session_replication_role = replica")  # a foreign key looked up a million times
        for tenant, rows in [*((each, SMALL_ROWS) for each in small), *([(HUGE, huge_rows)] if huge_rows else [])]:
            owner.execute(
                "insert into public.negocios (id, nombre, zona_horaria) values (%s, %s, 'UTC')", (tenant, str(tenant))
            )
            owner.execute(
                "insert into public.ventas (negocio_id, id, fecha, total)"
                " select %s, i::text, %s::timestamptz - i * %s::interval, 100 + i %% 7"
                " from generate_series(1, %s) as i",
                (tenant, now, timedelta(days=SMALL_ROWS) / rows, rows),
            )
        owner.execute("analyze public.ventas")
    return small


def finished_order(url: str, run_id: str) -> list[UUID]:
    with psycopg.connect(url) as owner:
        found = owner.execute(
            "select tenant_id from public.ml_run_item where run_id = %s and state = 'done'"
            " order by finished_at, tenant_id",
            (run_id,),
        ).fetchall()
    return [row[0] for row in found]


def p95_place(order: list[UUID], tenants: list[TenantId]) -> float:
    """How many tenants are done when 95 % of ``tenants`` are: the place of completion, 1 is the first."""
    return float(np.quantile([order.index(tenant) + 1 for tenant in tenants], 0.95))


def check_small_first(url: str, settings: Settings, huge_rows: int) -> None:
    small = fill(url, huge_rows)
    alone = retrain(settings, CHEAP, tenants=small, jobs=2)

    beside = retrain(settings, CHEAP, force=True, jobs=2)
    again = retrain(settings, CHEAP, force=True, jobs=2)  # now by the rows that the last run has seen

    without = p95_place(finished_order(url, alone["run_id"]), small)
    for summary in (beside, again):
        order = finished_order(url, summary["run_id"])
        assert sorted(order) == sorted([*small, HUGE])
        assert order[-1] == HUGE
        assert p95_place(order, small) <= 2 * without


def test_beside_a_tenant_of_a_million_sales_the_others_are_done_as_early_as_without_it(database_url, settings):
    check_small_first(database_url, settings, 1_000_000)


@pytest.mark.big
@pytest.mark.timeout(3_600)
def test_beside_a_tenant_of_ten_million_sales_the_others_are_done_as_early_as_without_it(database_url, settings):
    check_small_first(database_url, settings, 10_000_000)


def test_while_a_worker_is_busy_with_the_huge_tenant_the_others_go_on(database_url, gateway, settings):
    small = fill(database_url, 5_000)
    elsewhere = runs.start_run(gateway, "tenant", tenants=[HUGE])
    assert isinstance(runs.claim_item(TenantStore(gateway, HUGE), elsewhere, 5), runs.Claim)

    summary = retrain(settings, CHEAP)

    order: list[Any] = finished_order(database_url, summary["run_id"])
    assert order[-1] == HUGE  # taken up when the lease of the worker that never came back ended
    assert sorted(order[:-1]) == sorted(small)


class Recorder:
    """A bell that only remembers for whom it rang."""

    def __init__(self) -> None:
        self.rung: list[TenantId] = []

    def ring(self, run_id: UUID, tenant_id: TenantId) -> None:
        self.rung.append(tenant_id)


def test_bells_ring_for_small_tenants_first(database_url, gateway, settings):
    small, bell = fill(database_url, 5_000), Recorder()
    run_id = runs.start_run(gateway, "retrain", tenants=None)

    runs.ring_next(gateway, bell, run_id, settings.model_copy(update={"ml_ring_window": SMALL + 1}))

    assert sorted(bell.rung[:-1]) == sorted(small)
    assert bell.rung[-1] == HUGE
