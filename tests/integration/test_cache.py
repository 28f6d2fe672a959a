"""The cache on a real Redis: one computation per miss, nothing old after a bump, and it may die at any time."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import redis

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.postgres import PostgresGateway
from app.db.store import TenantStore
from app.services import trends
from app.services.cache import DEFAULT_TIMING, PREFIX, RedisGuard, TenantCache, Timing, bump_tenant, open_cache
from app.services.features import update_features
from app.services.ml.feature_engineer import FeatureEngineer
from app.services.ml.pipeline import train_and_predict_sales
from app.services.sales_import import import_file
from app.tenancy import TenantId
from tests.integration.shops import CHEAP, add_shop, yesterday
from tests.servers.redis import RedisServer
from tests.unit.test_cache import OneSeries

TENANT = TenantId(UUID("aaaaaaaa-0000-4000-8000-000000000001"))
STRANGER = TenantId(UUID("bbbbbbbb-0000-4000-8000-000000000002"))
READERS = 200


class Slow:
    """A computation that takes a moment, counts, and gives its number."""

    def __init__(self, seconds: float = 0.2) -> None:
        self.seconds = seconds
        self.calls = 0
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            self.calls += 1
            number = self.calls
        time.sleep(self.seconds)
        return number


def cache_at(url: str, timing: Timing = DEFAULT_TIMING) -> TenantCache:
    """A cache with patience: two hundred threads on a busy machine are no Redis that fails."""
    pool = redis.BlockingConnectionPool.from_url(url, max_connections=16, timeout=60, socket_timeout=30)
    return TenantCache(RedisGuard(redis.Redis(connection_pool=pool)), timing)


def all_at_once(read: Callable[[], object]) -> list[object]:
    """What 200 readers get who begin together."""
    start = threading.Barrier(READERS)

    def reader(_: int) -> object:
        start.wait(60)
        return read()

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(reader, range(READERS)))


def test_200_readers_of_a_missing_value_compute_it_once(redis_url: str) -> None:
    cache, compute = cache_at(redis_url), Slow()

    answers = all_at_once(lambda: cache.get(TENANT, "x", compute))

    assert compute.calls <= 2
    assert set(answers) <= {1, 2}


def test_200_readers_of_a_stale_value_get_it_while_one_computes_the_next(redis_url: str) -> None:
    cache_at(redis_url, Timing(fresh=0.001, stale=600)).get(TENANT, "x", lambda: "old")
    cache = cache_at(redis_url, Timing(fresh=600, stale=650))  # less than 650 s to live: stale
    answered, calls = threading.Semaphore(0), Slow(0)

    def compute() -> str:
        calls()
        for _ in range(READERS - 2):  # so it ends only if the others do not wait for it
            assert answered.acquire(timeout=60)
        return "new"

    def read() -> object:
        answer = cache.get(TENANT, "x", compute)
        answered.release()
        return answer

    answers = all_at_once(read)

    assert 1 <= calls.calls <= 2
    assert answers.count("old") >= READERS - 2
    assert cache.get(TENANT, "x", compute) == "new"


def test_a_reader_that_dies_with_the_lock_holds_the_others_up_for_no_longer_than_the_lock(redis_url: str) -> None:
    cache, compute = cache_at(redis_url, Timing(lock=0.3)), Slow(0)
    cache.get(TENANT, "seen", compute)  # gives the tenant its version
    with redis.Redis.from_url(redis_url) as server:
        version = server.get(f"{PREFIX}{{{TENANT}}}:version")
        assert isinstance(version, bytes)
        server.set(f"{PREFIX}{{{TENANT}}}:{version.decode()}:x:lock", "a dead reader", px=300)

    assert cache.get(TENANT, "x", compute) == 2


def test_a_failed_computation_gives_the_lock_back(redis_url: str) -> None:
    cache, compute = cache_at(redis_url, Timing(lock=600, wait=600)), Slow(0)

    def fail() -> None:
        raise ValueError("the database is away")

    with pytest.raises(ValueError, match="away"):
        cache.get(TENANT, "x", fail)
    assert cache.get(TENANT, "x", compute) == 1


def test_after_a_bump_the_next_read_is_new_and_other_tenants_keep_theirs(redis_url: str) -> None:
    cache, compute, other = cache_at(redis_url), Slow(0), Slow(0)
    for _ in range(2):
        assert cache.get(TENANT, "x", compute) == 1
        assert cache.get(STRANGER, "x", other) == 1

    bump_tenant(TENANT, Settings(redis_url=redis_url))

    assert cache.get(TENANT, "x", compute) == 2
    assert cache.get(STRANGER, "x", other) == 1


def test_a_value_computed_from_what_was_before_a_bump_is_not_served_after_it(redis_url: str) -> None:
    cache = cache_at(redis_url)

    def bumped_meanwhile() -> str:
        cache.bump(TENANT)
        return "old"

    assert cache.get(TENANT, "x", bumped_meanwhile) == "old"
    assert cache.get(TENANT, "x", lambda: "new") == "new"


def test_a_redis_that_lost_everything_finds_no_old_value_again(redis_server: RedisServer, redis_url: str) -> None:
    cache, compute = cache_at(redis_url), Slow(0)
    cache.get(TENANT, "x", compute)
    with redis.Redis.from_url(redis_url) as server:
        server.delete(f"{PREFIX}{{{TENANT}}}:version")  # evicted alone: the value is still there

    assert cache.get(TENANT, "x", compute) == 2
    redis_server.flush()
    assert cache.get(TENANT, "x", compute) == 3


def test_a_redis_that_dies_makes_reads_slower_and_comes_back(
    redis_server: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.cache.REST_SECONDS", 0.0)
    cache, compute = open_cache(Settings(cache_redis_url=redis_url)), Slow(0)
    assert [cache.get(TENANT, "x", compute) for _ in range(2)] == [1, 1]
    redis_server.kill()
    try:
        assert [cache.get(TENANT, "x", compute) for _ in range(2)] == [2, 3]
        cache.bump(TENANT)
    finally:
        redis_server.start()

    assert [cache.get(TENANT, "x", compute) for _ in range(2)] == [4, 4]


def test_times_to_live_are_spread(redis_url: str) -> None:
    cache = cache_at(redis_url, Timing(fresh=1000, stale=0))
    for number in range(40):
        cache.get(TENANT, str(number), lambda: 1)

    with redis.Redis.from_url(redis_url) as server:
        lives = [server.pttl(key) for key in server.scan_iter(f"{PREFIX}*") if not key.endswith(b":version")]

    assert len(lives) == 40
    assert all(790_000 < life <= 1_000_000 for life in lives if isinstance(life, int))
    assert len(set(lives)) > 30


def test_a_garbled_value_is_a_miss(redis_url: str) -> None:
    cache, compute = cache_at(redis_url), Slow(0)
    cache.get(TENANT, "x", compute)
    with redis.Redis.from_url(redis_url) as server:
        for key in server.scan_iter(f"{PREFIX}*:x"):
            server.set(key, b"\x80\x04not json", px=10_000_000)

    assert cache.get(TENANT, "x", compute) == 2
    assert cache.get(TENANT, "x", compute) == 2


def test_the_cached_series_is_the_series_to_the_last_bit(redis_url: str) -> None:
    gateway = OneSeries()
    engineer = FeatureEngineer(TenantStore(gateway, TENANT), MLSettings(), cache_at(redis_url))

    first, second = engineer.get_sales_timeseries_cached(), engineer.get_sales_timeseries_cached()
    shorter = FeatureEngineer(
        TenantStore(gateway, TENANT), MLSettings(max_train_window_days=14), engineer.cache
    ).get_sales_timeseries_cached()

    assert gateway.reads == 2  # the second reader's window is another one: another value
    for series in (first, second, shorter):
        assert series is not None
        assert (series.start, series.y.tolist()) == (date(2026, 11, 18), [1.5, 0.0, 3.25])


# --- what lets a tenant's values go ----------------------------------------------------------------------------------


def version_of(url: str, tenant: TenantId) -> bytes | None:
    with redis.Redis.from_url(url) as server:
        found = server.get(f"{PREFIX}{{{tenant}}}:version")
    assert found is None or isinstance(found, bytes)
    return found


@pytest.fixture
def cached_shop(redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FeatureEngineer]:
    """A shop whose cached series was read, in an environment that names the cache."""
    monkeypatch.setenv("CACHE_REDIS_URL", redis_url)
    gateway = PostgresGateway(database_url)
    engineer = FeatureEngineer(add_shop(gateway, "kiosk", days=40), CHEAP)
    assert engineer.get_sales_timeseries_cached() is not None
    yield engineer
    gateway.close()


def test_a_publish_lets_what_was_cached_go(cached_shop: FeatureEngineer, redis_url: str, tmp_path: Path) -> None:
    tenant_id, before = cached_shop.store.tenant_id, version_of(redis_url, cached_shop.store.tenant_id)

    report = train_and_predict_sales(
        tenant_id,
        gateway=cached_shop.store.gateway,
        settings=CHEAP,
        environment=Settings(tenantcast_home=tmp_path / "home"),
    )

    assert report["status"] == "published"
    assert before is not None
    assert version_of(redis_url, tenant_id) not in {None, before}


def test_an_import_of_newer_sales_is_read_at_once(cached_shop: FeatureEngineer, tmp_path: Path) -> None:
    before = cached_shop.get_sales_timeseries_cached()
    day = yesterday() - timedelta(days=3)
    file = tmp_path / "late.csv"
    file.write_text(f"tenant_id,fecha,total,venta_id\n{cached_shop.store.tenant_id},{day}T12:00:00Z,1000,late\n")

    import_file(file, cached_shop.store.gateway)

    after = cached_shop.get_sales_timeseries_cached()
    assert before is not None
    assert after is not None
    assert after.y[-4] == pytest.approx(before.y[-4] + 1000)


def test_features_and_trends_that_changed_let_what_was_cached_go(cached_shop: FeatureEngineer, redis_url: str) -> None:
    store = cached_shop.store
    seen = [version_of(redis_url, store.tenant_id)]

    for work in (update_features, update_features, trends.analyze):
        work(store.gateway, store.tenant_id, ml_settings=CHEAP)
        seen.append(version_of(redis_url, store.tenant_id))

    assert seen[1] != seen[0]
    assert seen[2] == seen[1]  # nothing had changed
    assert seen[3] != seen[2]
