"""The gateways that the contract holds for."""

import pytest

from app.db.gateway import Gateway


@pytest.fixture
def gateway_database_url(database_url: str) -> str:
    """The database behind `gateway`, for what a test arranges or checks as its owner."""
    return database_url


@pytest.fixture(params=["postgres"])
def gateway(gateway_database_url: str):
    from app.db.postgres import PostgresGateway

    opened: Gateway = PostgresGateway(gateway_database_url)
    yield opened
    opened.close()
