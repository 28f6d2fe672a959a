"""The gateways that one contract holds for: psycopg, and PostgREST with Supabase's row limit and with a tiny one."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from app.config.settings import Settings
from app.db.connect import open_gateway
from app.db.gateway import Gateway
from tests.servers.postgrest import PostgrestServer, running_postgrest

POSTGRES = "postgres"
GATEWAYS = {POSTGRES: 0, "supabase-1000": 1000, "supabase-7": 7}


@dataclass(frozen=True)
class Way:
    """One way to a database: settings that choose it, and PostgREST where it takes part."""

    settings: Settings
    postgrest: PostgrestServer | None = None


@pytest.fixture(params=list(GATEWAYS))
def gateway_kind(request: pytest.FixtureRequest) -> str:
    """Which gateway this run of the test uses."""
    return str(request.param)


@pytest.fixture
def way(gateway_kind: str, database_url: str) -> Iterator[Way]:
    """Settings that lead to this test's own database, `database_url`, by `gateway_kind`."""
    if gateway_kind == POSTGRES:
        yield Way(Settings(database_url=database_url))
        return
    with running_postgrest(database_url, GATEWAYS[gateway_kind]) as server:
        yield Way(Settings(supabase_url=server.url, supabase_service_role_key=server.key()), server)


@pytest.fixture
def gateway(way: Way) -> Iterator[Gateway]:
    """The gateway under test; `database_url` is the address of the same database for its owner."""
    opened = open_gateway(way.settings)
    try:
        yield opened
    finally:
        opened.close()
