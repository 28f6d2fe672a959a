"""What most tests here begin with: a gateway to the test's own database, and settings that lead to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config.settings import Settings
from app.db.postgres import PostgresGateway


@pytest.fixture
def gateway(database_url: str) -> Iterator[PostgresGateway]:
    """A gateway to `database_url`."""
    opened = PostgresGateway(database_url)
    yield opened
    opened.close()


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> Settings:
    """Settings of a worker on `database_url`, with a home of its own and leases of two seconds."""
    return Settings(database_url=database_url, tenantcast_home=tmp_path / "home", ml_lease_seconds=2)
