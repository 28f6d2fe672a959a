"""Features and trends through both gateways: what is written, that it is written once, and who is passed over."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import TenantStore
from app.errors import NoSales, UnknownTenant
from app.services import trends
from app.services.features import FeatureReport, update_features, update_page
from app.tenancy import TenantId
from tests.integration.shops import add_shop, sale, shop_id, yesterday

NO_CACHE = Settings()
ALL = MLSettings()
NOBODY = TenantId(UUID(int=9))


def features(store: TenantStore, kind: str) -> dict[str, Any]:
    return {row["feature_date"]: row["feature_values"] for row in store.read_features(kind)}


def update(store: TenantStore) -> FeatureReport:
    return update_features(store.gateway, store.tenant_id, ml_settings=ALL, settings=NO_CACHE)


def test_an_update_writes_totals_means_inventory_and_trends(gateway: Gateway, database_url: str) -> None:
    store = add_shop(gateway, "kiosk", days=40)
    with psycopg.connect(database_url) as owner:
        owner.execute("insert into public.productos (negocio_id, id, nombre, stock) values (%s, 'p', 'Tea', 3)",
                      (store.tenant_id,))  # fmt: skip

    report = update(store)

    last = yesterday().isoformat()
    totals = features(store, "daily_total")
    days = sorted(totals)
    assert days[-1] == last
    assert report["as_of"] == last
    assert report["sales_rows"] == len(days) + (len(days) - 6) + (len(days) - 27)
    assert (report["inventory_rows"], report["trends_rows"]) == (1, 1)
    week = sum(totals[day]["value"] for day in days[-7:]) / 7
    assert features(store, "ma7")[last]["value"] == pytest.approx(week)
    today = (yesterday() + timedelta(days=1)).isoformat()
    assert features(store, "inventory")[today]["units"] == 3
    stored = features(store, "trends")[last]
    assert stored["level"]["total_28_days"] == pytest.approx(sum(totals[day]["value"] for day in days[-28:]))
    assert stored["currency"] == "EUR"


def test_nothing_new_writes_nothing(gateway: Gateway) -> None:
    store = add_shop(gateway, "kiosk", days=60)
    update(store)

    again = update(store)

    assert (again["sales_rows"], again["trends_rows"]) == (0, 0)


def test_an_old_sale_that_changes_moves_its_day_and_the_means_after_it(gateway: Gateway) -> None:
    store = add_shop(gateway, "kiosk", days=60)
    update(store)
    before = features(store, "daily_total")
    day = date.fromisoformat(sorted(before)[20])
    store.import_sales({"name": "kiosk", "time_zone": "UTC"}, [sale("late", day, 70.0)])

    report = update(store)

    after = features(store, "daily_total")
    assert report["sales_rows"] == 28 + 28 + (20 + 28 - 27)  # totals, ma7 and ma28 of the day and the 27 after it
    assert after[day.isoformat()]["value"] == pytest.approx(before[day.isoformat()]["value"] + 70.0)
    assert {k: v for k, v in after.items() if k != day.isoformat()} == {
        k: v for k, v in before.items() if k != day.isoformat()
    }
    assert update(store)["sales_rows"] == 0


def test_a_tenant_without_sales_has_no_features_and_no_trends(gateway: Gateway) -> None:
    store = add_shop(gateway, "new", days=0)

    report = update(store)

    assert report == {
        "tenant_id": str(store.tenant_id), "as_of": None, "sales_rows": 0, "inventory_rows": 0, "trends_rows": 0,
    }  # fmt: skip
    with pytest.raises(NoSales):
        trends.analyze(gateway, store.tenant_id, ml_settings=ALL, settings=NO_CACHE)


def test_a_tenant_that_does_not_exist_is_named(gateway: Gateway) -> None:
    with pytest.raises(UnknownTenant, match=str(NOBODY)):
        update_features(gateway, NOBODY, ml_settings=ALL, settings=NO_CACHE)
    with pytest.raises(UnknownTenant, match=str(NOBODY)):
        trends.analyze(gateway, NOBODY, ml_settings=ALL, settings=NO_CACHE)


def test_trends_on_demand_are_returned_and_stored_alike(gateway: Gateway) -> None:
    store = add_shop(gateway, "kiosk", days=120)

    report = trends.analyze(gateway, store.tenant_id, ml_settings=ALL, settings=NO_CACHE)

    assert features(store, "trends") == {yesterday().isoformat(): report}
    assert report["tenant_id"] == str(store.tenant_id)
    assert report["weekdays"][6]["closed"]


def test_features_are_read_from_a_day_on_and_never_of_another_tenant(gateway: Gateway) -> None:
    kiosk, other = add_shop(gateway, "kiosk", days=10), add_shop(gateway, "other", days=10)
    update(kiosk)

    recent = kiosk.read_features("daily_total", yesterday() - timedelta(days=1))

    assert [row["feature_date"] for row in recent] == [str(yesterday() - timedelta(days=1)), str(yesterday())]
    assert other.read_features("daily_total") == []


def pages(gateway: Gateway, settings: MLSettings, limit: int) -> Iterator[dict[str, Any]]:
    after: TenantId | None = None
    while True:
        page = update_page(gateway, after=after, limit=limit, ml_settings=settings, settings=NO_CACHE)
        yield dict(page)
        if page["next_after"] is None:
            return
        after = TenantId(UUID(page["next_after"]))


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_come_by_every_active_tenant_once(gateway: Gateway, limit: int) -> None:
    shops = [add_shop(gateway, name, days=8) for name in ("a", "b", "c")]
    closed = add_shop(gateway, "closed", days=8, active=False)

    seen = list(pages(gateway, ALL, limit))

    assert sum(page["tenants"] for page in seen) == 3
    assert all(page["tenants"] <= limit for page in seen)
    assert all(len(features(store, "daily_total")) in {7, 8} for store in shops)
    assert features(closed, "daily_total") == {}


def test_tenants_that_are_not_allowed_are_passed_over(gateway: Gateway) -> None:
    allowed, other = add_shop(gateway, "a", days=8), add_shop(gateway, "b", days=8)

    list(pages(gateway, MLSettings(tenant_ids=str(shop_id("a"))), 100))

    assert features(allowed, "daily_total")
    assert features(other, "daily_total") == {}


def test_one_tenant_that_cannot_be_read_stops_no_other(gateway: Gateway) -> None:
    shops = [add_shop(gateway, name, days=8) for name in ("a", "b", "c")]

    class Garbling:
        """Answers with something that is no input for one tenant."""

        name = gateway.name

        def call(self, function: str, params: Any) -> Any:
            garbled = function == "ml_read_input" and params["p_tenant_id"] == shops[1].tenant_id
            return {"tenant": 5} if garbled else gateway.call(function, params)

        def close(self) -> None:
            """Not ours to close."""

    page = update_page(Garbling(), ml_settings=ALL, settings=NO_CACHE)

    assert page["failed"] == [str(shops[1].tenant_id)]
    assert page["tenants"] == 3
    assert features(shops[0], "daily_total")
    assert features(shops[2], "daily_total")
