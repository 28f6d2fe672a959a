"""Shops with sales in a real database, loaded through the example product's own import function."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid5

import numpy as np

from app.config.ml_settings import MLSettings
from app.db.gateway import Gateway
from app.db.store import TenantStore
from app.tenancy import TenantId

SPACE = UUID("7b0e7e0e-0000-4000-8000-000000000000")
CHEAP = MLSettings.model_construct(model_candidates=("naive", "snaive", "weekday_mean"), horizon_days=14, cv_folds=2)


def shop_id(name: str) -> TenantId:
    return TenantId(uuid5(SPACE, name))


def yesterday() -> date:
    """The last finished business day of a shop in UTC."""
    return datetime.now(UTC).date() - timedelta(days=1)


def add_shop(
    gateway: Gateway, name: str, *, days: int = 120, seed: int = 1, last_day: date | None = None, **facts: object
) -> TenantStore:
    """A shop in UTC with one sale on each of ``days`` days: 100 plus 10 per weekday, plus noise; closed on Sundays."""
    store = TenantStore(gateway, shop_id(name))
    end = last_day or yesterday()
    rng = np.random.default_rng(seed)
    rows = []
    for back in range(days):
        day = end - timedelta(days=back)
        if day.weekday() == 6:  # closed on Sundays
            continue
        amount = round(100 + 10 * day.weekday() + float(rng.normal(0, 5)), 2)
        rows.append(sale(f"{name}-{day}", day, amount))
    store.import_sales({"name": name, "time_zone": "UTC", "currency": "EUR", "language": "en"} | facts, rows)
    return store


def sale(sale_id: str, day: date, amount: float) -> dict[str, object]:
    return {
        "sale_id": sale_id,
        "sold_at": f"{day.isoformat()}T12:00:00+00:00",
        "amount": amount,
        "quantity": 1,
        "product_id": None,
    }
