"""Migrations on real servers: in order, once, by anybody at once, and beside a product that was there before."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest

from app.db import migrate as module
from app.db.migrate import migrate, status, uninstall
from app.db.postgres import PostgresGateway
from app.errors import ConfigError, DatabaseUnavailable, MigrationRefused, WrongKey
from tests.servers.postgres import PostgresServer, running_postgres

CHECKOUT = Path(__file__).parents[2]
SHOP = UUID("cccccccc-0000-4000-8000-000000000003")

# A product of somebody else: names, types and policies of its own, forced, and one of our example's table names.
PRODUCT = """
create table public.merchants (merchant_key uuid primary key, title text, tz text);
create table public.orders (
  order_no bigint primary key, merchant_key uuid references public.merchants, placed timestamptz, cents bigint
);
create table public.ventas (id int primary key, note text);
alter table public.orders enable row level security;
alter table public.orders force row level security;
create policy "Owners see their orders" on public.orders for select to authenticated
  using (merchant_key::text = current_setting('app.merchant', true));
create policy "Nobody deletes" on public.orders as restrictive for delete using (false);
grant select on public.orders to authenticated;
insert into public.merchants values ('cccccccc-0000-4000-8000-000000000003', 'Kiosk', 'America/Bogota');
insert into public.ventas values (1, 'not ours');
"""
VIEWS = """
create or replace view tenantcast_source.tenant_source as
select m.merchant_key as tenant_id, m.title as name, m.tz as time_zone, 0 as cutoff_hour, 'CO'::text as country,
       'es'::text as language, 'COP'::text as currency, true as active
from public.merchants as m
where m.merchant_key = (select tenantcast_source.current_tenant()) or current_user = 'tenantcast_system';
create or replace view tenantcast_source.sales_source as
select o.merchant_key as tenant_id, o.order_no::text as sale_id, o.placed as sold_at, o.cents / 100.0 as amount,
       1::numeric as quantity, null::text as product_id
from public.orders as o
where o.merchant_key = (select tenantcast_source.current_tenant());
"""
# Everything about the product's tables that a migration could change.
FINGERPRINT = """
select c.relname, c.relrowsecurity, c.relforcerowsecurity, c.relacl::text, c.relowner::regrole::text,
       (select array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) order by a.attnum)
        from pg_attribute a where a.attrelid = c.oid and a.attnum > 0),
       (select array_agg(p::text order by p.polname) from (
          select polname, polcmd, polpermissive, polroles, pg_get_expr(polqual, polrelid)
          from pg_policy where polrelid = c.oid) p),
       (select array_agg(pg_get_constraintdef(k.oid) order by k.conname) from pg_constraint k where k.conrelid = c.oid),
       (select array_agg(t.tgname::text order by t.tgname) from pg_trigger t where t.tgrelid = c.oid)
from pg_class c where c.relname in ('merchants', 'orders', 'ventas') order by 1
"""


def ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()


def objects(url: str) -> set[tuple[Any, ...]]:
    """Every relation, function and schema that is not PostgreSQL's own."""
    return set(
        ask(
            url,
            "select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = relnamespace"
            " where n.nspname !~ '^(pg_|information_schema|supabase_migrations)'"
            " union all select n.nspname::text, p.oid::regprocedure::text from pg_proc p"
            " join pg_namespace n on n.oid = pronamespace where n.nspname !~ '^(pg_|information_schema)'"
            " union all select 'schema', nspname::text from pg_namespace"
            " where nspname !~ '^(pg_|information_schema|supabase_migrations)'",
        )
    )


def files(folder: str) -> list[str]:
    return sorted(path.stem for path in (CHECKOUT / "supabase" / folder).glob("*.sql"))


@pytest.fixture(scope="module")
def bare_server() -> Iterator[PostgresServer]:
    """A cluster without a single role of ours or of Supabase's."""
    with running_postgres() as server:
        yield server


