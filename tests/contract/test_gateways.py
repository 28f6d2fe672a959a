"""What every gateway promises, whatever it speaks: the same values, whole, or an error that says what to do."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
import pytest

from app.config.settings import Settings
from app.db.connect import open_gateway
from app.db.gateway import Gateway
from app.db.store import SystemStore, TenantStore
from app.errors import DatabaseUnavailable, NotInstalled, QueryRefused, WrongKey
from app.tenancy import parse_tenant_id
from tests.contract.conftest import GATEWAYS, POSTGRES, Way
from tests.servers.postgres import PostgresServer, free_port
from tests.servers.postgrest import running_postgrest

TENANT = parse_tenant_id("Panadería «La Ñandú» 🥐")
FACTS = {"name": "Panadería «La Ñandú» 🥐", "time_zone": "America/Bogota", "cutoff_hour": 4, "country": "CO",
         "language": "es", "currency": "COP", "active": True}  # fmt: skip


@contextmanager
def opened(settings: Settings) -> Iterator[Gateway]:
    gateway = open_gateway(settings)
    try:
        yield gateway
    finally:
        gateway.close()


def fill(gateway: Gateway, rows: int) -> TenantStore:
    """A tenant with ``rows`` sales of 0.10 each, a minute apart."""
    store = TenantStore(gateway, TENANT)
    start = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    sales = [
        {"sale_id": f"s{number:05}", "sold_at": datetime.fromtimestamp(start + 60 * number, UTC).isoformat(),
         "amount": "0.10", "quantity": "1", "product_id": None}
        for number in range(rows)
    ]  # fmt: skip
    store.import_sales(FACTS, sales)
    return store


def add_tenants(database_url: str, count: int) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into public.negocios (id, nombre) "
            "select gen_random_uuid(), 'shop ' || n from generate_series(1, %s) as n",
            [count],
        )


def test_all_gateways_give_equal_values_for_one_database(database_url: str) -> None:
    ways = [Settings(database_url=database_url)]
    answers: list[list[str]] = []

    with opened(ways[0]) as gateway:
        fill(gateway, 40)
        run_id = UUID(SystemStore(gateway).start_run("retrain", {"force": False}, "0.1.0")["run_id"])
    with (
        running_postgrest(database_url, 1000) as usual,
        running_postgrest(database_url, 7) as tiny,
    ):
        ways += [Settings(supabase_url=rest.url, supabase_service_role_key=rest.key()) for rest in (usual, tiny)]
        for settings in ways:
            with opened(settings) as gateway:
                tenant, system = TenantStore(gateway, TENANT), SystemStore(gateway)
                values = [
                    tenant.read_input(date(2026, 3, 2), 1460, 28),
                    tenant.read_sales_page(None, None, 100),
                    tenant.read_sales_page(datetime(2026, 3, 1, 0, 5, tzinfo=UTC), "s00005", 3),
                    tenant.check_sales(),
                    tenant.read_forecast(),
                    tenant.read_model("sales_forecast"),
                    tenant.list_models(),
                    tenant.read_snapshot("none"),
                    system.list_tenants(),
                    system.read_settings([TENANT]),
                    system.list_runs(10),
                    system.show_run(run_id),
                    system.check_installation(),
                ]
                answers.append([json.dumps(value) for value in values])

    assert answers[1] == answers[0]
    assert answers[2] == answers[0]


def test_an_answer_longer_than_the_row_limit_arrives_whole(gateway: Gateway, database_url: str) -> None:
    store = fill(gateway, 1203)
    add_tenants(database_url, 1100)

    page = store.read_sales_page(None, None, 2000)
    tenants = SystemStore(gateway).list_tenants(page=1050)

    assert [row["sale_id"] for row in page] == [f"s{number:05}" for number in range(1203)]
    assert len({row["tenant_id"] for row in tenants}) == 1101
    assert Decimal(store.check_sales()["total"]) == Decimal("120.30")


def test_nested_text_numbers_and_nothing_come_back_as_they_were_sent(gateway: Gateway) -> None:
    store = fill(gateway, 1)
    settings = {
        "texts": ["é", "🥐", "'; drop table ventas; --", "a\\b", 'say "no"', ""],
        "numbers": [0, -1, 2**53, 0.1, 1e-300, 12345.678901234567],
        "nothing": None,
        "deep": {"a": [{"b": [[], {}]}], "yes": True},
    }

    store.write_settings(settings)

    assert store.read_input(None, 100, 28)["settings"] == settings


def test_days_instants_and_ids_may_be_sent_as_they_are(gateway: Gateway) -> None:
    store = fill(gateway, 10)

    page = store.read_sales_page(datetime(2026, 3, 1, 0, 7, tzinfo=UTC), "s00007", 10)
    read = store.read_input(date(2026, 2, 28), 100, 28)

    # 00:00 to 00:09 UTC is the evening of 28 February in Bogotá.
    assert [row["sale_id"] for row in page] == ["s00008", "s00009"]
    assert (read["as_of"], read["rows"], read["sales"]) == ("2026-02-28", [10], [1.0])


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_lacks_is_refused_and_nothing_is_written(gateway: Gateway, number: float) -> None:
    store = fill(gateway, 1)

    with pytest.raises(QueryRefused, match="JSON"):
        store.write_settings({"level": [1.0, {"x": number}]})

    assert store.read_input(None, 100, 28)["settings"] is None


def test_a_refused_statement_says_why_and_quotes_no_value(gateway: Gateway) -> None:
    fill(gateway, 1)

    with pytest.raises(QueryRefused) as caught:
        gateway.call("ml_show_run", {"p_run_id": "secret-value", "p_after": None, "p_limit": 1})

    assert "ml_show_run" in caught.value.message
    assert "22P02" in caught.value.message
    assert "secret-value" not in str(caught.value)


def test_a_database_without_our_functions_is_not_installed(
    gateway_kind: str, empty_database_url: str, template_database: str
) -> None:
    with (
        way_to(gateway_kind, empty_database_url) as settings,
        opened(settings) as gateway,
        pytest.raises(NotInstalled, match="ml_list_tenants") as caught,
    ):
        SystemStore(gateway).list_tenants()

    assert ("supabase db push" if gateway_kind != POSTGRES else "tenantcast db migrate") in caught.value.next_step


def test_a_host_that_nobody_answers_at_is_unavailable(gateway_kind: str) -> None:
    port = free_port()
    settings = (
        Settings(database_url=f"postgresql://somebody:pw@127.0.0.1:{port}/shop")
        if gateway_kind == POSTGRES
        else Settings(supabase_url=f"http://127.0.0.1:{port}", supabase_service_role_key="key")
    )

    with pytest.raises(DatabaseUnavailable) as caught, opened(settings) as gateway:
        SystemStore(gateway).list_tenants()

    assert caught.value.next_step
    assert "pw" not in str(caught.value)


def test_a_call_after_the_server_dropped_every_connection_succeeds(gateway: Gateway, database_url: str) -> None:
    store = fill(gateway, 3)
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )

    assert store.check_sales()["rows"] == 3


def test_a_wrong_password_is_a_wrong_key(postgres_server: PostgresServer, database_url: str) -> None:
    role, database = f"r{uuid4().hex}", psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(database_url) as connection:
        connection.execute(f"create role {role} login password 'right'")
    settings = Settings(database_url=postgres_server.loopback_url(str(database), role, "wrong-secret"))

    with pytest.raises(WrongKey) as caught, opened(settings) as gateway:
        SystemStore(gateway).list_tenants()

    assert "wrong-secret" not in str(caught.value)


@pytest.mark.parametrize("gateway_kind", ["supabase-1000"])
@pytest.mark.parametrize("kind", ["anon", "of another project", "expired", "no token", "not even text for a header"])
def test_a_key_that_may_not_call_us_is_a_wrong_key(way: Way, kind: str) -> None:
    assert way.postgrest is not None
    keys = {
        "anon": way.postgrest.key("anon"),
        "of another project": way.postgrest.key()[:-6] + "AAAAAA",
        "expired": way.postgrest.key(exp=1_700_000_000),
        "no token": "sb_publishable_0123456789",
        "not even text for a header": "ключ\n",
    }
    settings = Settings(supabase_url=way.postgrest.url, supabase_service_role_key=keys[kind])

    with pytest.raises(WrongKey) as caught, opened(settings) as gateway:
        SystemStore(gateway).list_tenants()

    assert "SUPABASE_SERVICE_ROLE_KEY" in caught.value.next_step
    assert keys[kind].strip() not in str(caught.value)


def test_closing_twice_is_harmless(gateway: Gateway) -> None:
    SystemStore(gateway).list_tenants()

    gateway.close()
    gateway.close()


@contextmanager
def way_to(kind: str, database_url: str) -> Iterator[Settings]:
    if kind == POSTGRES:
        yield Settings(database_url=database_url)
        return
    with running_postgrest(database_url, GATEWAYS[kind]) as rest:
        yield Settings(supabase_url=rest.url, supabase_service_role_key=rest.key())
