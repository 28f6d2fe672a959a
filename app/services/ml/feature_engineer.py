"""Sales and inventory of one tenant as features: the rows behind the series, and what dashboards read per day."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.gateway import Json
from app.db.store import Row, TenantStore
from app.errors import InvalidSeries, InvalidTenantInput
from app.services.cache import TenantCache, open_cache
from app.services.ml.intake import TenantInput, read_tenant_input
from app.services.ml.series import DailySeries, FloatArray

PAGE_ROWS = 1_000
WRITE_ROWS = 2_000  # features per call
WINDOWS = {"ma7": 7, "ma28": 28}  # days
INVENTORY_PRODUCTS = 1_000  # of which a snapshot keeps the stock by product; the totals count all


@dataclass(frozen=True)
class FeatureEngineer:
    """Reads through one tenant's store and writes its `ml_features`. Raises what `TenantStore` raises."""

    store: TenantStore
    settings: MLSettings = field(default_factory=MLSettings)
    cache: TenantCache = field(default_factory=lambda: open_cache(Settings()))

    def iter_sales_rows(self, page_rows: int = PAGE_ROWS) -> Iterator[Row]:
        """Every readable sale, oldest first, ``{sale_id, sold_at, amount, quantity, product_id}``, in bounded memory.

        Read by key, page after page until one is empty: a server that gives fewer rows than asked for cuts nothing
        off. ``amount`` is None where the product holds something that is no amount.
        """
        after: tuple[datetime | None, str | None] = (None, None)
        while rows := self.store.read_sales_page(*after, page_rows):
            yield from rows
            after = (datetime.fromisoformat(rows[-1]["sold_at"]), rows[-1]["sale_id"])

    def get_sales_rows(self, page_rows: int = PAGE_ROWS) -> list[Row]:
        """All of `iter_sales_rows` as a list, its length checked against the database's own count.

        Raises
        ------
        InvalidTenantInput : the count differs, also after a second reading; sales may arrive while we read
        """
        for _ in range(2):
            rows = list(self.iter_sales_rows(page_rows))
            expected = self.store.check_sales()["readable"]
            if len(rows) == expected:
                return rows
        raise InvalidTenantInput(
            f"{len(rows)} of {expected} sales could be read.",
            next_step="Is sale_id unique per tenant, and never null, in tenantcast_source.sales_source?",
            tenant_id=str(self.store.tenant_id),
        )

    def read_input(self, as_of: date | None = None) -> TenantInput | None:
        """All that a forecast is made from, up to ``as_of`` (None: the last finished day); None: no such tenant."""
        row = self.store.read_input(as_of, self.settings.max_train_window_days, self.settings.stale_after_days)
        return read_tenant_input(row, self.settings)

    def sales_timeseries_daily(self, as_of: date | None = None) -> DailySeries | None:
        """Sales per business day, summed in the database; None without any usable sale."""
        found = self.read_input(as_of)
        return found.series if found else None

    def get_sales_timeseries_cached(self, as_of: date | None = None) -> DailySeries | None:
        """`sales_timeseries_daily` through Redis: at most minutes old, and read anew after the tenant was bumped.

        For dashboards; a forecast is made from the database. Without Redis every call reads the database.
        """
        name = f"sales:{as_of or 'now'}:{self.settings.max_train_window_days}:{self.settings.stale_after_days}"
        found = self.cache.get(self.store.tenant_id, name, lambda: _packed(self.sales_timeseries_daily(as_of)))
        try:
            return _unpacked(found)
        except (InvalidSeries, TypeError, ValueError, KeyError):  # somebody else's value: the database knows
            return self.sales_timeseries_daily(as_of)

    def persist_sales_features(self, series: DailySeries | None = None) -> int:
        """Write daily_total, ma7 and ma28 of every day of the series (None: read it); returns the rows written.

        The means are over the 7 and 28 business days that end with the day; a day with fewer before it has none.
        """
        series = series if series is not None else self.sales_timeseries_daily()
        if series is None:
            return 0
        return self._write(sales_features(series))

    def refresh_sales_features(self, series: DailySeries) -> int:
        """Write those features of `persist_sales_features` that are not stored as they are; returns the rows written.

        A changed day changes the means of the 27 days after it too.
        """
        stored = {
            row["feature_date"]: row["feature_values"].get("value")
            for row in self.store.read_features("daily_total", series.start)
        }
        totals = series.y.tolist()
        changed = [stored.get(str(day)) != total for day, total in zip(series.dates, totals, strict=True)]
        if not any(changed):
            return 0
        reach = max(WINDOWS.values()) - 1
        touched: set[str] = set()
        for day in np.flatnonzero(changed).tolist():
            touched.update(str(later) for later in series.dates[day : day + reach + 1])
        return self._write([row for row in sales_features(series) if row["feature_date"] in touched])

    def inventory_snapshot(self) -> list[Row]:
        """What is in stock now, ``{product_id, name, stock}`` by product; ``stock`` is None where it is not kept."""
        return self.store.read_inventory()

    def persist_inventory_features(self, on: date | None = None) -> int:
        """Write today's inventory as one feature row; returns the rows written (none without products).

        ``on`` is the business day it belongs to; None is the tenant's unfinished day by the database's clock.
        """
        stock = {row["product_id"]: row["stock"] for row in self.inventory_snapshot()}
        if not stock:
            return 0
        day = on or self._today()
        counted = {product: units for product, units in stock.items() if units is not None}
        values: dict[str, Any] = {
            "products": len(stock),
            "products_counted": len(counted),
            "out_of_stock": sum(units <= 0 for units in counted.values()),
            "units": float(sum(Decimal(str(units)) for units in counted.values())),
            "stock": dict(sorted(counted.items())[:INVENTORY_PRODUCTS]),
        }
        return self._write([{"feature_date": day.isoformat(), "feature_type": "inventory", "feature_values": values}])

    def _today(self) -> date:
        row = self.store.read_input(None, 1, self.settings.stale_after_days)
        return date.fromordinal(date.fromisoformat(row["last_finished_day"]).toordinal() + 1)

    def _write(self, rows: list[Row]) -> int:
        chunks = (rows[start : start + WRITE_ROWS] for start in range(0, len(rows), WRITE_ROWS))
        return sum(int(self.store.write_features(chunk)["written"]) for chunk in chunks)


def _packed(series: DailySeries | None) -> Json:
    return None if series is None else {"start": series.start.isoformat(), "sales": series.y.tolist()}


def _unpacked(value: Json) -> DailySeries | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TypeError(f"a cached series cannot be a {type(value).__name__}")
    return DailySeries(date.fromisoformat(str(value["start"])), np.array(value["sales"], dtype=np.float64))


def sales_features(series: DailySeries) -> list[Row]:
    """The rows of `ml_features`: ma7 and ma28 of every day with enough days before it, daily_total of every day.

    The totals come last: a refresh that finds a total as it should be may take it that its means are written.
    """
    columns = {name: moving_average(series.y, n) for name, n in WINDOWS.items()} | {"daily_total": series.y}
    days = [str(day) for day in series.dates]
    return [
        {"feature_date": day, "feature_type": name, "feature_values": {"value": float(value)}}
        for name, values in columns.items()
        for day, value in zip(days, values, strict=True)
        if np.isfinite(value)
    ]


def moving_average(y: FloatArray, window: int) -> FloatArray:
    """Mean of the ``window`` days that end with each day, shape (n_days,); nan on the first ``window - 1`` days."""
    means = np.full(y.size, np.nan)
    if y.size >= window:
        means[window - 1 :] = np.lib.stride_tricks.sliding_window_view(y, window).mean(axis=1)
    return means
