"""The cache without a Redis, or with one that fails: slower, never wrong, and not noisy."""

from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis
import structlog

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.store import TenantStore
from app.services.cache import RedisGuard, TenantCache, bump_tenant, open_cache
from app.services.embedded_redis import EmbeddedRedis
from app.services.ml.feature_engineer import FeatureEngineer
from app.tenancy import TenantId
from tests.servers.postgres import free_port

TENANT = TenantId(UUID("aaaaaaaa-0000-4000-8000-000000000001"))


class Counted:
    """A computation that counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        return self.calls


class BrokenRedis:
    """A client whose every command fails; counts how often it was asked."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def __getattr__(self, _name: str) -> Any:
        self.asked += 1
        raise self.error


def test_without_any_redis_every_read_computes() -> None:
    cache, compute = open_cache(Settings()), Counted()

    assert [cache.get(TENANT, "x", compute) for _ in range(3)] == [1, 2, 3]
    cache.bump(TENANT)


def test_a_redis_that_is_not_there_costs_nothing_but_time() -> None:
    cache = open_cache(Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    compute = Counted()

    assert [cache.get(TENANT, "x", compute) for _ in range(3)] == [1, 2, 3]
    bump_tenant(TENANT, Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0"))


@pytest.mark.parametrize(
    "error",
    [redis.ConnectionError("redis://:secret@host"), redis.TimeoutError(), redis.ResponseError("OOM"), OSError()],
)
def test_a_failing_redis_is_left_alone_for_a_while_and_named_once(error: Exception) -> None:
    broken = BrokenRedis(error)
    cache, compute = TenantCache(RedisGuard(broken)), Counted()  # type: ignore[arg-type]

    with structlog.testing.capture_logs() as logs:
        answers = [cache.get(TENANT, "x", compute) for _ in range(50)]

    assert answers == list(range(1, 51))
    assert broken.asked == 1
    assert [entry["event"] for entry in logs] == ["cache_unavailable"]
    assert "secret" not in str(logs)


def test_a_bump_is_tried_whatever_failed_before() -> None:
    broken = BrokenRedis(redis.ConnectionError())
    cache = TenantCache(RedisGuard(broken))  # type: ignore[arg-type]
    cache.get(TENANT, "x", Counted())

    cache.bump(TENANT)

    assert broken.asked == 2


def test_settings_that_cannot_be_used_do_not_stop_whoever_bumps(monkeypatch: pytest.MonkeyPatch) -> None:
    bump_tenant(TENANT, Settings(cache_redis_url="no address at all"))
    monkeypatch.setenv("METRICS_PORT", "many")

    bump_tenant(TENANT)


def test_the_private_redis_of_the_home_is_used_when_none_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    server = EmbeddedRedis(home)
    try:
        server.ensure_running()
        cache, compute = open_cache(Settings(tenantcast_home=home)), Counted()

        assert [cache.get(TENANT, "x", compute) for _ in range(3)] == [1, 1, 1]
    finally:
        server.stop()


def test_what_the_computation_raises_reaches_the_reader() -> None:
    def fail() -> None:
        raise ValueError("no such tenant")

    with pytest.raises(ValueError, match="no such tenant"):
        TenantCache().get(TENANT, "x", fail)


def test_the_cache_has_a_redis_of_its_own_when_one_is_named() -> None:
    shared, own = Settings(redis_url="redis://a/0"), Settings(redis_url="redis://a/0", cache_redis_url="redis://b/0")

    assert open_cache(shared).guard is open_cache(Settings(redis_url="redis://a/0")).guard
    assert open_cache(own).guard is open_cache(Settings(cache_redis_url="redis://b/0")).guard
    assert open_cache(own).guard is not open_cache(shared).guard


class OneSeries:
    """A gateway that knows one tenant's week of sales; counts how often it is read."""

    name = "fake"

    def __init__(self) -> None:
        self.reads = 0

    def call(self, function: str, _params: object) -> Any:
        assert function == "ml_read_input"
        self.reads += 1
        facts = {"tenant_id": str(TENANT), "name": "Kiosk", "cutoff_hour": 0}
        return {
            "tenant": facts, "as_of": "2026-11-20", "last_finished_day": "2026-11-20", "stale": False,
            "start": "2026-11-18", "sales": [1.5, 0.0, 3.25], "calendar": [], "settings": None, "current": None,
            "quality": {},
        }  # fmt: skip

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    "stored", [None, 5, [], {}, {"start": "x", "sales": [1]}, {"start": "2026-01-01", "sales": []}]
)
def test_a_cached_value_of_another_shape_is_read_from_the_database(stored: Any) -> None:
    class Holding(TenantCache):
        def get(self, *_: Any) -> Any:
            return stored

    engineer = FeatureEngineer(TenantStore(OneSeries(), TENANT), MLSettings(), Holding())

    series = engineer.get_sales_timeseries_cached()

    if stored is None:  # a tenant without sales is a value like any other
        assert series is None
    else:
        assert series is not None
        assert (series.start, series.y.tolist()) == (date(2026, 11, 18), [1.5, 0.0, 3.25])
