"""Everything that a storm needs, put together: servers, a database with shops, the fleet and its environment."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg

from app.config.settings import Settings
from app.db.migrate import migrate
from tests.chaos.backends import Backends, Database
from tests.chaos.faults import Scene
from tests.chaos.fleet import Fleet, Role
from tests.chaos.ledger import FAST
from tests.chaos.tickets import VARIABLE as TICKETS
from tests.chaos.worker import LIGHT, RETRY_SECONDS, SLOW_SECONDS

LEASE_SECONDS = 2
QUIET = ("--without-mingle", "--without-gossip", "--loglevel=WARNING")


@dataclass(frozen=True)
class Stage:
    """One database and one home on running servers."""

    backends: Backends
    database: Database
    settings: Settings
    home: Path

    @property
    def tickets(self) -> Path:
        return self.home / "tickets"

    def scene(
        self, roles: list[Role], *, fit_seconds: float = 0.0, light: bool = True, extra: Mapping[str, str] | None = None
    ) -> Scene:
        """A fleet of ``roles``, not started yet, and what else faults can reach; ``extra`` is for its environment."""
        environment = self.environment(fit_seconds) | ({LIGHT: "1"} if light else {}) | dict(extra or {})
        fleet = Fleet(roles, environment, self.home)
        return Scene(self.backends, self.database, fleet, LEASE_SECONDS)

    def environment(self, fit_seconds: float) -> dict[str, str]:
        return FAST | {
            "DATABASE_URL": self.database.url,
            "REDIS_URL": self.backends.redis.url,
            "CELERY_BROKER_URL": self.backends.redis.url,
            "TENANTCAST_HOME": str(self.home / "home"),
            "ML_LEASE_SECONDS": str(LEASE_SECONDS),
            "ML_RECONCILE_SECONDS": "1",
            "ML_RETRAIN_CRON": _never_today(),
            "LOG_LEVEL": "WARNING",
            "REMAP_SIGTERM": "SIGQUIT",  # as in production: a soft shutdown
            "C_FORCE_ROOT": "1",
            SLOW_SECONDS: str(fit_seconds),
            RETRY_SECONDS: "1",
            TICKETS: str(self.tickets),
        }


@contextmanager
def new_stage(backends: Backends) -> Iterator[Stage]:
    """A migrated database of its own and empty queues."""
    with tempfile.TemporaryDirectory(prefix="tc-stage-") as directory:
        home = Path(directory)
        (home / "tickets").mkdir()
        backends.redis.start()
        backends.redis.flush()
        database = backends.postgres.create_database(f"storm_{uuid4().hex[:12]}")
        migrate(database.url, examples=True)
        settings = Settings(database_url=database.url, tenantcast_home=home / "home", ml_lease_seconds=LEASE_SECONDS)
        yield Stage(backends, database, settings, home)


def ledger_roles(workers: int = 2, children: int = 2) -> list[Role]:
    """The product's processes: workers for forecasts, one for the reconciler, two beats."""
    module = "tests.chaos.worker"
    return [
        *(_worker(module, f"ml{n}", children, "-Q", "ml_processing") for n in range(workers)),
        _worker(module, "control", 1, "-Q", "control"),
        *(Role(f"beat{n}", ("-m", module, "beat", "--loglevel=WARNING", "--pidfile="), False) for n in range(2)),
    ]


def control_roles(workers: int = 2, children: int = 2) -> list[Role]:
    """As many workers for the negative control."""
    return [_worker("tests.chaos.control", f"message{n}", children) for n in range(workers)]


def _worker(module: str, name: str, children: int, *options: str) -> Role:
    return Role(name, ("-m", module, "worker", "-c", str(children), "-n", f"{name}@chaos", *options, *QUIET))


_SLOW_PUBLISH = """
create table chaos_slow (tenant_id uuid primary key);
create function chaos_slow() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  if exists (select 1 from public.chaos_slow as s where s.tenant_id = new.tenant_id) then
    perform pg_catalog.pg_sleep(1);
  end if;
  return new;
end; $$;
create trigger chaos_slow before insert on ml_forecast_ledger for each row execute function chaos_slow();
"""


def slow_publishes(database: Database, tenants: list[str]) -> None:
    """From now on a publish of these tenants takes a second, with its rows written and nothing committed."""
    with psycopg.connect(database.url) as connection:
        connection.execute(_SLOW_PUBLISH)
        connection.execute("insert into chaos_slow select unnest(%s::uuid[])", [tenants])


def _never_today() -> str:
    """A weekly schedule that is half a year away: no scheduled run joins in."""
    return f"0 2 1 {(datetime.now(UTC).month + 5) % 12 + 1} *"
