"""The real command as a process, over a private PostgreSQL of its own: the way of a newcomer, and what goes wrong."""

import csv
import gzip
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.acceptance.shell import Shell, private_shell
from tests.servers.faults import Fault, faulty_server

QUICK = {"ML_MODEL_CANDIDATES": "naive,snaive,weekday_mean"}
DAYS = 120
# Tenths of a cent in between, a refund, and two sales that are exactly equal: the sum must hold to the last digit.
ODD_ROWS = [("bakery", "T09:00:00", "0.1"), ("bakery", "T09:00:00", "0.1"), ("bakery", "T18:30:00", "-4.205")]


def write_sales(path: Path) -> dict[str, Decimal]:
    """A bakery that is closed on Sundays and a bar, through yesterday; the exact sum of each."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    sums = {"bakery": Decimal(0), "bar": Decimal(0)}
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["tenant_id", "fecha", "total", "producto_id"])
        for back in range(DAYS, -1, -1):
            day = yesterday - timedelta(days=back)
            daily = [("bar", "T23:10:00", f"{90 + 10 * (day.weekday() >= 4)}.50")]
            if day.weekday() != 6:
                daily += [("bakery", "T08:15:00", f"{200 + 5 * day.weekday()}.25"), *ODD_ROWS]
            for tenant, time, total in daily:
                rows.writerow([tenant, f"{day}{time}", total, "bread"])
                sums[tenant] += Decimal(total)
        rows.writerow(["bar", "yesterday evening", "12.00", "beer"])  # quarantined: that is no time
    return sums


@pytest.fixture(scope="module")
def sums() -> dict[str, Decimal]:
    """Filled by `shop`: the exact sum of each tenant's usable sales."""
    return {}


@pytest.fixture(scope="module")
def shop(sums: dict[str, Decimal]) -> Iterator[Shell]:
    """A directory in which sales were imported and forecast by the command."""
    with private_shell(settings=QUICK) as shell:
        sums.update(write_sales(shell.directory / "sales.csv.gz"))
        shell.json("import", "sales.csv.gz")
        shell.json("retrain", "--jobs", "2")
        yield shell


@pytest.fixture(scope="module")
def empty() -> Iterator[Shell]:
    """A directory with a private database in which nothing was imported."""
    with private_shell(settings=QUICK) as shell:
        yield shell


def retrained(shop: Shell) -> str:
    """The id of the run over both tenants."""
    return next(str(run["run_id"]) for run in shop.json("runs", "list")["runs"] if run["kind"] == "retrain")


def test_an_import_counts_every_row_once(shop: Shell, sums: dict[str, Decimal]) -> None:
    again = shop.json("import", "sales.csv.gz")

    assert again["inserted"] == 0
    assert again["known"] == again["accepted"]
    assert again["quarantined"] == 1
    assert {one["name"]: Decimal(one["total"]) for one in again["tenants"]} == sums


def test_doctor_finds_the_files_sums_to_the_last_digit(shop: Shell, sums: dict[str, Decimal]) -> None:
    found = shop.json("doctor", "--file", "sales.csv.gz")

    assert found["ok"], [check for check in found["checks"] if check["status"] != "ok"]
    assert {row["name"]: Decimal(row["worker_total"]) for row in found["sales"]} == sums
    assert {row["name"]: Decimal(row["owner_total"]) for row in found["sales"]} == sums
    assert [check["status"] for check in found["checks"] if check["name"] == "sales of sales.csv.gz"] == ["ok"]


def test_doctor_fails_when_the_file_holds_one_sale_more(shop: Shell) -> None:
    text = gzip.decompress((shop.directory / "sales.csv.gz").read_bytes()).decode()
    (shop.directory / "more.csv").write_text(text + "bar,2026-01-02T10:00:00,0.01,beer\n", encoding="utf-8")

    found = shop.json("doctor", "--file", "more.csv", code=1)

    failed = [check for check in found["checks"] if check["status"] == "fail"]
    assert [check["name"] for check in failed] == ["sales of more.csv"]
    assert failed[0]["detail"].startswith("1 of 2 tenants differ: bar")


def test_predict_shows_the_published_forecast(shop: Shell) -> None:
    served = shop.json("predict", "Bakery")
    shown = shop.run("predict", served["tenant_id"]).stdout

    assert len(served["days"]) == 28
    assert all(day["yhat_lower"] <= day["yhat"] <= day["yhat_upper"] for day in served["days"])
    assert {day["yhat"] for day in served["days"] if day["weekday"] == "Sunday"} == {0.0}
    assert served["total_7"] == pytest.approx(sum(day["yhat"] for day in served["days"][:7]), abs=0.01)
    assert served["days"][0]["date"] in shown
    assert "How sure" in shown


