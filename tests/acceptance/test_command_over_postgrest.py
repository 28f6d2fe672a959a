"""The command through a real PostgREST with a tiny row limit: the same forecasts as over psycopg, to the last digit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.shell import Shell, private_shell
from tests.sample_transactions import SHOPS, write_sample
from tests.servers.postgres import PostgresServer
from tests.servers.postgrest import running_postgrest

QUICK = {"ML_MODEL_CANDIDATES": "naive,snaive,weekday_mean"}
MAX_ROWS = 7  # Supabase cuts sets at 1000; nothing of ours may depend on the number


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer, template_database: str) -> Iterator[str]:
    """A migrated database like a Supabase project's, shared by this file's tests."""
    with postgres_server.scratch_database(template_database) as url:
        yield url


@pytest.fixture(scope="module")
def over_postgrest(database: str) -> Iterator[Shell]:
    """A directory whose commands reach that database by nothing but its address and the service key."""
    with running_postgrest(database, MAX_ROWS) as server:
        way = {"SUPABASE_URL": server.url, "SUPABASE_SERVICE_ROLE_KEY": server.key()}
        with private_shell(settings=QUICK | way) as shell:
            write_sample(shell.directory / "sales.csv")
            yield shell


@pytest.fixture(scope="module")
def summary(over_postgrest: Shell) -> Any:
    """What `retrain` says after the file was imported."""
    over_postgrest.json("import", "sales.csv")
    return over_postgrest.json("retrain", "--jobs", "2")


def hashes(summary: Any) -> dict[str, str]:
    return {one["name"]: one["output_hash"] for one in summary["tenants"]}


def test_import_and_retrain_over_postgrest_give_the_hashes_that_psycopg_gives(
    over_postgrest: Shell, summary: Any, postgres_server: PostgresServer, template_database: str
) -> None:
    with (
        postgres_server.scratch_database(template_database) as url,
        private_shell(settings=QUICK | {"DATABASE_URL": url}) as direct,
    ):
        direct.json("import", str(over_postgrest.directory / "sales.csv"))
        expected = hashes(direct.json("retrain"))

    assert summary["published"] == len(SHOPS)
    assert set(expected) == set(SHOPS)
    assert hashes(summary) == expected


def test_the_published_forecast_and_its_page_are_read_over_postgrest(over_postgrest: Shell, summary: Any) -> None:
    served = over_postgrest.json("predict", "Sample bakery")
    page = Path(over_postgrest.json("report", "--out", "page.html")["page"])

    assert len(served["days"]) == 28 > MAX_ROWS
    assert all(name in page.read_text(encoding="utf-8") for name in SHOPS)


def test_the_ledger_is_read_over_postgrest(over_postgrest: Shell, summary: Any) -> None:
    shown = over_postgrest.json("runs", "show", summary["run_id"])
    again = over_postgrest.json("retrain")

    assert sorted((item["name"], item["state"]) for item in shown["items"]) == [(name, "done") for name in SHOPS]
    assert (again["unchanged"], hashes(again)) == (len(SHOPS), hashes(summary))


def test_doctor_over_postgrest_finds_the_files_sums(over_postgrest: Shell, summary: Any) -> None:
    found = over_postgrest.json("doctor", "--file", "sales.csv")

    assert found["ok"], [check for check in found["checks"] if check["status"] != "ok"]
    assert [check["status"] for check in found["checks"] if check["name"] == "sales of sales.csv"] == ["ok"]


def test_status_over_postgrest_tells_what_the_database_has(over_postgrest: Shell, database: str) -> None:
    complete = over_postgrest.json("db", "status")  # the last test here: from now on the history lacks a version
    latest = complete["applied"][-1]
    with psycopg.connect(database) as connection:
        history = "supabase_migrations.schema_migrations"
        connection.execute(f"delete from {history} where version = %s", (latest.partition("_")[0],))

    lacking = over_postgrest.json("db", "status", code=2)
    shown = over_postgrest.run("db", "status", code=2).stdout

    assert complete["pending"] == []
    assert complete["url"] == over_postgrest.settings["SUPABASE_URL"]
    assert lacking["pending"] == [latest]
    assert "Next: supabase db push" in shown
