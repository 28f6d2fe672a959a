"""The demo's shops: what their file says is what is written down as true about them."""

import csv
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from io import StringIO
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import holidays
import pytest
from rich.console import Console

from app.config.settings import Settings
from app.services.demo.generator import DemoTruth, ShopTruth, generate_demo
from app.services.demo.run import DemoResult, DemoRow, _own_settings
from app.services.demo.shops import SHOPS
from app.services.demo.table import demo_table
from app.services.demo.tickets import draw_tickets, stretch_days
from app.services.report.view import Summary
from app.services.sales_import import ImportReport

NOW = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> DemoTruth:
    return generate_demo(tmp_path_factory.mktemp("demo"), 7, NOW)


def shop(truth: DemoTruth, name: str) -> ShopTruth:
    return next(found for found in truth.shops if found.shop.name == name)


def sales(found: ShopTruth, day: date) -> Decimal:
    return found.daily.get(day, Decimal(0))


def readable_rows(truth: DemoTruth) -> list[tuple[str, datetime, Decimal]]:
    """The rows of the file that a strict reader accepts and that are not in the future; times in UTC."""
    zones = {found.shop.name: ZoneInfo(found.shop.time_zone) for found in truth.shops}
    rows = []
    with truth.sales.open(newline="", encoding="utf-8") as file:
        for cells in list(csv.reader(file))[1:]:
            try:
                name, moment, total, _product = cells
                amount, at = Decimal(total), datetime.fromisoformat(moment)
            except (ValueError, InvalidOperation):  # text, or no such day
                continue
            if at.year > 2200:
                continue
            at = (at if at.tzinfo else at.replace(tzinfo=zones[name])).astimezone(UTC)
            if amount.is_finite() and amount.adjusted() < 15 and at < NOW:
                rows.append((name, at, amount))
    return rows


