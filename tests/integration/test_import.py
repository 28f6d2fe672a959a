"""From a file to a daily series through a real database: equal to the sales to the cent, whatever the clocks do."""

import csv
import gzip
import os
import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import psycopg
import pytest

from app.db.gateway import Gateway
from app.db.store import TenantStore
from app.errors import TenantcastError
from app.services.sales_import import ImportOptions, TenantFacts, import_file
from app.tenancy import TenantId, parse_tenant_id
from tests.sample_transactions import write_sample

HEADER = ("tenant_id", "fecha", "total", "producto_id")
WINDOW = 3_650
STALE_AFTER = 28
CHECKOUT = Path(__file__).parents[2]
# Rules that have been stable for long, so that Python's and the server's zone tables agree on the past.
STABLE_ZONES = {
    "Europe/Madrid": 4, "America/New_York": 0, "America/Santiago": 0, "Australia/Lord_Howe": 2, "Antarctica/Troll": 2,
    "Asia/Kathmandu": 5, "Europe/London": 23, "UTC": 0, "America/Havana": 1, "Pacific/Apia": 3,
}  # fmt: skip


def write_csv(path: Path, rows: Sequence[tuple[str, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return path


def business_day(at: datetime, zone: ZoneInfo, cutoff: int) -> date:
    """The independent source: wall-clock arithmetic of the standard library."""
    return (at.astimezone(zone).replace(tzinfo=None) - timedelta(hours=cutoff)).date()


def daily_series(gateway: Gateway, tenant_id: TenantId) -> dict[date, float]:
    found = TenantStore(gateway, tenant_id).read_input(None, WINDOW, STALE_AFTER)
    start = date.fromisoformat(found["start"])
    return {start + timedelta(days=i): value for i, value in enumerate(found["sales"])}


@pytest.mark.parametrize(("zone_name", "cutoff"), STABLE_ZONES.items())
def test_the_series_equals_the_sales_to_the_cent_in_every_zone(
    gateway: Gateway, tmp_path: Path, zone_name: str, cutoff: int
) -> None:
    rng = random.Random(zone_name)
    zone = ZoneInfo(zone_name)
    begin = datetime(2023, 1, 1, tzinfo=UTC)
    moments = [begin + timedelta(seconds=rng.randrange(86_400 * 400)) for _ in range(1_500)]
    amounts = [Decimal(rng.randrange(-2_000, 20_000)) / 100 for _ in moments]
    expected: defaultdict[date, Decimal] = defaultdict(Decimal)
    for moment, amount in zip(moments, amounts, strict=True):
        expected[business_day(moment, zone, cutoff)] += amount
    rows = [("shop", moment.isoformat(), str(amount), "p") for moment, amount in zip(moments, amounts, strict=True)]
    facts: TenantFacts = {"time_zone": zone_name, "cutoff_hour": cutoff}

    import_file(write_csv(tmp_path / "s.csv", rows), gateway, ImportOptions(tenants={"shop": facts}))

    found = daily_series(gateway, parse_tenant_id("shop"))
    assert min(found) == min(expected)
    assert found == {day: float(expected.get(day, Decimal(0))) for day in found}
    assert expected.keys() <= found.keys()


def test_a_day_without_midnight_keeps_its_sales(gateway: Gateway, tmp_path: Path) -> None:
    # Santiago, 6 September 2026: 00:00 becomes 01:00.
    rows = [
        ("shop", "2026-09-05 23:59:59", "1", "p"),
        ("shop", "2026-09-06 00:30:00", "2", "p"),  # does not exist: 01:30
        ("shop", "2026-09-06 01:00:00", "4", "p"),
        ("shop", "2026-09-06 23:59:59", "8", "p"),
        ("shop", "2026-09-07 00:00:00", "16", "p"),
    ]

    report = import_file(
        write_csv(tmp_path / "s.csv", rows), gateway, ImportOptions(tenants={"shop": {"time_zone": "America/Santiago"}})
    )

    found = daily_series(gateway, parse_tenant_id("shop"))
    assert [found[date(2026, 9, day)] for day in (5, 6, 7)] == [1, 14, 16]
    assert report["nonexistent_times"] == 1


def test_rows_that_are_no_sales_are_in_the_quarantine_with_their_lines(gateway: Gateway, tmp_path: Path) -> None:
    rows = [
        ("shop", "2026-07-01T10:00:00Z", "5", "💶"),
        ("shop", "ayer", "5", "\x00"),
        ("shop", "2026-07-01", "NaN", "x"),
    ]
    path = write_csv(tmp_path / "s.csv", rows)

    for _ in range(2):
        import_file(path, gateway)

    left_out = TenantStore(gateway, parse_tenant_id("shop")).read_input(None, WINDOW, STALE_AFTER)["quality"][
        "quarantined"
    ]
    assert {(row["reason"], row["rows"], row["first_line"], row["source"]) for row in left_out} == {
        ("unreadable_date", 1, 3, "s.csv"),
        ("not_finite", 1, 4, "s.csv"),
    }


def test_import_keeps_what_the_product_knows_about_a_tenant(
    gateway: Gateway, tmp_path: Path, database_url: str
) -> None:
    path = write_csv(tmp_path / "s.csv", [("shop", "2026-07-01T10:00:00", "5", "p")])
    import_file(path, gateway, ImportOptions(tenants={"shop": {"time_zone": "America/Lima", "currency": "PEN"}}))

    import_file(write_csv(tmp_path / "t.csv", [("shop", "2026-07-02T20:00:00", "7", "p")]), gateway)

    with psycopg.connect(database_url) as owner:
        assert owner.execute("select nombre, zona_horaria, moneda from public.negocios").fetchall() == [
            ("shop", "America/Lima", "PEN")
        ]
    assert list(daily_series(gateway, parse_tenant_id("shop")).values())[:2] == [5, 7]


def test_a_product_with_tables_of_its_own_is_left_alone(empty_database_url: str) -> None:
    from app.db.migrate import migrate

    with psycopg.connect(empty_database_url) as owner:
        owner.execute("create table public.ventas (id bigint primary key, importe money)")

    with pytest.raises((psycopg.Error, TenantcastError), match="tables of its own"):
        migrate(empty_database_url, examples=True)

    with psycopg.connect(empty_database_url) as owner:
        columns = owner.execute(
            "select column_name from information_schema.columns where table_name = 'ventas' order by 1"
        ).fetchall()
        made = owner.execute("select to_regclass('public.negocios')").fetchone()
    assert columns == [("id",), ("importe",)]
    assert made == (None,)


def sampled_zones() -> list[str]:
    """Every zone when many cases are asked for; else each fifteenth, and those that have surprised somebody."""
    zones = sorted(zone for zone in available_timezones() if "/" in zone and not zone.startswith("posix/"))
    return zones if int(os.environ.get("TENANTCAST_FUZZ", "0")) >= len(zones) else sorted({*zones[::15], *STABLE_ZONES})


def transitions(zone: ZoneInfo) -> list[datetime]:
    """The days, 2015 to 2030, within which the zone's offset changes."""
    days = [datetime(2015, 1, 1, tzinfo=UTC) + timedelta(days=i) for i in range(16 * 365)]
    return [
        day for day, after in pairwise(days) if day.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset()
    ]


@pytest.mark.fuzz
def test_around_every_clock_change_each_sale_lands_in_exactly_one_day(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        for number, zone_name in enumerate(sampled_zones()):
            moments = [
                change + timedelta(minutes=20 * step)
                for change in transitions(ZoneInfo(zone_name))
                for step in range(-72, 3 * 72)
            ]
            moments = sorted(set(moments)) or [datetime(2026, 1, 1, tzinfo=UTC)]
            tenant = parse_tenant_id(zone_name)
            owner.execute("insert into public.negocios (id, nombre) values (%s, %s)", (tenant, zone_name))
            owner.execute(
                "insert into public.ventas (negocio_id, id, fecha, total) "
                "select %s, i::text, at, 0.01 from unnest(%s::timestamptz[]) with ordinality as u(at, i)",
                (tenant, moments),
            )
            owner.execute("select set_config('app.tenant_id', %s, false)", (str(tenant),))

            row = owner.execute(
                "select tenantcast_internal.read_daily_sales(%s, make_interval(hours => %s), %s, %s)",
                (zone_name, number % 24, moments[0].date() - timedelta(days=3), moments[-1].date() + timedelta(days=3)),
            ).fetchone()

            assert row
            assert sum(row[0]["rows"]) == row[0]["quality"]["rows"] == len(moments), zone_name
            cents = sum(Decimal(repr(value)) for value in row[0]["sales"])
            assert cents == Decimal(len(moments)) / 100, zone_name
            # Antarctica/Casey has put its clocks back by three hours.
            assert max(row[0]["rows"]) <= 3 * 27, f"{zone_name}: a local day has at most 27 hours"


@pytest.fixture(params=["sample", "real"])
def transactions(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A gzipped file of transactions: a sample of ours, and real ones (their licences keep them out of the project)."""
    if request.param == "real":
        folder = Path(os.environ.get("TENANTCAST_DATA", CHECKOUT.parent / "shared" / "data"))
        path = folder / "transactions_dev.csv.gz"
        if not path.exists():
            pytest.skip(f"no real transactions: {path} is absent; TENANTCAST_DATA names their folder")
        return path
    write_sample(tmp_path / "sample.csv")
    path = tmp_path / "sample.csv.gz"
    path.write_bytes(gzip.compress((tmp_path / "sample.csv").read_bytes()))
    return path


def test_transactions_arrive_to_the_cent_duplicates_included_and_once(gateway: Gateway, transactions: Path) -> None:
    path = transactions
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    counts: defaultdict[str, int] = defaultdict(int)
    seen: set[tuple[str, ...]] = set()
    repeated = 0
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            sums[row["tenant_id"]] += Decimal(row["total"])
            counts[row["tenant_id"]] += 1
            repeated += (key := tuple(row.values())) in seen
            seen.add(key)

    first = import_file(path, gateway)
    again = import_file(path, gateway)

    assert (first["inserted"], first["duplicates"], first["quarantined"]) == (sum(counts.values()), repeated, 0)
    assert (again["inserted"], again["known"]) == (0, sum(counts.values()))
    checked = {name: TenantStore(gateway, parse_tenant_id(name)).check_sales() for name in sums}
    assert {name: Decimal(row["total"]) for name, row in checked.items()} == dict(sums)
    assert {name: row["rows"] for name, row in checked.items()} == dict(counts)
    for name in sums:
        series: dict[date, Any] = daily_series(gateway, parse_tenant_id(name))
        assert sum(Decimal(repr(value)) for value in series.values()) == sums[name], name
