"""From a shop's law to its tickets: deterministic by seed, in the shop's own local time."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np

from app.services.demo.shops import Shop, Stretch
from app.services.ml.calendar import Calendar

WHOLE_UNITS = frozenset({"CLP", "JPY", "PYG", "KRW"})  # currencies without cents


@dataclass(frozen=True)
class Ticket:
    """One sale (or, below zero, one refund) as the till wrote it."""

    day: date  # the business day it belongs to
    local: datetime  # naive, on the shop's clock
    total: Decimal
    product: str


def first_unfinished_day(shop: Shop, now: datetime) -> date:
    """The business day that is still going on at ``now`` (aware) on the shop's clock."""
    return (now.astimezone(ZoneInfo(shop.time_zone)) - timedelta(hours=shop.cutoff_hour)).date()


def stretch_days(shop: Shop, stretch: Stretch, today: date) -> list[date]:
    """The calendar days of a stretch, oldest first; an outage lies earlier where a public holiday would explain it."""
    first = today - timedelta(days=stretch.offset)
    while stretch.kind == "outage" and Calendar(shop.country).holidays(first, stretch.n_days).any():
        first -= timedelta(days=1)
    return [first + timedelta(days=i) for i in range(stretch.n_days)]


def draw_tickets(shop: Shop, seed: list[int], now: datetime) -> list[Ticket]:
    """All tickets of the shop up to ``now``, in order of time; those of the unfinished day are the last ones."""
    rng = np.random.default_rng(seed)
    today = first_unfinished_day(shop, now)
    factors = _stretch_factors(shop, today)
    tickets: list[Ticket] = []
    for back in range(shop.days, -1, -1):
        day = today - timedelta(days=back)
        factor = day_factor(shop, day, back) * factors.get(day, 1.0) * float(rng.lognormal(0.0, shop.noise))
        tickets += _tickets_of_day(shop, day, factor, rng)
    tickets += list(_refunds(shop, tickets, today, rng))
    local_now = now.astimezone(ZoneInfo(shop.time_zone)).replace(tzinfo=None)
    return sorted((t for t in tickets if t.local < local_now), key=lambda t: (t.local, t.total, t.product))


def day_factor(shop: Shop, day: date, back: int) -> float:
    """What the law expects of ``day``, ``back`` days ago, as a multiple of an ordinary day; stretches not counted."""
    season = 1 + shop.year_swing * np.cos(2 * np.pi * (day.timetuple().tm_yday - shop.year_peak) / 365.25)
    growth = (1 + shop.growth) ** ((shop.days - back) / 365.25)
    shift = shop.shift[1] if shop.shift and back <= shop.shift[0] else 1.0
    return float(shop.week[day.weekday()] * season * growth * shift)


def _stretch_factors(shop: Shop, today: date) -> dict[date, float]:
    return {day: stretch.factor for stretch in shop.stretches for day in stretch_days(shop, stretch, today)}


def _tickets_of_day(shop: Shop, day: date, factor: float, rng: np.random.Generator) -> Iterator[Ticket]:
    opens, closes = shop.hours
    n_tickets = _ticket_count(shop, factor, rng)
    if not n_tickets:
        return
    # Few tickets stand for many: the day's total follows the law closely, whatever the number of tickets.
    target = shop.daily * factor if shop.tickets >= 1 else shop.daily / shop.tickets * n_tickets
    shares = rng.dirichlet(np.full(n_tickets, 4.0))
    minutes = (opens + (closes - opens) * rng.beta(2.0, 2.0, n_tickets)) * 60
    for share, minute, product in zip(shares, minutes, rng.choice(len(shop.products), n_tickets), strict=True):
        yield Ticket(day, _on_the_clock(shop, day, float(minute)), _money(shop, target * share), shop.products[product])


def _ticket_count(shop: Shop, factor: float, rng: np.random.Generator) -> int:
    if factor == 0:
        return 0
    drawn = int(rng.poisson(shop.tickets * factor))
    return max(drawn, 1) if shop.tickets >= 1 else drawn


def _on_the_clock(shop: Shop, day: date, minute: float) -> datetime:
    """The shop's wall time ``minute`` minutes into ``day``; times that a clock change skips move forward by the gap."""
    zone = ZoneInfo(shop.time_zone)
    wall = datetime(day.year, day.month, day.day) + timedelta(seconds=int(minute * 60))  # noqa: DTZ001 (a wall clock)
    return wall.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None)


def _refunds(shop: Shop, tickets: list[Ticket], today: date, rng: np.random.Generator) -> Iterator[Ticket]:
    """Some tickets come back one to five days later, at an hour when the shop is open."""
    if not shop.refund_share:
        return
    for ticket in tickets:
        if rng.random() >= shop.refund_share:
            continue
        day = ticket.day + timedelta(days=int(rng.integers(1, 6)))
        minute = float(rng.uniform(*shop.hours)) * 60
        if day <= today:
            yield Ticket(day, _on_the_clock(shop, day, minute), -ticket.total, ticket.product)


def _money(shop: Shop, amount: float) -> Decimal:
    unit = Decimal(1) if shop.currency in WHOLE_UNITS else Decimal("0.01")
    return max(Decimal(repr(float(amount))).quantize(unit), unit)