def test_predict_explains_each_day_and_gives_the_totals_their_ranges(shop: Shell) -> None:
    served = shop.json("predict", "Bakery")
    shown = shop.run("predict", "Bakery", "--explain").stdout

    for day in served["days"]:
        assert math.fsum(day["parts"].values()) == pytest.approx(day["yhat"], abs=1e-9)
    for total in served["totals"].values():
        assert total["yhat_lower"] <= total["yhat"] <= total["yhat_upper"]
    assert set(served["totals"]) == {"total_7", "total_28"}
    assert "recent" in shown
    assert " ".join(served["explanation"]["en"].split()) in " ".join(shown.split())


def test_runs_and_models_are_listed(shop: Shell) -> None:
    run_id = retrained(shop)
    run = shop.json("runs", "show", run_id)
    models = shop.json("models", "list", "bakery")["models"]

    assert [item["state"] for item in run["items"]] == ["done", "done"]
    assert sorted(item["name"] for item in run["items"]) == ["bakery", "bar"]
    assert "production" in {model["stage"] for model in models}
    assert run_id in shop.run("runs", "list").stdout
    assert "bakery" in shop.run("runs", "show", run_id).stdout


def test_a_second_run_changes_nothing_and_force_gives_the_same_hash(shop: Shell) -> None:
    unchanged = shop.json("run", "bar")
    forced = shop.json("run", "bar", "--force")

    assert unchanged["status"] == "unchanged"
    assert forced["status"] == "published"
    assert forced["output_hash"] == unchanged["output_hash"]


def test_an_earlier_model_is_activated_again_and_an_unknown_one_is_refused(shop: Shell) -> None:
    shop.json("run", "bar", "--force")
    archived = [one for one in shop.json("models", "list", "bar")["models"] if one["stage"] != "production"]

    back = shop.json("models", "activate", "bar", archived[0]["model_version"])
    refused = shop.json("models", "activate", "bar", "20200101.1", code=3)

    assert back["model_version"] == archived[0]["model_version"]
    assert refused["error"]["code"] == "unknown_model"


def test_report_writes_one_page(shop: Shell) -> None:
    page = Path(shop.json("report", "--run", retrained(shop), "--out", "week.html")["page"])

    assert page == (shop.directory / "week.html").resolve()
    assert "bakery" in page.read_text(encoding="utf-8")


def test_settings_are_set_shown_refused_and_unset(shop: Shell) -> None:
    written = shop.json("settings", "set", "bar", "horizon_days=7", "model_candidates=naive,snaive")
    refused = shop.json("settings", "set", "bar", "horizon_days=999", "nonsense=1", code=3)
    shown = shop.json("settings", "show", "bar")
    cleared = shop.json("settings", "unset", "bar", "--all")

    assert written["effective"]["horizon_days"] == 7
    assert {"horizon_days=999", "nonsense=1"} <= set(refused["error"]["message"].replace(":", " ").split())
    assert shown["own"] == {"horizon_days": 7, "model_candidates": ["naive", "snaive"]}
    assert cleared["own"] == {}
    assert cleared["effective"]["horizon_days"] == 28


def test_a_calendar_is_written_whole_or_not_at_all(shop: Shell) -> None:
    good = shop.directory / "days.csv"
    good.write_text("day,tenant_id,kind,name\n2027-01-06,bakery,closure,Epiphany\n", encoding="utf-8")
    bad = shop.directory / "bad.csv"
    bad.write_text("tenant_id,day,kind\nbakery,2027-02-30,closure\nnobody,2027-01-01,party\n", encoding="utf-8")

    written = shop.json("calendar", "import", "days.csv")
    refused = shop.json("calendar", "import", "bad.csv", code=3)["error"]

    assert (written["tenants"], written["days"], written["kinds"]) == (1, 1, {"closure": 1})
    assert "line 2: day '2027-02-30'" in refused["message"]
    assert "line 3: " in refused["message"]
    assert "Nothing was written" in refused["next_step"]


def test_logs_go_to_stderr_as_json_and_stdout_stays_one_document(shop: Shell) -> None:
    done = shop.run("run", "bakery", "--force", "--json")

    assert json.loads(done.stdout)["status"] == "published"
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert any(line.get("tenant") for line in lines)
    assert "202.25" not in done.stderr  # no sale and no sum of sales in a log


def test_an_unknown_tenant_is_data_with_the_nearest_names(shop: Shell) -> None:
    refused = shop.run("predict", "bakry", code=3)

    assert refused.stdout == ""
    assert "bakry" in refused.stderr
    assert "bakery" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_before_anything_was_imported_every_command_says_what_to_do(empty: Shell) -> None:
    assert "import" in empty.json("predict", "bakery", code=3)["error"]["next_step"]
    assert empty.json("runs", "show", code=3)["error"]["code"] == "unknown_run"
    assert empty.json("report", code=3)["error"]["code"] == "unknown_run"
    assert empty.json("runs", "list") == {"runs": []}
    assert empty.json("doctor")["ok"]