def test_the_files_sales_per_business_day_are_the_truth_to_the_cent(truth: DemoTruth) -> None:
    found: dict[str, dict[date, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    facts = {one.shop.name: one.shop for one in truth.shops}
    for name, at, amount in readable_rows(truth):
        # As the database cuts days: local time, less the cut-off hour.
        local = at.astimezone(ZoneInfo(facts[name].time_zone)).replace(tzinfo=None)
        found[name][(local - timedelta(hours=facts[name].cutoff_hour)).date()] += amount

    assert {name: dict(days) for name, days in found.items()} == {
        one.shop.name: one.daily for one in truth.shops if one.daily
    }


def test_the_same_seed_and_time_give_the_same_bytes(tmp_path: Path, truth: DemoTruth) -> None:
    again = generate_demo(tmp_path / "again", 7, NOW)
    other = generate_demo(tmp_path / "other", 8, NOW)

    assert again.sales.read_bytes() == truth.sales.read_bytes()
    assert again.calendar.read_bytes() == truth.calendar.read_bytes()
    assert other.sales.read_bytes() != truth.sales.read_bytes()


def test_there_are_a_dozen_shops_and_tens_of_thousands_of_tickets(truth: DemoTruth) -> None:
    assert len(truth.shops) == 12
    assert 40_000 < sum(found.good_rows for found in truth.shops) < 100_000
    assert {found.shop.language for found in truth.shops} == {"en", "es"}
    assert len({found.shop.currency for found in truth.shops}) >= 6


def test_nothing_is_sold_on_closed_weekdays_and_announced_closures(truth: DemoTruth) -> None:
    bakery = shop(truth, "Panadería La Espiga")
    closures = [date.fromisoformat(row["day"]) for row in bakery.calendar if row["kind"] == "closure"]

    assert {day.weekday() for day in bakery.daily} == {0, 1, 2, 3, 4, 5}
    assert len(closures) == 12 + 12 + 1
    assert all(sales(bakery, day) == 0 for day in closures)
    assert max(closures) > bakery.today


def test_a_sale_after_midnight_belongs_to_the_night_before(truth: DemoTruth) -> None:
    bar = next(one for one in SHOPS if one.name == "Bar Medianoche")
    late = [ticket for ticket in draw_tickets(bar, [7, 1], NOW) if ticket.local.hour < 4]

    assert len(late) > 100
    assert all(ticket.day == ticket.local.date() - timedelta(days=1) for ticket in late)


def test_no_ticket_lies_in_the_future_and_none_before_the_first_day(truth: DemoTruth) -> None:
    for number, one in enumerate(SHOPS):
        zone = ZoneInfo(one.time_zone)
        tickets = draw_tickets(one, [7, number], NOW)
        assert all(ticket.local.replace(tzinfo=zone) < NOW for ticket in tickets), one.name
    five = shop(truth, "Juice Five")
    assert [day < five.today for day in sorted(five.daily)].count(True) == 5


def test_the_outage_sells_nothing_in_a_shop_that_is_always_open(truth: DemoTruth) -> None:
    pharmacy = shop(truth, "Farmacia del Puerto")
    silent = [
        day
        for day in (pharmacy.today - timedelta(days=back) for back in range(1, 735))
        if sales(pharmacy, day) == 0
    ]  # fmt: skip

    assert sorted(silent) == list(pharmacy.outage)
    assert len(silent) == 4


def test_whatever_the_day_no_public_holiday_explains_the_outage() -> None:
    pharmacy = next(one for one in SHOPS if one.name == "Farmacia del Puerto")
    (outage,) = pharmacy.stretches
    feasts = holidays.country_holidays("CL", years=range(2025, 2028))

    for today in (NOW.date() + timedelta(days=n) for n in range(366)):
        days = stretch_days(pharmacy, outage, today)

        assert len(days) == 4
        assert days[0] <= today - timedelta(days=41)
        assert not feasts.keys() & set(days), today


def test_the_level_shift_is_a_third(truth: DemoTruth) -> None:
    market = shop(truth, "Corner Market")
    assert market.level_shift is not None
    weeks = 12 * 7
    days_after = [market.level_shift + timedelta(days=i) for i in range(weeks)]
    after = [sales(market, day) for day in days_after]
    before = [sales(market, market.level_shift - timedelta(days=1 + i)) for i in range(weeks)]

    # One surprising day in the middle would hide the shift behind it.
    ordinary = [amount for day, amount in zip(days_after, after, strict=True) if day not in market.surprises]
    ratio = float(sum(ordinary, Decimal(0)) / len(ordinary) / (sum(before, Decimal(0)) / weeks))
    assert ratio == pytest.approx(1.35, abs=0.08)


def test_promotions_lift_sales_and_one_is_still_ahead(truth: DemoTruth) -> None:
    bikes = shop(truth, "Northside Bikes")
    promoted = [date.fromisoformat(row["day"]) for row in bikes.calendar]
    past = [day for day in promoted if day < bikes.today and sales(bikes, day - timedelta(days=7))]

    ordinary = sum((sales(bikes, day - timedelta(days=7)) for day in past), Decimal(0))
    lift = sum((sales(bikes, day) for day in past), Decimal(0)) / ordinary
    assert 1.5 < lift < 2.1
    assert any(bikes.today < day < bikes.today + timedelta(days=28) for day in promoted)


def test_refunds_are_negative_rows(truth: DemoTruth) -> None:
    totals = [amount for name, _, amount in readable_rows(truth) if name == "Electrónica Rápida"]
    refunds = [amount for amount in totals if amount < 0]

    assert 0.04 < len(refunds) / len(totals) < 0.09


def test_the_garbage_file_has_rows_of_every_bad_kind_beside_good_ones(truth: DemoTruth) -> None:
    bazaar = shop(truth, "Bazar <b>Ñandú</b> 🎉")
    text = truth.sales.read_text(encoding="utf-8")

    assert bazaar.bad_rows == 20
    assert bazaar.duplicates == 6
    assert bazaar.good_rows > 1000
    assert all(bad in text for bad in ("NaN", "inf", "1e400", "9999-12-31", "💶", "\x00", "2026-02-31"))


def test_a_shop_without_sales_has_facts_and_no_rows(truth: DemoTruth) -> None:
    kiosk = shop(truth, "Kiosco Nuevo")

    assert kiosk.facts["time_zone"] == "America/Montevideo"
    assert (kiosk.good_rows, kiosk.daily) == (0, {})
    assert "Kiosco Nuevo" not in truth.sales.read_text(encoding="utf-8")


@pytest.mark.parametrize("hour", [0, 3, 4, 6, 12, 23])
def test_at_any_hour_the_unfinished_day_is_the_last_one(hour: int, tmp_path: Path) -> None:
    now = datetime(2026, 3, 29, hour, 15, tzinfo=UTC)  # clocks go forward in Europe

    for found in generate_demo(tmp_path, 3, now).shops:
        assert all(day <= found.today for day in found.daily), found.shop.name


def test_the_demo_never_uses_the_users_database(tmp_path: Path) -> None:
    users = Settings(
        database_url="postgresql://user:secret@db/shop",
        supabase_url="http://supabase",
        tenantcast_home=tmp_path,
        supabase_service_role_key="key",
    )

    own = _own_settings(users)

    assert (own.database_url, own.supabase_url, own.supabase_service_role_key) == (None, None, None)
    assert own.tenantcast_home == tmp_path / "demo"


def test_the_table_shows_hostile_names_as_they_are(truth: DemoTruth) -> None:
    summary = Summary("€10", "€40", "+3%", "sure_high", "1", "young_short")
    rows = (DemoRow("[red]Bazar[/red] <b>", summary, "special"), DemoRow("Kiosco", Summary(note="no_sales_short"), ""))
    result = DemoResult(truth, cast("ImportReport", {}), "id", {}, rows, Path("p"), 1.0)
    output = StringIO()

    Console(file=output, width=160).print(demo_table(result))

    assert "[red]Bazar[/red] <b>" in output.getvalue()
    assert "quite sure" in output.getvalue()
    assert "special (young shop)" in output.getvalue()
    assert "(no sales yet)" in output.getvalue()