def test_all_files_are_applied_in_order_and_only_once(empty_database_url: str) -> None:
    first = migrate(empty_database_url, examples=True)
    second = migrate(empty_database_url, examples=True)

    assert list(first.applied) == files("migrations") + files("examples")
    assert first.already == ()
    assert second.applied == ()
    assert second.already == first.applied
    kept = ask(
        empty_database_url, "select version, name, statements[1] from supabase_migrations.schema_migrations order by 1"
    )
    assert [f"{version}_{name}" for version, name, _ in kept] == sorted(first.applied)
    assert kept[0][2] == (CHECKOUT / "supabase" / "migrations" / f"{first.applied[0]}.sql").read_text(encoding="utf-8")


def test_the_example_can_come_later(empty_database_url: str) -> None:
    migrate(empty_database_url)

    report = migrate(empty_database_url, examples=True)

    assert list(report.applied) == files("examples")


def test_status_tells_what_is_pending_and_changes_nothing(empty_database_url: str) -> None:
    before = status(empty_database_url)
    untouched = objects(empty_database_url)
    migrate(empty_database_url)
    after = status(empty_database_url)

    assert (before.applied, list(before.pending)) == ((), files("migrations"))
    assert untouched == {("schema", "public")}
    assert (list(after.applied), after.pending, after.others) == (files("migrations"), (), 0)


def test_many_may_migrate_at_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(migrate, [empty_database_url] * 4))

    applied = sorted(label for report in reports for label in report.applied)
    assert applied == files("migrations")  # each file once, by whichever came first


