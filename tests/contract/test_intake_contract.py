"""Sales in, daily series out: the same over both gateways, to the cent, per the tenant's own days."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest

from app.config.ml_settings import MLSettings
from app.db.gateway import Gateway
from app.db.store import Row, TenantStore
from app.services.ml.feature_engineer import FeatureEngineer
from app.services.ml.intake import read_tenant_input
from app.tenancy import parse_tenant_id

BAR = parse_tenant_id("bar")
OTHER = parse_tenant_id("other")
WINDOW = 1_460
PATIENT = 3_650  # days after which sales are stale: these tests replay old days


def sale(key: str, sold_at: str, amount: str, product: str | None = "beer") -> Row:
    return {"sale_id": key, "sold_at": sold_at, "amount": amount, "quantity": "1", "product_id": product}


def open_shop(gateway: Gateway, rows: list[Row], **facts: Any) -> TenantStore:
    store = TenantStore(gateway, BAR)
    store.import_sales({"name": "Bar", "time_zone": "Europe/Madrid", **facts}, rows)
    return store


def read(store: TenantStore, as_of: str, stale_after: int = PATIENT) -> Row:
    return store.read_input(date.fromisoformat(as_of), WINDOW, stale_after)


def test_a_night_after_midnight_belongs_to_the_day_before_until_the_closing_hour(gateway: Gateway) -> None:
    rows = [
        sale("1", "2026-07-03T20:00:00Z", "10"),  # Friday 22:00
        sale("2", "2026-07-04T01:59:59.999Z", "20"),  # 03:59:59 on Saturday: still Friday's night
        sale("3", "2026-07-04T02:00:00Z", "40"),  # 04:00: Saturday
    ]

    found = read(open_shop(gateway, rows, cutoff_hour=4), "2026-07-04")

    assert (found["start"], found["as_of"]) == ("2026-07-03", "2026-07-04")
    assert found["sales"] == [30, 40]
    assert found["rows"] == [2, 1]


def test_days_without_rows_are_zero_and_days_before_the_first_sale_are_none(gateway: Gateway) -> None:
    rows = [sale("1", "2026-07-03T10:00:00Z", "10.10"), sale("2", "2026-07-06T10:00:00Z", "0.20")]

    found = read(open_shop(gateway, rows), "2026-07-07")

    assert found["start"] == "2026-07-03"
    assert found["sales"] == [10.1, 0, 0, 0.2, 0]


def test_sums_are_exact_decimals_turned_into_floats_once(gateway: Gateway) -> None:
    rows = [sale(str(i), "2026-07-03T10:00:00Z", "0.1", f"p{i}") for i in range(1_000)]

    found = read(open_shop(gateway, rows), "2026-07-03")

    assert found["sales"] == [100]  # a thousand times 0.1 in floats is 99.9999999999986


def test_refunds_count_on_the_day_they_happen(gateway: Gateway) -> None:
    rows = [
        sale("1", "2026-07-03T10:00:00Z", "50"),
        sale("2", "2026-07-04T10:00:00Z", "-50"),
        sale("3", "2026-07-04T11:00:00Z", "20.5"),
    ]

    found = read(open_shop(gateway, rows), "2026-07-04")

    assert found["sales"] == [50, -29.5]
    assert (found["quality"]["refunds"], found["quality"]["refunds_total"], found["quality"]["negative_days"]) == (
        1,
        -50,
        1,
    )


def test_exact_duplicates_are_counted_and_kept(gateway: Gateway) -> None:
    rows = [sale(str(i), "2026-07-03T10:00:00Z", "5") for i in range(3)] + [
        sale("x", "2026-07-03T10:00:00Z", "5", "wine"),
        sale("y", "2026-07-03T10:00:00Z", "5", None),
        sale("z", "2026-07-03T10:00:00Z", "5.00", None),
    ]

    found = read(open_shop(gateway, rows), "2026-07-03")

    assert found["sales"] == [30]
    assert (found["quality"]["duplicates"], found["quality"]["rows"]) == (3, 6)


def test_late_edits_and_deletions_are_picked_up(gateway: Gateway, database_url: str) -> None:
    store = open_shop(gateway, [sale(str(i), "2026-07-03T10:00:00Z", "5", f"p{i}") for i in range(3)])
    assert read(store, "2026-07-03")["sales"] == [15]

    with psycopg.connect(database_url) as owner:
        owner.execute("update public.ventas set total = 7.25 where id = '1'")
        owner.execute("delete from public.ventas where id = '2'")

    assert read(store, "2026-07-03")["sales"] == [12.25]


def test_poisoned_rows_are_left_out_with_reasons(gateway: Gateway, database_url: str) -> None:
    store = open_shop(gateway, [sale("good", "2026-07-03T10:00:00Z", "5")])
    with psycopg.connect(database_url) as owner:
        owner.execute("alter table public.ventas alter column total drop not null, alter column fecha drop not null")
        for key, sold_at, total in (
            ("a", "2026-07-03T11:00:00Z", "NaN"), ("b", "2026-07-03T11:00:00Z", "Infinity"),
            ("c", "2026-07-03T11:00:00Z", None), ("d", "2026-07-03T11:00:00Z", "1e16"), ("e", None, "5"),
            ("f", "9999-12-31T00:00:00Z", "5"), ("g", "infinity", "5"), ("h", "-infinity", "5"),
            ("i", "0900-01-01T00:00:00Z", "5"), ("j", "2199-01-01T00:00:00Z", "5"),
        ):  # fmt: skip
            owner.execute(
                "insert into public.ventas (negocio_id, id, fecha, total) values (%s, %s, %s, %s)",
                (BAR, key, sold_at, total),
            )

    found = read(store, "2026-07-03")

    assert found["sales"] == [5]
    assert {row["reason"]: row["rows"] for row in found["quality"]["quarantined"]} == {
        "not_finite": 2, "no_amount": 1, "absurd_amount": 1, "no_date": 1, "absurd_date": 4,
    }  # fmt: skip
    assert found["quality"]["future_rows"] == 1
    checked = store.check_sales()
    assert (checked["rows"], checked["readable"], checked["total"]) == (11, 6, "35")


def test_the_unfinished_day_is_left_out_by_the_databases_clock(gateway: Gateway, database_url: str) -> None:
    with psycopg.connect(database_url) as owner:
        clock = owner.execute("select clock_timestamp()").fetchone()
    assert clock
    now: datetime = clock[0]
    rows = [sale("now", now.isoformat(), "5"), sale("before", (now - timedelta(days=2)).isoformat(), "7")]

    found = open_shop(gateway, rows, time_zone="UTC").read_input(None, WINDOW, PATIENT)

    yesterday = now.astimezone(UTC).date() - timedelta(days=1)
    at_midnight = yesterday + timedelta(days=1)  # the clock may pass it between the two statements
    assert date.fromisoformat(found["last_finished_day"]) in {yesterday, at_midnight}
    assert found["as_of"] == found["last_finished_day"]
    assert found["sales"][:2] == [7, 0]


def test_a_day_that_is_asked_for_ahead_of_the_clock_is_the_last_finished_one(gateway: Gateway) -> None:
    found = read(open_shop(gateway, []), "2200-01-01")

    assert found["as_of"] == found["last_finished_day"]


def test_sales_that_stopped_long_ago_end_the_series_at_the_last_of_them(gateway: Gateway) -> None:
    rows = [sale("1", "2026-05-01T10:00:00Z", "5"), sale("2", "2026-05-03T10:00:00Z", "6")]
    store = open_shop(gateway, rows)

    fresh, stopped = read(store, "2026-05-31", 28), read(store, "2026-06-01", 28)

    assert (fresh["stale"], fresh["as_of"], len(fresh["sales"])) == (False, "2026-05-31", 31)
    assert (stopped["stale"], stopped["as_of"], stopped["sales"]) == (True, "2026-05-03", [5, 0, 6])


def test_a_replay_of_an_earlier_day_sees_nothing_later(gateway: Gateway) -> None:
    rows = [sale("1", "2026-05-01T10:00:00Z", "5"), sale("2", "2026-05-03T10:00:00Z", "6")]

    found = read(open_shop(gateway, rows), "2026-05-02")

    assert found["sales"] == [5, 0]
    assert found["quality"]["last_sale"] == "2026-05-01T10:00:00.000000Z"


def test_the_window_is_cut_and_what_is_older_is_said(gateway: Gateway) -> None:
    rows = [sale("1", "2026-05-01T10:00:00Z", "5"), sale("2", "2026-05-20T10:00:00Z", "6")]

    found = open_shop(gateway, rows).read_input(date(2026, 5, 20), 14, PATIENT)

    assert (found["start"], len(found["sales"])) == ("2026-05-07", 14)
    assert found["quality"]["days_before_window"] == 6
    assert found["quality"]["rows"] == 1


def test_an_unknown_tenant_is_null_and_one_without_sales_has_no_start(gateway: Gateway) -> None:
    assert read(TenantStore(gateway, OTHER), "2026-05-20")["tenant"] is None

    found = read(open_shop(gateway, []), "2026-05-20")

    assert (found["start"], found["sales"], found["stale"]) == (None, [], False)
    assert found["tenant"]["name"] == "Bar"


def test_a_time_zone_that_the_server_does_not_know_is_utc_with_a_note(gateway: Gateway) -> None:
    store = open_shop(gateway, [sale("1", "2026-07-03T23:30:00Z", "5")], time_zone="Mars/Olympus")

    found = read(store, "2026-07-04")

    assert found["start"] == "2026-07-03"
    assert found["quality"]["notes"] == ["invalid_time_zone"]


def test_no_tenant_sees_another_ones_sales_quarantine_or_stock(gateway: Gateway) -> None:
    open_shop(gateway, [sale("1", "2026-07-03T10:00:00Z", "5")])
    store = TenantStore(gateway, OTHER)
    store.import_sales({"name": "Other", "time_zone": "UTC"}, [sale("1", "2026-07-03T10:00:00Z", "9", "tea")])
    TenantStore(gateway, BAR).quarantine_rows("f.csv", [{"line": 2, "reason": "no_date", "raw": "x"}])

    found = read(store, "2026-07-03")

    assert (found["sales"], found["quality"]["quarantined"]) == ([9], [])
    assert [row["product_id"] for row in store.read_inventory()] == ["tea"]
    assert [row["amount"] for row in store.read_sales_page(None, None, 10)] == [9]
    assert store.check_sales()["total"] == "9"


def test_quarantine_is_idempotent_per_line_and_can_be_replaced(gateway: Gateway) -> None:
    store = open_shop(gateway, [])
    bad = [{"line": 2, "reason": "no_date", "raw": "x"}, {"line": 3, "reason": "no_date", "raw": None}]

    store.quarantine_rows("f.csv", bad)
    store.quarantine_rows("f.csv", bad)
    store.quarantine_rows("g.csv", bad[:1])

    kept = read(store, "2026-07-03")["quality"]["quarantined"]
    assert [(row["source"], row["rows"], row["first_line"]) for row in kept] == [("f.csv", 2, 2), ("g.csv", 1, 2)]

    store.quarantine_rows("f.csv", [], replace=True)

    assert [row["source"] for row in read(store, "2026-07-03")["quality"]["quarantined"]] == ["g.csv"]


@pytest.mark.parametrize("n_sales", [0, 1, 6, 7, 8, 25])
def test_every_sale_is_read_page_by_page(gateway: Gateway, n_sales: int) -> None:
    # Three sales share each instant: the key of the page has to be instant and id together.
    rows = [sale(f"{i:03}", f"2026-07-03T10:{i // 3:02}:00.123456Z", "1.5") for i in range(n_sales)]
    engineer = FeatureEngineer(open_shop(gateway, rows))

    read_rows = engineer.get_sales_rows(page_rows=7)

    assert [row["sale_id"] for row in read_rows] == [f"{i:03}" for i in range(n_sales)]


def test_features_are_written_per_day_and_again_without_doubling(gateway: Gateway, database_url: str) -> None:
    rows = [sale(str(i), f"2026-07-{i + 1:02}T10:00:00Z", str(i)) for i in range(30)]
    engineer = FeatureEngineer(open_shop(gateway, rows), MLSettings(stale_after_days=PATIENT))
    series = engineer.sales_timeseries_daily(date(2026, 7, 30))
    assert series is not None

    written = engineer.persist_sales_features(series)

    assert written == engineer.persist_sales_features(series) == 30 + 24 + 3
    with psycopg.connect(database_url) as owner:
        stored = owner.execute(
            "select feature_type, feature_values from public.ml_features where feature_date = '2026-07-30'"
        ).fetchall()
    # Totals are 0, 1, … 29: the mean of the last seven is 26, of the last twenty-eight 15.5.
    assert dict(stored) == {"daily_total": {"value": 29}, "ma7": {"value": 26}, "ma28": {"value": 15.5}}


def test_the_inventory_becomes_one_row_of_the_unfinished_day(gateway: Gateway, database_url: str) -> None:
    engineer = FeatureEngineer(open_shop(gateway, [sale("1", "2026-07-03T10:00:00Z", "5", f"p{i}") for i in range(3)]))
    with psycopg.connect(database_url) as owner:
        owner.execute("update public.productos set stock = 2.5 where id = 'p0'")
        owner.execute("update public.productos set stock = 0 where id = 'p1'")

    assert engineer.persist_inventory_features() == 1

    with psycopg.connect(database_url) as owner:
        row = owner.execute("select feature_date, feature_values from public.ml_features").fetchone()
    assert row
    assert row[1] == {
        "products": 3, "products_counted": 2, "out_of_stock": 1, "units": 2.5, "stock": {"p0": 2.5, "p1": 0},
    }  # fmt: skip
    assert row[0] == date.fromisoformat(engineer.store.read_input(None, 1, 1)["last_finished_day"]) + timedelta(days=1)


def test_what_the_database_says_goes_through_intake(gateway: Gateway) -> None:
    rows = [sale(str(i), f"2026-07-{i + 1:02}T10:00:00Z", str(i)) for i in range(30)]
    store = open_shop(gateway, rows, country="ES", currency="EUR")
    store.write_calendar([{"day": "2026-08-15", "kind": "closure", "name": "Asunción"}])

    found = read_tenant_input(read(store, "2026-07-30"), MLSettings())

    assert found is not None
    assert found.series is not None
    np.testing.assert_array_equal(found.series.y, np.arange(30))
    assert [known.name for known in found.calendar.known_days] == ["Asunción"]
    assert found.tenant.currency == "EUR"
    json.dumps(found.quality, allow_nan=False)
