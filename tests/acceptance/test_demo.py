"""The demo from start to end in a database of its own: what tenantcast says is held against the known truth."""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.connect import open_gateway
from app.db.embedded import EmbeddedPostgres
from app.db.store import SystemStore, TenantStore
from app.services.demo.run import DemoResult, run_demo

QUICK = ("naive", "snaive", "weekday_mean")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    yield home
    EmbeddedPostgres(home / "demo").discard()


@pytest.fixture(scope="module")
def settings(home: Path) -> Settings:
    return Settings(tenantcast_home=home, _env_file=None)


@pytest.fixture(scope="module")
def result(settings: Settings) -> DemoResult:
    return run_demo(settings, MLSettings(model_candidates=QUICK), jobs=1)


@pytest.fixture(scope="module")
def told(settings: Settings, result: DemoResult, home: Path) -> Any:
    """What the demo left in its database, by shop: the run's item, and the sums as the worker sees them."""
    own = settings.model_copy(update={"tenantcast_home": home / "demo"})
    gateway = open_gateway(own)
    try:
        items = {item["tenant_id"]: item for item in SystemStore(gateway).show_run(None)["items"]}
        return {
            shop.shop.name: (shop, items[str(shop.tenant_id)], TenantStore(gateway, shop.tenant_id).check_sales())
            for shop in result.truth.shops
        }
    finally:
        gateway.close()
        EmbeddedPostgres(own.tenantcast_home).stop()


def test_the_demo_ends_with_nothing_running(result: DemoResult, home: Path) -> None:
    assert EmbeddedPostgres(home / "demo").stop() is False


def test_every_shop_with_sales_is_forecast_and_none_failed(result: DemoResult) -> None:
    assert result.counts["done"] == 11
    assert result.counts["no_sales"] == 1
    assert result.counts["failed"] == 0
    assert [row.shop for row in result.rows] == [shop.shop.name for shop in result.truth.shops]


def test_the_database_holds_the_files_good_rows_to_the_cent(told: Any) -> None:
    for name, (shop, _, checked) in told.items():
        # Rows ahead of their time are stored too: three of 55.00 in the messy shop.
        ahead = Decimal("55.00") * shop.future_rows
        assert checked["rows"] == shop.good_rows + shop.future_rows, name
        assert Decimal(checked["total"]) == sum(shop.daily.values(), ahead), name


def test_bad_rows_are_kept_aside_and_counted(result: DemoResult) -> None:
    quarantined = {tenant["name"]: tenant["quarantined"] for tenant in result.imported["tenants"]}

    assert quarantined == {shop.shop.name: shop.bad_rows for shop in result.truth.shops}


def test_the_report_knows_the_messy_shops_duplicates_and_future_rows(told: Any) -> None:
    shop, item, _ = told["Bazar <b>Ñandú</b> 🎉"]
    quality = item["report"]["quality"]

    assert quality["future_rows"] == shop.future_rows
    assert quality["duplicates"] == shop.duplicates
    assert quality["left_out_rows"] >= shop.bad_rows


def test_closed_days_are_forecast_as_exactly_zero(told: Any) -> None:
    shop, item, _ = told["Panadería La Espiga"]
    closures = {row["day"] for row in shop.calendar if row["kind"] == "closure"}
    closed = [
        day for day in item["report"]["forecast"]
        if date.fromisoformat(day["date"]).weekday() == 6 or day["date"] in closures
    ]  # fmt: skip

    assert len(closed) >= 4  # four Sundays, and a feast that may be one of them
    assert {(day["yhat"], day["yhat_lower"], day["yhat_upper"]) for day in closed} == {(0, 0, 0)}


def test_the_outage_is_reported_where_it_was(told: Any) -> None:
    shop, item, _ = told["Farmacia del Puerto"]
    spans = item["report"]["quality"]["suspected_outages"]

    assert [(span["start"], span["end"]) for span in spans] == [
        (shop.outage[0].isoformat(), shop.outage[-1].isoformat())
    ]


def test_the_surprising_day_is_flagged(told: Any) -> None:
    shop, item, _ = told["Corner Market"]

    assert shop.surprises[0].isoformat() in {day["date"] for day in item["report"]["anomalies"]}


def test_the_bars_night_sales_belong_to_the_day_before(told: Any) -> None:
    _, item, _ = told["Bar Medianoche"]

    # It is closed on Mondays; with a day that ends at midnight, Sunday's night would open them.
    assert item["report"]["closed_weekdays"] == [0]


def test_the_unfinished_day_is_left_out_and_forecast_first(told: Any) -> None:
    for name, (shop, item, _) in told.items():
        if item["report"]["forecast"]:
            assert item["report"]["as_of"] == (shop.today - timedelta(days=1)).isoformat(), name
            assert item["report"]["forecast"][0]["date"] == shop.today.isoformat(), name


def test_the_page_is_there_and_the_result_is_json(result: DemoResult, home: Path) -> None:
    assert result.page == home / "demo" / "report.html"
    assert result.page.read_text(encoding="utf-8").count('<section class="shop"') == 12
    assert len(json.loads(json.dumps(result.as_dict()))["shops"]) == 12