def test_the_history_of_a_product_that_uses_the_supabase_cli_is_kept(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(
            "create schema supabase_migrations; create table supabase_migrations.schema_migrations ("
            "version text not null primary key, statements text[], name text, created_by text);"
            "insert into supabase_migrations.schema_migrations values ('20200101000000', '{select 1}', 'shop', 'me')"
        )

    migrate(empty_database_url)

    assert status(empty_database_url).others == 1
    kept = ask(
        empty_database_url, "select name, created_by from supabase_migrations.schema_migrations order by version"
    )
    assert kept[0] == ("shop", "me")


def test_a_file_that_the_database_refuses_leaves_nothing_behind(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "20200101000000_good.sql").write_text("create table good (id int);")
    (folder / "20200101000001_bad.sql").write_text("create table half (id int); select 1 / 0;")
    monkeypatch.setattr(module, "_sql_folder", lambda: folder)

    with pytest.raises(MigrationRefused, match="20200101000001_bad: division by zero"):
        migrate(empty_database_url)

    assert {name for _, name in objects(empty_database_url)} == {"good", "public"}
    assert status(empty_database_url).pending == ("20200101000001_bad",)


def test_a_table_name_that_is_taken_is_named(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("create table public.notifications (id int)")

    with pytest.raises(MigrationRefused, match=r"tenant_tables.*notifications"):
        migrate(empty_database_url)

    assert ask(empty_database_url, "select * from public.notifications") == []


def test_over_postgrest_the_next_step_is_supabase_db_push() -> None:
    with pytest.raises(MigrationRefused, match="supabase db push"):
        migrate("https://project.supabase.co")


def test_an_address_that_leads_nowhere_is_told_apart(postgres_server: PostgresServer) -> None:
    with pytest.raises(DatabaseUnavailable):
        status("postgresql://nobody:hush@127.0.0.1:1/none")
    with pytest.raises(ConfigError) as unreadable:
        status("not an address")
    with pytest.raises(ConfigError, match="no database of that name"):
        status(postgres_server.url("no_such_database"))
    with pytest.raises(WrongKey) as refused:
        status(postgres_server.loopback_url("postgres", "postgres", "hush-hush"))

    assert "hush" not in str(refused.value)
    assert "not an address" not in str(unreadable.value)


def test_a_login_that_is_no_superuser_can_migrate_and_work(bare_server: PostgresServer) -> None:
    with psycopg.connect(bare_server.url("postgres"), autocommit=True) as connection:
        connection.execute("create role project login createrole bypassrls")
        connection.execute("create database plain owner project")
    url = bare_server.url("plain", user="project")

    migrate(url, examples=True)

    gateway = PostgresGateway(url)
    imported = gateway.call("example_import_sales", {"p_tenant_id": SHOP, "p_tenant": {"name": "Kiosk"}, "p_rows": []})
    tenants = gateway.call("ml_list_tenants", {})
    checked = gateway.call("ml_check_installation", {})
    gateway.close()
    assert isinstance(imported, dict)
    assert isinstance(tenants, list)
    assert [tenant["name"] for tenant in tenants if isinstance(tenant, dict)] == ["Kiosk"]
    assert isinstance(checked, dict)
    assert checked["lint"] == []


def test_another_login_works_as_a_member_of_our_two_roles_and_sees_no_table(bare_server: PostgresServer) -> None:
    url = bare_server.create_database("shared")
    migrate(url, examples=True)
    with psycopg.connect(url) as connection:
        connection.execute("create role worker_login login")
        connection.execute("grant tenantcast_worker, tenantcast_system to worker_login")

    gateway = PostgresGateway(bare_server.url("shared", user="worker_login"))
    started = gateway.call("ml_start_run", {"p_kind": "retrain", "p_params": {}, "p_code_version": "1"})
    read = gateway.call("ml_read_forecast", {"p_tenant_id": SHOP})
    gateway.close()

    assert isinstance(started, dict)
    assert started["items"] == 0
    assert isinstance(read, dict)
    assert read["predictions"] == []
    denied = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with psycopg.connect(bare_server.url("shared", user="worker_login")) as connection, denied:
        connection.execute("select * from public.ventas")


def test_uninstall_wants_a_yes(database_url: str) -> None:
    before = objects(database_url)

    with pytest.raises(MigrationRefused, match="--yes"):
        uninstall(database_url, yes=False)

    assert objects(database_url) == before


def test_uninstall_takes_everything_of_ours_and_nothing_else(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(PRODUCT)
    before, print_before = objects(empty_database_url), ask(empty_database_url, FINGERPRINT)
    migrate(empty_database_url)

    uninstall(empty_database_url, yes=True)

    assert objects(empty_database_url) == before
    assert ask(empty_database_url, FINGERPRINT) == print_before
    assert status(empty_database_url).applied == ()
    assert len(migrate(empty_database_url).applied) == len(files("migrations"))  # and it can come back


def test_uninstall_keeps_the_examples_tables(empty_database_url: str) -> None:
    migrate(empty_database_url, examples=True)

    uninstall(empty_database_url, yes=True)

    left = {name for schema, name in objects(empty_database_url) if schema == "public"}
    assert {"negocios", "productos", "ventas"} <= left
    assert not {name for name in left if name.startswith(("ml_", "tenant_", "example_"))}


def test_a_products_own_tables_are_read_and_never_touched(empty_database_url: str) -> None:
    # Ten whole days of the shop's own calendar: its yesterday is not always UTC's.
    day = datetime.now(ZoneInfo("America/Bogota")).replace(hour=10, minute=0, second=0, microsecond=0) - timedelta(
        days=10
    )
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(PRODUCT)
        for number in range(10):
            connection.execute(
                "insert into public.orders values (%s, %s, %s, %s)",
                (number, SHOP, day + timedelta(days=number), 1050 + number),
            )
    before = ask(empty_database_url, FINGERPRINT)

    migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(VIEWS)

    gateway = PostgresGateway(empty_database_url)
    read = gateway.call(
        "ml_read_input", {"p_tenant_id": SHOP, "p_as_of": None, "p_max_days": 100, "p_stale_after_days": 28}
    )
    checked = gateway.call("ml_check_installation", {})
    gateway.close()
    assert isinstance(read, dict)
    assert read["sales"] == [10.5, 10.51, 10.52, 10.53, 10.54, 10.55, 10.56, 10.57, 10.58, 10.59]
    assert isinstance(checked, dict)
    assert checked["lint"] == []
    assert checked["source_rows"] == [{"tenant_id": str(SHOP), "rows": 10, "total": "105.45"}]
    assert ask(empty_database_url, FINGERPRINT) == before
    assert ask(empty_database_url, "select * from public.ventas") == [(1, "not ours")]


def test_the_example_stops_at_tables_of_the_same_name(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(PRODUCT)

    with pytest.raises(MigrationRefused, match="example"):
        migrate(empty_database_url, examples=True)

    assert ask(empty_database_url, "select * from public.ventas") == [(1, "not ours")]
