"""One tenant with very many sales: exact, and in bounded memory of the worker."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psutil
import psycopg
import pytest

from app.db.postgres import PostgresGateway
from app.db.store import TenantStore
from app.tenancy import parse_tenant_id

BIG = parse_tenant_id("big")
SMALL = parse_tenant_id("small")
DAYS = 1_000
LAST = datetime(2026, 10, 31, 12, tzinfo=UTC)
MAX_GROWTH_MB = 300


def fill(url: str, n_sales: int) -> None:
    """Sales at even steps over a thousand days, a hundredth of them repeated exactly; and a small tenant beside it."""
    step = timedelta(days=DAYS) / n_sales
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(
            "insert into public.negocios (id, nombre, zona_horaria) values (%s, 'big', 'America/Santiago'), "
            "(%s, 'small', 'UTC')",
            (BIG, SMALL),
        )
        owner.execute("set session_replication_role = replica")  # a foreign key looked up a million times
        owner.execute(
            "insert into public.ventas (negocio_id, id, fecha, total, producto_id) "
            "select %s, i::text, %s::timestamptz - (i - (i %% 100 = 0)::int) * %s::interval, "
            "((i - (i %% 100 = 0)::int) %% 997) / 100.0, 'p' from generate_series(1, %s) as i",
            (BIG, LAST, step, n_sales),
        )
        owner.execute("insert into public.ventas (negocio_id, id, fecha, total) values (%s, '1', %s, 5)", (SMALL, LAST))
        owner.execute("analyze public.ventas")


def expected_total(n_sales: int) -> Decimal:
    """Summed here, row by row, and not by the database."""
    cents = sum((i - (i % 100 == 0)) % 997 for i in range(1, n_sales + 1))
    return Decimal(cents) / 100


def check(url: str, n_sales: int) -> None:
    fill(url, n_sales)
    gateway = PostgresGateway(url, statement_timeout_seconds=600)
    process = psutil.Process()
    TenantStore(gateway, SMALL).read_input(None, 1_460, 3_650)
    before = process.memory_info().rss

    found = TenantStore(gateway, BIG).read_input(LAST.date(), 1_460, 3_650)
    checked = TenantStore(gateway, BIG).check_sales()

    grown = (process.memory_info().rss - before) / 2**20
    gateway.close()
    assert grown < MAX_GROWTH_MB
    assert sum(Decimal(repr(value)) for value in found["sales"]) == expected_total(n_sales)
    assert (found["quality"]["rows"], sum(found["rows"])) == (n_sales, n_sales)
    assert found["quality"]["duplicates"] == n_sales // 100
    assert DAYS <= len(found["sales"]) <= DAYS + 2
    assert (checked["rows"], Decimal(checked["total"])) == (n_sales, expected_total(n_sales))


def test_a_million_sales_of_one_tenant_are_summed_to_the_cent(database_url: str) -> None:
    check(database_url, 1_000_000)


@pytest.mark.big
@pytest.mark.timeout(1_800)
def test_ten_million_sales_of_one_tenant_stay_within_the_workers_memory(database_url: str) -> None:
    check(database_url, 10_000_000)
