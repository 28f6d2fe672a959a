"""The psycopg gateway when things go wrong: who is told what, what is tried again, and what never shows."""

import traceback
from uuid import UUID

import psycopg
import pytest
from structlog.testing import capture_logs

from app.db import postgres as module
from app.db.postgres import PostgresGateway
from app.db.postgres_errors import statement_error
from app.errors import ConfigError, DatabaseUnavailable, NotInstalled, QueryRefused, WrongKey
from tests.servers.postgres import PostgresServer

TENANT = UUID("aaaaaaaa-0000-4000-8000-000000000001")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unreachable servers are asked twice, not four times with growing waits."""
    monkeypatch.setattr(module, "ATTEMPTS", 2)


def test_functions_and_parameters_outside_the_list_never_reach_the_database() -> None:
    gateway = PostgresGateway("postgresql://127.0.0.1:1/none")  # would fail if it were asked

    with pytest.raises(QueryRefused, match="no function"):
        gateway.call("pg_sleep", {"seconds": 1})
    with pytest.raises(QueryRefused, match="no parameter p_x"):
        gateway.call("ml_list_runs", {"p_x": 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes", {"deep": [float("-inf")]}])
def test_what_is_not_json_is_refused_before_it_is_sent(gateway: PostgresGateway, value: object) -> None:
    with pytest.raises(QueryRefused, match="not JSON"):
        gateway.call("ml_write_settings", {"p_tenant_id": TENANT, "p_settings": {"x": value}})


@pytest.mark.parametrize("value", ["nul \0 inside", "lone \ud800 surrogate"])
def test_text_that_postgres_cannot_hold_is_refused(gateway: PostgresGateway, value: str) -> None:
    with pytest.raises(QueryRefused):
        gateway.call("ml_write_settings", {"p_tenant_id": TENANT, "p_settings": {"x": value}})
    with pytest.raises(QueryRefused):
        gateway.call("ml_read_snapshot", {"p_tenant_id": TENANT, "p_input_hash": value})


def test_a_refusal_names_the_condition_and_never_the_value(gateway: PostgresGateway) -> None:
    day = {"day": "2026-12-24", "kind": "secret-kind", "name": "x"}

    with pytest.raises(QueryRefused) as refused:
        gateway.call("ml_read_forecast", {"p_tenant_id": "tenant-4711-secret"})
    with pytest.raises(QueryRefused) as checked:
        gateway.call("ml_write_calendar", {"p_tenant_id": TENANT, "p_days": [day], "p_replace": False})

    assert "secret" not in str(refused.value)
    assert "22P02" in str(refused.value)
    assert "secret" not in str(checked.value)
    assert "tenant_calendar_kind_check" in str(checked.value)


def test_a_logged_traceback_holds_no_row(gateway: PostgresGateway) -> None:
    row = {"sale_id": None, "sold_at": "2026-11-01T10:00:00Z", "amount": "4711.08"}

    with pytest.raises(QueryRefused) as refused:
        gateway.call("example_import_sales", {"p_tenant_id": TENANT, "p_tenant": {"name": "x"}, "p_rows": [row]})

    assert "4711" not in "".join(traceback.format_exception(refused.value))


def test_what_our_own_sql_says_is_passed_on(gateway: PostgresGateway) -> None:
    with pytest.raises(QueryRefused, match="settings must be an object"):
        gateway.call("ml_write_settings", {"p_tenant_id": TENANT, "p_settings": [1]})


def test_a_database_without_migrations_says_what_to_do(empty_database_url: str) -> None:
    gateway = PostgresGateway(empty_database_url)

    with pytest.raises(NotInstalled, match="tenantcast db migrate"):
        gateway.call("ml_list_runs", {"p_limit": 1})
    gateway.close()


def test_a_source_view_that_is_gone_is_named_as_such_beside_the_migrations(
    gateway: PostgresGateway, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("drop view tenantcast_source.sales_source")

    with pytest.raises(NotInstalled, match="a source view is gone"):
        gateway.call("ml_check_sales", {"p_tenant_id": TENANT})


def test_a_login_without_rights_and_a_wrong_password_are_wrong_keys(
    postgres_server: PostgresServer, database_url: str
) -> None:
    database = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    stranger = PostgresGateway(postgres_server.url(str(database), user="authenticator"))
    impostor = PostgresGateway(postgres_server.loopback_url(str(database), "postgres", "hush-hush"))

    with pytest.raises(WrongKey):
        stranger.call("ml_list_runs", {"p_limit": 1})
    with pytest.raises(WrongKey) as refused:
        impostor.call("ml_list_runs", {"p_limit": 1})
    stranger.close()

    assert "hush" not in str(refused.value)


def test_an_unreachable_server_is_transient_and_a_bad_address_is_not() -> None:
    with pytest.raises(DatabaseUnavailable) as unreachable:
        PostgresGateway("postgresql://x:hush@127.0.0.1:1/none").call("ml_list_runs", {"p_limit": 1})
    with pytest.raises(ConfigError, match="no address"):
        PostgresGateway("hush hush").call("ml_list_runs", {"p_limit": 1})

    assert "hush" not in str(unreachable.value)


def test_connections_that_were_cut_are_replaced(gateway: PostgresGateway, database_url: str) -> None:
    gateway.call("ml_list_runs", {"p_limit": 1})
    with psycopg.connect(database_url, autocommit=True) as owner:
        for _ in range(3):
            owner.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name = 'tenantcast'"
            )

            assert gateway.call("ml_list_runs", {"p_limit": 1}) == []


def test_a_gateway_that_was_closed_opens_again(gateway: PostgresGateway) -> None:
    gateway.close()
    gateway.close()

    assert gateway.call("ml_list_runs", {"p_limit": 1}) == []


def test_a_statement_that_takes_too_long_is_given_up(database_url: str) -> None:
    with psycopg.connect(database_url) as owner:
        owner.execute(
            "create or replace function public.ml_list_runs(p_limit int) returns jsonb language plpgsql as"
            " $$ begin perform pg_sleep(30); return '[]'; end $$"
        )
    gateway = PostgresGateway(database_url, statement_timeout_seconds=1)

    with pytest.raises(DatabaseUnavailable, match="gave up on ml_list_runs") as given_up, capture_logs() as logs:
        gateway.call("ml_list_runs", {"p_limit": 1})
    gateway.close()

    assert given_up.value.futile
    assert not [entry for entry in logs if entry["event"] == "database_retry"]  # it would take as long again


def test_a_process_frozen_inside_a_transaction_holds_its_locks_for_half_a_minute(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "create or replace function public.ml_list_runs(p_limit int) returns jsonb language sql as"
            " $$ select to_jsonb(current_setting('idle_in_transaction_session_timeout')) $$"
        )
    gateway = PostgresGateway(database_url)

    limit = gateway.call("ml_list_runs", {"p_limit": 1})
    gateway.close()

    assert limit == "30s"


@pytest.mark.parametrize(("function", "calls"), [("ml_finish_run", 2), ("ml_start_run", 1), ("ml_claim_item", 2)])
def test_a_lost_answer_is_asked_for_again_only_where_that_is_harmless(
    monkeypatch: pytest.MonkeyPatch, function: str, calls: int
) -> None:
    asked: list[str] = []

    def answer_is_lost(_self: object, name: str, *_: object) -> None:
        asked.append(name)
        raise statement_error(name, psycopg.OperationalError("server closed the connection unexpectedly"))

    monkeypatch.setattr(PostgresGateway, "_call_once", answer_is_lost)

    with pytest.raises(DatabaseUnavailable):
        PostgresGateway("postgresql://127.0.0.1:1/none").call(function, {})

    assert len(asked) == calls
