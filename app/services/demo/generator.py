"""A dozen shops with known truth, written down the way a customer would have them: a CSV, their facts, a calendar."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from app.services.demo.shops import SHOPS, Shop
from app.services.demo.tickets import Ticket, draw_tickets, first_unfinished_day, stretch_days
from app.tenancy import TenantId, parse_tenant_id

SALES_COLUMNS = ("tenant_id", "fecha", "total", "producto_id")
CALENDAR_COLUMNS = ("tenant_id", "day", "kind", "name")
N_DUPLICATES = 6


@dataclass(frozen=True)
class ShopTruth:
    """What is true about one shop: whatever tenantcast says about it can be held against this."""

    shop: Shop
    tenant_id: TenantId
    today: date  # the business day that is still going on
    daily: dict[date, Decimal]  # total of the good rows per business day, the unfinished one included
    good_rows: int
    bad_rows: int  # rows of the file that are no sales
    future_rows: int  # readable rows that lie ahead of their time
    duplicates: int  # rows that repeat another one exactly; they count as sales
    calendar: list[dict[str, str]]  # {day, kind, name}
    outage: tuple[date, ...]
    surprises: tuple[date, ...]
    level_shift: date | None

    @property
    def facts(self) -> dict[str, Any]:
        """The tenant's row, in the words of `tenant_source`."""
        shop = self.shop
        return {
            "name": shop.name,
            "time_zone": shop.time_zone,
            "cutoff_hour": shop.cutoff_hour,
            "country": shop.country,
            "language": shop.language,
            "currency": shop.currency,
            "active": True,
        }


@dataclass(frozen=True)
class DemoTruth:
    """The files that were written, and the truth behind them."""

    sales: Path
    calendar: Path
    shops: tuple[ShopTruth, ...]


def generate_demo(out: Path, seed: int, now: datetime) -> DemoTruth:
    """Write ``sales.csv`` and ``calendar.csv`` of a dozen shops into the folder ``out``; return what is true.

    ``now`` is aware; each shop's sales end in the middle of the business day that is going on there. The same
    arguments give the same bytes.
    """
    out.mkdir(parents=True, exist_ok=True)
    truth = DemoTruth(out / "sales.csv", out / "calendar.csv", tuple(_truths(out / "sales.csv", seed, now)))
    _write_csv(truth.calendar, CALENDAR_COLUMNS, _calendar_rows(truth.shops))
    return truth


def _truths(path: Path, seed: int, now: datetime) -> Iterator[ShopTruth]:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SALES_COLUMNS)
        for number, shop in enumerate(SHOPS):
            tickets = draw_tickets(shop, [seed, number], now)
            duplicates = tickets[:N_DUPLICATES] if shop.messy else []
            today = first_unfinished_day(shop, now)
            ahead = list(_rows_ahead(shop, now)) if shop.messy else []
            garbage = list(_garbage(shop, today)) if shop.messy else []
            writer.writerows(_sale_row(shop, ticket) for ticket in (*tickets, *duplicates))
            writer.writerows(ahead)
            writer.writerows(garbage)
            counts = {"bad": len(garbage), "ahead": len(ahead), "duplicates": len(duplicates)}
            yield _truth(shop, today, [*tickets, *duplicates], **counts)


def _truth(shop: Shop, today: date, tickets: list[Ticket], *, bad: int, ahead: int, duplicates: int) -> ShopTruth:
    daily: dict[date, Decimal] = defaultdict(Decimal)
    for ticket in tickets:
        daily[ticket.day] += ticket.total
    return ShopTruth(
        shop=shop,
        tenant_id=parse_tenant_id(shop.name),
        today=today,
        daily=dict(daily),
        good_rows=len(tickets),
        bad_rows=bad,
        future_rows=ahead,
        duplicates=duplicates,
        calendar=[
            {"day": day.isoformat(), "kind": stretch.kind, "name": stretch.name}
            for stretch in shop.stretches
            if stretch.announced
            for day in stretch_days(shop, stretch, today)
        ],
        outage=_days_of(shop, "outage", today),
        surprises=_days_of(shop, "surprise", today),
        level_shift=today - timedelta(days=shop.shift[0]) if shop.shift else None,
    )


def _days_of(shop: Shop, kind: str, today: date) -> tuple[date, ...]:
    return tuple(
        day for stretch in shop.stretches if stretch.kind == kind for day in stretch_days(shop, stretch, today)
    )


def _sale_row(shop: Shop, ticket: Ticket) -> tuple[str, str, str, str]:
    aware = ticket.local.replace(tzinfo=ZoneInfo(shop.time_zone))
    moment = aware.isoformat() if shop.writes_utc else ticket.local.isoformat(sep=" ")
    return shop.name, moment, str(ticket.total), ticket.product


def _rows_ahead(shop: Shop, now: datetime) -> Iterator[tuple[str, str, str, str]]:
    """Sales that say they will happen: readable, yet no sales."""
    local = now.astimezone(ZoneInfo(shop.time_zone)).replace(microsecond=0, tzinfo=None)
    for days in (3, 40, 400):
        yield shop.name, (local + timedelta(days=days)).isoformat(sep=" "), "55.00", "ahead"


def _garbage(shop: Shop, today: date) -> Iterator[tuple[str, ...]]:
    """Rows that are no sales, as real exports have them."""
    noon = f"{today - timedelta(days=9)} 12:00:00"
    broken_totals = ("NaN", "inf", "-Infinity", "1e400", "", "doce soles", "💶", "12,5,0", "--3", "0x1F", "\x00")
    broken_times = ("", "ayer", "2026-02-31 10:00:00", "9999-12-31 23:59:59", "0000-00-00", "25:61", "⏰")
    for total in broken_totals:
        yield shop.name, noon, total, "roto"
    for moment in broken_times:
        yield shop.name, moment, "10.00", "roto"
    yield shop.name, noon
    yield shop.name, noon, "1.00", "roto", "una", "columna", "de más"


def _calendar_rows(shops: Iterable[ShopTruth]) -> Iterator[tuple[str, str, str, str]]:
    for truth in shops:
        for row in truth.calendar:
            yield truth.shop.name, row["day"], row["kind"], row["name"]


def _write_csv(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