@pytest.mark.parametrize("name", ["absent.csv", "zeros.csv", "cut.csv.gz", "header.csv"])
def test_a_file_that_cannot_be_used_is_data(empty: Shell, name: str) -> None:
    (empty.directory / "zeros.csv").write_bytes(bytes(1000))
    (empty.directory / "cut.csv.gz").write_bytes(gzip.compress(b"tenant_id,fecha,total\n" * 1000)[:60])
    (empty.directory / "header.csv").write_text("shop,when,how_much\na,2026-01-01,1\n", encoding="utf-8")

    refused = empty.run("import", name, code=3)

    assert "Traceback" not in refused.stderr
    assert name in refused.stderr


def test_a_file_without_one_usable_row_ends_as_data_and_keeps_every_row_aside(empty: Shell) -> None:
    (empty.directory / "garbage.csv").write_text(
        "tenant_id,fecha,total\nshop,yesterday,12\nshop,2024-01-01T10:00,much\n"
    )

    done = empty.run("import", "garbage.csv", "--json", code=3)

    report = json.loads(done.stdout)
    assert (report["rows"], report["accepted"], report["quarantined"]) == (2, 0, 2)
    assert "Not one row" in done.stderr


def test_a_database_that_is_not_there_is_tried_again_later(empty: Shell) -> None:
    url = "postgresql://admin:hunter2@127.0.0.1:1/shop"

    refused = empty.run("retrain", code=4, DATABASE_URL=url)
    document = empty.json("db", "status", code=4, DATABASE_URL=url)

    assert document["error"]["code"] == "database_unavailable"
    assert document["error"]["next_step"]
    assert "hunter2" not in refused.stdout + refused.stderr + json.dumps(document)


def test_a_malformed_database_address_is_configuration_and_is_not_repeated(empty: Shell) -> None:
    refused = empty.run("retrain", code=2, DATABASE_URL="hunter2 is no address")

    assert "DATABASE_URL" in refused.stderr
    assert "hunter2" not in refused.stderr


def test_a_wrong_service_key_is_configuration(empty: Shell) -> None:
    with faulty_server() as server:
        server.script = [Fault(401, b'{"code": "PGRST301", "message": "JWSError JWSInvalidSignature"}')]
        keys = {"SUPABASE_URL": server.url, "SUPABASE_SERVICE_ROLE_KEY": "hunter2.hunter2.hunter2"}

        refused = empty.json("runs", "list", code=2, **keys)

    assert refused["error"]["code"] == "wrong_key"
    assert "hunter2" not in json.dumps(refused)


def test_without_a_network_supabase_is_tried_again_later(empty: Shell) -> None:
    keys = {"SUPABASE_URL": "http://127.0.0.1:1", "SUPABASE_SERVICE_ROLE_KEY": "a.b.c"}

    assert empty.json("runs", "list", code=4, **keys)["error"]["code"] == "database_unavailable"


def test_migrations_over_postgrest_name_supabase_db_push(empty: Shell) -> None:
    keys = {"SUPABASE_URL": "http://127.0.0.1:1", "SUPABASE_SERVICE_ROLE_KEY": "a.b.c"}

    refused = empty.json("db", "migrate", code=2, **keys)["error"]

    assert refused["code"] == "migration_refused"
    assert "supabase db push" in refused["next_step"]


def test_uninstall_asks_for_yes(empty: Shell) -> None:
    assert empty.json("db", "uninstall", code=2)["error"]["next_step"] == "Say so with --yes."


def test_backtest_writes_the_file_and_prints_a_summary(empty: Shell) -> None:
    first = datetime(2026, 1, 5, tzinfo=UTC).date()
    days = [(first + timedelta(days=i), 100 + 10 * (i % 7)) for i in range(120)]
    text = "unique_id,ds,y\n" + "".join(f"a,{day},{y}\n" for day, y in days)
    (empty.directory / "daily.csv").write_text(text, encoding="utf-8")
    flags = ("backtest", "daily.csv", "--horizon", "14", "--windows", "2")

    shown = empty.run(*flags, "--json", "out.json").stdout
    printed = json.loads(empty.run(*flags, "--json").stdout)

    written = json.loads((empty.directory / "out.json").read_text(encoding="utf-8"))
    assert "2 windows of 1 series, 0 failed" in shown
    assert (written["pooled"]["series"], written["pooled"]["windows"], written["pooled"]["failed"]) == (1, 2, 0)
    assert written["pooled"]["wape"] == pytest.approx(0.0, abs=1e-6)  # the week repeats exactly
    assert printed["pooled"].keys() == written["pooled"].keys()
    assert printed["series"][0]["unique_id"] == "a"
