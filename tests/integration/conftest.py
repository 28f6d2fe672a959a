"""What most tests here begin with: settings that lead to the test's own database."""

from pathlib import Path

import pytest

from app.config.settings import Settings


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> Settings:
    """Settings of a worker on `database_url`, with a home of its own and leases of two seconds."""
    return Settings(database_url=database_url, tenantcast_home=tmp_path / "home", ml_lease_seconds=2)
