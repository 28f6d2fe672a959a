"""What every test stands on: a clean environment, and a PostgreSQL of the run's own where a test asks for one."""

import os

# First: the thread pools are pinned before anything loads numpy.
import app  # noqa: F401  isort: skip

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.db.gateway import Gateway
from app.db.postgres import PostgresGateway
from tests.servers.postgres import PostgresServer, running_postgres
from tests.servers.redis import RedisServer, running_redis

TEMPLATE = "tenantcast_template"
KEPT = {"TENANTCAST_DATA", "TENANTCAST_FUZZ"}
OURS = ("ML_", "SUPABASE_", "TENANTCAST_", "LOG_", "PGRST_", "CELERY_", "CACHE_", "METRICS_", "NOTIFY_")
THEIRS = ("DATABASE_URL", "REDIS_URL")
LIBPQ = ("PGDATA", "PGDATABASE", "PGHOST", "PGHOSTADDR", "PGOPTIONS", "PGPASSFILE", "PGPASSWORD", "PGPORT", "PGSERVICE",
         "PGSSLMODE", "PGUSER")  # fmt: skip


def pytest_configure() -> None:
    """The developer's own settings stay out, for the tests and for the processes that they start."""
    for name in list(os.environ):
        if (name.startswith(OURS) and name not in KEPT) or name in THEIRS or name in LIBPQ:
            del os.environ[name]


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env` of the developer is read, and nothing is written into the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that ends with the run; started when the first test asks."""
    with running_postgres() as server:
        server.add_supabase_roles()
        yield server


@pytest.fixture(scope="session")
def template_database(postgres_server: PostgresServer) -> str:
    """The name of a database like a Supabase project's, with all migrations and the example product."""
    from app.db.migrate import migrate

    url = postgres_server.create_database(TEMPLATE)
    postgres_server.imitate_supabase(TEMPLATE)
    migrate(url, examples=True)
    return TEMPLATE


@pytest.fixture
def database_url(postgres_server: PostgresServer, template_database: str) -> Iterator[str]:
    """A fresh database for this test, migrated, with the example product's empty tables."""
    with postgres_server.scratch_database(template_database) as url:
        yield url


@pytest.fixture
def gateway(database_url: str) -> Iterator[Gateway]:
    """A gateway to `database_url`; tests of the contract open it on every way there is."""
    opened = PostgresGateway(database_url)
    yield opened
    opened.close()


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A fresh database for this test, without anything of ours."""
    with postgres_server.scratch_database() as url:
        yield url


@pytest.fixture
def tenantcast_home(tmp_path: Path) -> Iterator[Path]:
    """A home for a private PostgreSQL (TENANTCAST_HOME), which is stopped and deleted at the end of the test."""
    from app.db.embedded import EmbeddedPostgres

    home = tmp_path / "home"
    yield home
    EmbeddedPostgres(home).discard()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis server that ends with the run; started when the first test asks. Tests may flush, kill and start it."""
    with running_redis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of the run's Redis server, running and empty, also when the test before has killed it."""
    redis_server.start()
    redis_server.flush()
    return redis_server.url
