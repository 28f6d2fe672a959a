"""Whichever way leads to the database, the same sales give the same forecast."""

from datetime import timedelta

from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.postgres import PostgresGateway
from app.services.ml.pipeline import train_and_predict_sales
from tests.integration.shops import CHEAP, add_shop, shop_id, yesterday


def test_the_same_sales_give_the_same_output_over_every_gateway(gateway: Gateway, database_url: str) -> None:
    store = add_shop(gateway, "bakery", days=90)
    store.write_calendar([{"day": str(yesterday() + timedelta(days=3)), "kind": "closure", "name": "fiesta"}])
    store.write_settings({"horizon_days": 10, "cv_folds": "bad"})

    first = train_and_predict_sales(shop_id("bakery"), gateway=gateway, settings=CHEAP, environment=Settings())

    direct = PostgresGateway(database_url)
    try:
        second = train_and_predict_sales(
            shop_id("bakery"), gateway=direct, settings=CHEAP, environment=Settings(), force=True
        )
    finally:
        direct.close()
    assert (first["status"], second["status"]) == ("published", "published")
    assert first["forecast"][2]["yhat"] == 0.0  # the announced closure
    assert (first["input_hash"], first["output_hash"]) == (second["input_hash"], second["output_hash"])
    assert first["refused_settings"] == second["refused_settings"]


def test_a_second_run_is_a_no_op_over_every_gateway(gateway: Gateway) -> None:
    add_shop(gateway, "bakery", days=30)
    reports = [
        train_and_predict_sales(shop_id("bakery"), gateway=gateway, settings=CHEAP, environment=Settings())
        for _ in range(2)
    ]

    assert [report["status"] for report in reports] == ["published", "unchanged"]
