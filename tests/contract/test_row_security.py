"""Row security, cell by cell: every role, every table of ours, every command, rows of one's own and of others.

Tables come from the catalogue: a new one is tested before anybody has written a test for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg import sql

from app.db.postgres import PostgresGateway
from tests.contract.ledger_factory import STRANGER, TENANT, published, result, rows
from tests.servers.postgrest import running_postgrest

WORKER = "tenantcast_worker"
SYSTEM = "tenantcast_system"
USER = "authenticated"
ROLES = ("anon", USER, "service_role", WORKER, SYSTEM)
LEDGER = {"ml_run", "ml_run_item", "notification_ticks"}  # the only tables of the system role, for every tenant
SYSTEM_COMMANDS = {"notification_deliveries": {"select"}}  # which messages are due, not what they say
HIDDEN = {
    "ml_run", "ml_input_snapshot", "ml_quarantine", "notification_channels", "notification_deliveries",
    "notification_ticks",
}  # fmt: skip
COMMANDS = {"select", "insert", "update", "delete"}
WORKER_COMMANDS = {
    "ml_forecast_ledger": {"select", "insert"},  # append-only
    "ml_input_snapshot": {"select", "insert"},
    "ml_run_item": {"select", "update"},
    "ml_models": COMMANDS - {"delete"},
    "ml_active_forecast": COMMANDS - {"delete"},
    "notification_ticks": set(),
}

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def filled_url(database_url: str) -> str:
    """A database with at least one row of two tenants in every table of ours."""
    gateway = PostgresGateway(database_url)
    for tenant in (TENANT, STRANGER):
        total = {"yhat": 70.0, "yhat_lower": 60.0, "yhat_upper": 80.0}
        published(gateway, result() | {"totals": {"total_7": total}}, tenant)
        day = {"day": "2026-12-24", "kind": "event", "name": "x"}
        gateway.call("ml_write_calendar", {"p_tenant_id": tenant, "p_days": [day], "p_replace": False})
        gateway.call("ml_write_settings", {"p_tenant_id": tenant, "p_settings": {"horizon_days": 7}})
        feature = {"feature_date": "2026-11-20", "feature_type": "ma7", "feature_values": {"value": 1}}
        gateway.call("ml_write_features", {"p_tenant_id": tenant, "p_rows": [feature]})
    gateway.close()
    with psycopg.connect(database_url) as connection:
        for tenant in (TENANT, STRANGER):
            connection.execute("insert into ml_quarantine values (%s, 'f.csv', 1, 'bad', 'raw')", (tenant,))
            connection.execute(
                "insert into business_notification_config (tenant_id, rule, channel) values (%s, 'r', 'c')", (tenant,)
            )
            connection.execute("insert into notification_channels values (%s, 'email', 'a@example.com')", (tenant,))
            connection.execute("insert into notification_ticks values (%s, 'rules')", (tenant,))
            connection.execute(
                "insert into notification_deliveries (tenant_id, notification_id, channel)"
                " select tenant_id, notification_id, 'email' from notifications where tenant_id = %s",
                (tenant,),
            )
    return database_url


def our_tables(url: str) -> list[str]:
    return [row[0] for row in rows(url, "select o::text from tenantcast_internal.our_tables(false) as o order by 1")]


def tenant_tables(url: str) -> list[str]:
    return [table for table in our_tables(url) if table != "ml_run"]


@contextmanager
def acting_as(url: str, role: str, tenant: UUID | None) -> Iterator[Connection]:
    """A connection as ``role``, for ``tenant`` in every way in which one can be set; what it does is undone."""
    with psycopg.connect(url) as connection:
        if tenant is not None:
            claims = f'{{"role": "{role}", "tenant_id": "{tenant}"}}'
            connection.execute("select set_config('app.tenant_id', %s, true)", (str(tenant),))
            connection.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
        connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
        yield connection
        connection.rollback()


def attempt(connection: Connection, statement: str, *params: object) -> int | str:
    """Rows that a statement touched or returned, or the name of the error."""
    try:
        with connection.transaction(force_rollback=True):
            return connection.execute(statement, params).rowcount
    except psycopg.Error as error:
        return type(error).__name__


def may(role: str, table: str, command: str) -> bool:
    """Whether ``role`` has a right to ``command`` at all: stated here, apart from the migrations."""
    if role == SYSTEM:
        return command in SYSTEM_COMMANDS.get(table, {"select", "insert", "update"} if table in LEDGER else set())
    if role == USER:
        return command == "select" and table not in HIDDEN
    return role == WORKER and command in WORKER_COMMANDS.get(table, COMMANDS)


DENIED = "InsufficientPrivilege"


@pytest.mark.parametrize("role", ROLES)
def test_nobody_reads_a_row_of_another_tenant(filled_url: str, role: str) -> None:
    for table in tenant_tables(filled_url):
        with acting_as(filled_url, role, TENANT) as connection:
            own = attempt(connection, f"select tenant_id from {table} where tenant_id = %s", TENANT)
            foreign = attempt(connection, f"select tenant_id from {table} where tenant_id <> %s", TENANT)
        cell = (role, table, own, foreign)
        if not may(role, table, "select"):
            assert (own, foreign) == (DENIED, DENIED), cell
        elif role == SYSTEM:
            assert isinstance(own, int), cell
            assert own >= 1, cell
            assert foreign == own, cell  # the ledger of every tenant
        else:
            assert isinstance(own, int), cell
            assert own >= 1, cell
            assert foreign == 0, cell


@pytest.mark.parametrize("role", [USER, WORKER])
def test_without_a_tenant_there_are_no_rows(filled_url: str, role: str) -> None:
    for table in tenant_tables(filled_url):
        with acting_as(filled_url, role, None) as connection:
            found = attempt(connection, f"select tenant_id from {table}")
        assert found == (0 if may(role, table, "select") else DENIED), (role, table, found)


@pytest.mark.parametrize("role", ROLES)
def test_nobody_changes_a_row_of_another_tenant(filled_url: str, role: str) -> None:
    for table in tenant_tables(filled_url):
        for command, statement in {
            "update": f"update {table} set tenant_id = tenant_id where tenant_id = %s",
            "delete": f"delete from {table} where tenant_id = %s",
        }.items():
            with acting_as(filled_url, role, TENANT) as connection:
                own = attempt(connection, statement, TENANT)
                foreign = attempt(connection, statement, STRANGER)
            cell = (role, table, command, own, foreign)
            if not may(role, table, command):
                assert (own, foreign) == (DENIED, DENIED), cell
            elif role == SYSTEM:
                assert isinstance(foreign, int), cell
                assert foreign >= 1, cell
            else:
                assert own == "ForeignKeyViolation" or (isinstance(own, int) and own >= 1), cell
                assert foreign == 0, cell


@pytest.mark.parametrize("role", ROLES)
def test_nobody_moves_or_inserts_a_row_into_another_tenant(filled_url: str, role: str) -> None:
    for table in tenant_tables(filled_url):
        copies = {
            tenant: rows(filled_url, f"select to_jsonb(t)::text from {table} t where tenant_id = %s limit 1", tenant)
            for tenant in (TENANT, STRANGER)
        }
        insert = f"insert into {table} select * from jsonb_populate_record(null::{table}, %s::jsonb)"
        move = f"update {table} set tenant_id = %s where tenant_id = %s"
        with acting_as(filled_url, role, TENANT) as connection:
            own = attempt(connection, insert, copies[TENANT][0][0])
            foreign = attempt(connection, insert, copies[STRANGER][0][0])
            moved = attempt(connection, move, STRANGER, TENANT)
        cell = (role, table, own, foreign, moved)
        if role == SYSTEM and may(role, table, "insert"):
            assert (own, foreign) == ("UniqueViolation", "UniqueViolation"), cell
            continue
        # A copy of one's own row gets past the policy and meets the key; a foreign one does not get that far.
        assert own == ("UniqueViolation" if may(role, table, "insert") else DENIED), cell
        assert foreign == DENIED, cell
        assert moved == DENIED, cell


def test_a_worker_sees_the_runs_that_hold_its_tenant_and_no_others(filled_url: str) -> None:
    own = rows(filled_url, "select run_id from ml_run_item where tenant_id = %s", TENANT)

    with acting_as(filled_url, WORKER, TENANT) as connection:
        seen = connection.execute("select run_id from ml_run").fetchall()

    assert len(rows(filled_url, "select 1 from ml_run")) == 2
    assert seen == own


@pytest.mark.parametrize("view", ["v_sales_forecast", "v_sales_totals", "v_sales_anomalies", "v_forecast_status"])
def test_dashboard_views_show_the_tenant_of_the_token(filled_url: str, view: str) -> None:
    seen: dict[UUID | None, int | str] = {}
    for tenant in (TENANT, None):
        with acting_as(filled_url, USER, tenant) as connection:
            seen[tenant] = attempt(connection, f"select * from {view}")
            foreign = attempt(connection, f"select * from {view} where tenant_id <> %s", TENANT)
            assert foreign == 0
    others = {}
    for role in ("anon", "service_role", WORKER, SYSTEM):
        with acting_as(filled_url, role, TENANT) as connection:
            others[role] = attempt(connection, f"select * from {view}")

    assert isinstance(seen[TENANT], int)
    assert seen[TENANT] == {"v_sales_forecast": 3}.get(view, 1)
    assert seen[None] == 0
    assert set(others.values()) == {DENIED}


def test_dashboards_see_the_totals_of_the_current_forecast_alone(filled_url: str) -> None:
    gateway = PostgresGateway(filled_url)
    month = {"yhat": 300.0, "yhat_lower": 200.0, "yhat_upper": 400.0}
    week = {"yhat": 75.0, "yhat_lower": 60.0, "yhat_upper": 80.0}
    published(gateway, result(version="v2") | {"totals": {"total_7": week, "total_28": month}})
    gateway.close()

    with acting_as(filled_url, USER, TENANT) as connection:
        seen = connection.execute("select days, yhat, yhat_lower, yhat_upper from v_sales_totals order by 1").fetchall()

    assert seen == [(7, 75.0, 60.0, 80.0), (28, 300.0, 200.0, 400.0)]


@pytest.mark.parametrize(
    ("claims", "days"),
    [
        (f'{{"tenant_id": "{TENANT}"}}', 3),
        (f'{{"app_metadata": {{"tenant_id": "{TENANT}"}}}}', 3),
        (f'{{"user_metadata": {{"tenant_id": "{TENANT}"}}}}', 0),  # users write that themselves
        ('{"tenant_id": "\' or true --"}', 0),
        ('{"tenant_id": null}', 0),
        ("[]", 0),
        ("no json", 0),
        ("", 0),
    ],
)
def test_only_a_tenant_that_the_server_signed_counts(filled_url: str, claims: str, days: int) -> None:
    with psycopg.connect(filled_url) as connection:
        connection.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
        connection.execute("set local role authenticated")

        seen = connection.execute("select * from v_sales_forecast").fetchall()

    assert len(seen) == days


def _marked(url: str) -> dict[UUID, bool]:
    return dict(rows(url, "select tenant_id, read_at is not null from notifications"))


def test_a_signed_in_user_marks_messages_of_the_tenant_of_the_token_and_no_others(filled_url: str) -> None:
    ids = [row[0] for row in rows(filled_url, "select notification_id from notifications")]
    answers: list[Any] = []
    for tenant in (None, TENANT, TENANT):
        with psycopg.connect(filled_url) as connection:
            claims = f'{{"tenant_id": "{tenant}"}}' if tenant else ""
            connection.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
            connection.execute("set local role authenticated")
            answers += connection.execute("select mark_notifications_read(%s)", (ids,)).fetchone() or ()

    assert len(ids) == 2
    assert answers == [{"read": 0}, {"read": 1}, {"read": 0}]
    assert _marked(filled_url) == {TENANT: True, STRANGER: False}


def test_of_a_message_a_signed_in_user_changes_nothing_but_that_it_was_read(filled_url: str) -> None:
    changes = {"title": "'x'", "state": "'pending'", "dedupe_key": "'x'", "tenant_id": f"'{STRANGER}'::uuid"}
    with acting_as(filled_url, USER, TENANT) as connection:
        found = {c: attempt(connection, f"update notifications set {c} = {value}") for c, value in changes.items()}
        by_hand = attempt(connection, "update notifications set read_at = null")  # unread again: one's own
        too_many = attempt(connection, "select mark_notifications_read(array_fill(gen_random_uuid(), array[1001]))")

    assert found == dict.fromkeys(changes, DENIED)
    assert by_hand == 1
    assert too_many not in {1, DENIED}


@pytest.mark.parametrize("role", [role for role in ROLES if role != USER])
def test_nobody_else_may_mark_messages(filled_url: str, role: str) -> None:
    with acting_as(filled_url, role, TENANT) as connection:
        assert attempt(connection, "select mark_notifications_read('{}')") == DENIED


def test_an_app_marks_messages_over_postgrest_with_its_users_token(filled_url: str) -> None:
    ids = [str(row[0]) for row in rows(filled_url, "select notification_id from notifications")]
    with running_postgrest(filled_url, 1000) as server:
        key = server.key(USER, tenant_id=str(TENANT))
        answers = [
            httpx.post(
                f"{server.url}/rest/v1/rpc/mark_notifications_read",
                json={"p_notification_ids": ids},
                headers={"Authorization": f"Bearer {token}", "apikey": token},
                timeout=60,
            )
            for token in (key, server.key("anon"))
        ]

    assert [answers[0].status_code, answers[0].json()] == [200, {"read": 1}]
    assert answers[1].status_code == 401
    assert _marked(filled_url) == {TENANT: True, STRANGER: False}


def test_model_artefacts_are_not_for_dashboards(filled_url: str) -> None:
    with acting_as(filled_url, USER, TENANT) as connection:
        assert attempt(connection, "select model_data from ml_models") == DENIED
        assert attempt(connection, "select accuracy from ml_models") == 1


def test_the_worker_reads_no_product_table_directly(filled_url: str) -> None:
    product = rows(
        filled_url,
        "select c.oid::regclass::text from pg_class c where relnamespace = 'public'::regnamespace and relkind = 'r'"
        " and c.oid not in (select o from tenantcast_internal.our_tables(false) as o)",
    )

    assert product  # the example's
    for (table,) in product:
        with acting_as(filled_url, WORKER, TENANT) as connection:
            assert attempt(connection, f"select * from {table}") == DENIED, table


# --- the catalogue lint ----------------------------------------------------------------------------------------------


def lint(connection: Connection, *, everything: bool = False) -> list[tuple[Any, ...]]:
    found = connection.execute("select problem, object from tenantcast_internal.lint(%s)", (everything,)).fetchall()
    return [(problem, thing.removeprefix("public.")) for problem, thing in found]


def test_the_lint_finds_nothing_in_what_we_install(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        assert lint(connection) == []


def test_the_lint_finds_nothing_at_all_without_a_product(empty_database_url: str) -> None:
    from app.db.migrate import migrate

    migrate(empty_database_url)

    with psycopg.connect(empty_database_url) as connection:
        assert lint(connection, everything=True) == []


@pytest.mark.parametrize(
    ("change", "problem", "thing"),
    [
        ("create table ml_bare (tenant_id uuid)", "row security is not on and forced", "ml_bare"),
        ("create table ml_bare (tenant_id uuid)", "no policy", "ml_bare"),
        ("alter table ml_models no force row level security", "row security is not on and forced", "ml_models"),
        ("grant select on ml_models to service_role", "granted to service_role", "ml_models"),
        ("grant select on ml_models to public", "granted to public", "ml_models"),
        ("grant insert on ml_models to authenticated", "granted to authenticated", "ml_models"),
        (
            "create policy open on ml_models for select to authenticated using (true)",
            'policy "open" lets authenticated see every tenant',
            "ml_models",
        ),
        (
            "create policy open on ml_models for insert to public with check (true)",
            'policy "open" lets public see every tenant',
            "ml_models",
        ),
        ("create unique index leak on ml_models (model_version)", "unique index without tenant_id", "leak"),
        ("create view plain as select * from ml_predictions", "view is not security_invoker", "plain"),
        (
            "create materialized view mat as select * from ml_predictions; grant select on mat to authenticated",
            "materialised view that signed-in users may read",
            "mat",
        ),
        (
            "grant select on tenantcast_source.sales_source to authenticated",
            "source view is granted to authenticated",
            "tenantcast_source.sales_source",
        ),
        (
            "revoke select on tenantcast_source.sales_source from tenantcast_worker",
            "the worker may not read this source view",
            "tenantcast_source.sales_source",
        ),
        (
            "alter view tenantcast_source.sales_source set (security_invoker = true)",
            "source view runs as its reader, who may not see the product's tables",
            "tenantcast_source.sales_source",
        ),
        (
            (
                "drop view tenantcast_source.product_source; create view tenantcast_source.product_source as"
                " select null::uuid as tenant_id; grant select on tenantcast_source.product_source to tenantcast_worker"
            ),
            "source view lacks its tenant filter",
            "tenantcast_source.product_source",
        ),
        (
            "grant execute on function ml_list_runs(int) to anon",
            "function may be called by anon",
            "ml_list_runs(integer)",
        ),
        (
            "alter function ml_list_runs(int) security definer",
            "function runs as its owner",
            "ml_list_runs(integer)",
        ),
        (
            "grant execute on function tenantcast_internal.count_sales(uuid, bigint) to tenantcast_worker",
            "function that runs as its owner may be called by tenantcast_worker",
            "tenantcast_internal.count_sales(uuid,bigint)",
        ),
        (
            "create function ml_naked() returns int language sql as 'select 1'",
            "function does not switch to a role of ours",
            "ml_naked()",
        ),
        (
            "create function ml_naked() returns int language sql as 'select 1'",
            "function has no fixed search_path",
            "ml_naked()",
        ),
        (
            "alter role tenantcast_worker bypassrls",
            "role may ignore row security or log in",
            "tenantcast_worker",
        ),
        ("grant pg_read_all_data to tenantcast_system", "role is a member of pg_read_all_data", "tenantcast_system"),
    ],
)
def test_the_lint_catches(database_url: str, change: str, problem: str, thing: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(change)

        found = lint(connection)

        connection.rollback()
    assert (problem, thing) in found


def test_the_lint_catches_a_bare_table_of_any_name(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("create table forgotten (tenant_id uuid)")

        found = lint(connection, everything=True)

        connection.rollback()
    assert ("row security is not on and forced", "forgotten") in found
