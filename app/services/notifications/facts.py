"""What rules and summaries are judged by: one moment of one tenant, read in one call."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Self

from app.db.store import Row
from app.services.notifications.config import EMPTY, RuleBook
from app.services.report.formats import Locale, locale_of

DAYS = 42  # a week to judge, four to judge it by, and one more to know the longest gap
STOCK_DAYS = 28  # over which `ml_read_notification_facts` counts the units sold


@dataclass(frozen=True)
class Product:
    """A product with a known stock that was sold lately; units, and units per day."""

    product_id: str
    name: str
    stock: float
    rate: float


@dataclass(frozen=True)
class Expected:
    """One day of the current forecast, in the tenant's currency."""

    day: date
    yhat: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Facts:
    """``sales`` and ``rows`` are per finished business day from ``start`` to ``last_finished_day``."""

    locale: Locale
    last_finished_day: date
    start: date
    sales: tuple[float, ...]
    rows: tuple[int, ...]
    first_sale_day: date | None = None
    last_sale_day: date | None = None
    products: tuple[Product, ...] = ()
    forecast: tuple[Expected, ...] = ()
    rules: RuleBook = EMPTY
    held: Mapping[str, int] = field(default_factory=dict)
    read_at: str = ""

    @property
    def today(self) -> date:
        """The business day that is not over."""
        return self.last_finished_day + timedelta(days=1)

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """From the answer of ``ml_read_notification_facts``."""
        sales = tuple(float(value) for value in row["sales"])
        return cls(
            locale=locale_of(row["tenant"] or {}, typical=sum(sales) / max(len(sales), 1)),
            last_finished_day=date.fromisoformat(row["last_finished_day"]),
            start=date.fromisoformat(row["start"]),
            sales=sales,
            rows=tuple(int(value) for value in row["rows"]),
            first_sale_day=_day(row["first_sale_day"]),
            last_sale_day=_day(row["last_sale_day"]),
            products=tuple(_product(item) for item in row["products"]),
            forecast=tuple(_expected(item) for item in row["forecast"]),
            rules=RuleBook.from_rows(row["rules"]),
            held={item["kind"]: int(item["n"]) for item in row["held"]},
            read_at=row["read_at"],
        )


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def _product(item: Row) -> Product:
    return Product(
        str(item["product_id"]), str(item["name"] or ""), float(item["stock"]), float(item["units"]) / STOCK_DAYS
    )


def _expected(item: Row) -> Expected:
    return Expected(
        date.fromisoformat(item["date"]), float(item["yhat"]), float(item["yhat_lower"]), float(item["yhat_upper"])
    )
