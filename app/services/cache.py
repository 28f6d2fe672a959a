"""A cache per tenant in Redis: faster while Redis answers, right without it.

A value is stored under the tenant's *version*, a random token. Whoever changes what a tenant's values are made from
gives the tenant a new token (`bump`): every older value is out of reach at once, with no search for keys, and a Redis
that lost the token starts with another one instead of finding old values again. What nobody reads expires.

Of any number of readers that miss at the same moment one computes: it holds a lock that Redis ends by itself should the
reader die. The others take the value that has just become stale, or wait for the new one. Values are JSON, never
pickled; an unreadable one is a miss.
"""

import json
import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import structlog

from app.config.settings import Settings
from app.db.gateway import Json
from app.errors import TenantcastError
from app.services.embedded_redis import EmbeddedRedis
from app.tenancy import TenantId

if TYPE_CHECKING:
    import redis

PREFIX = "tenantcast:cache:"  # the broker may live in the same Redis: its keys begin otherwise, and are never touched
JITTER = 0.2  # a time to live is shortened by up to this share, so that values stored together do not expire together
TIMEOUT_SECONDS = 0.5  # a Redis that is slower than that is slower than the database
CONNECTIONS = 16  # per process; more readers than that take turns
REST_SECONDS = 5.0  # for how long a Redis that failed is left alone
POLL_SECONDS = 0.02
FORGET_VERSION_SECONDS = 7 * 86_400

# Deletes the lock only if it is still ours: another reader may hold it by now.
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"

T = TypeVar("T")
_log = structlog.get_logger()


class Timing(NamedTuple):
    """In seconds. A value is fresh for ``fresh``, then served for ``stale`` more while one reader computes it anew."""

    fresh: float = 900.0
    stale: float = 900.0
    lock: float = 30.0  # longer than any computation takes; a reader that died holds others up for no longer
    wait: float = 35.0  # how long a reader waits for another one's value before it computes its own


DEFAULT_TIMING = Timing()


class _Entry(NamedTuple):
    value: Json
    is_fresh: bool


@dataclass(frozen=True)
class TenantCache:
    """Values of tenants in one Redis; without one (``guard`` is None) every read computes."""

    guard: "RedisGuard | None" = None
    timing: Timing = DEFAULT_TIMING

    def get(self, tenant_id: TenantId, name: str, compute: Callable[[], Json]) -> Json:
        """The tenant's value called ``name``, computed by ``compute`` when none is there or it is too old.

        Whatever Redis does, the value comes: what ``compute`` raises is all that this raises.
        """
        if self.guard is None:
            return compute()
        version = self._version(tenant_id)
        if version is None:
            return compute()
        return self._read(_Place(f"{PREFIX}{{{tenant_id}}}:{version}:{name}"), compute)

    def bump(self, tenant_id: TenantId) -> None:
        """From now on no value is served that was computed before; call it after the commit."""
        if self.guard is not None:
            key, token = _version_key(tenant_id), secrets.token_hex(8)
            # A bump that is lost leaves old values in reach until they expire: it is tried whatever failed before.
            self.guard.ask(lambda server: bool(server.set(key, token, ex=FORGET_VERSION_SECONDS)), False, insist=True)

    def _read(self, place: "_Place", compute: Callable[[], Json]) -> Json:
        entry = self._fetch(place)
        if entry and entry.is_fresh:
            return entry.value
        deadline = time.monotonic() + self.timing.wait
        while time.monotonic() < deadline:
            token = secrets.token_hex(8)
            if self._lock(place, token):
                return self._compute(place, token, compute)
            if entry:
                return entry.value  # stale, and somebody is at it
            time.sleep(POLL_SECONDS)
            found = self._fetch(place)
            if found:
                return found.value
        return compute()

    def _compute(self, place: "_Place", token: str, compute: Callable[[], Json]) -> Json:
        """With the lock held: compute, unless another reader has just done it."""
        try:
            entry = self._fetch(place)
            if entry and entry.is_fresh:
                return entry.value
            value = compute()
            self._store(place, value)
            return value
        finally:
            self._ask(lambda server: server.eval(_RELEASE, 1, place.lock, token), None)

    def _version(self, tenant_id: TenantId) -> str | None:
        """The tenant's token; a new one when there is none; None when Redis does not answer."""
        key = _version_key(tenant_id)

        def read(server: "redis.Redis") -> str | None:
            found = server.get(key)
            if found is None:
                server.set(key, secrets.token_hex(8), nx=True, ex=FORGET_VERSION_SECONDS)
                found = server.get(key)
            return found.decode() if isinstance(found, bytes) else None

        return self._ask(read, None)

    def _fetch(self, place: "_Place") -> _Entry | None:
        """What is stored, fresh while it has longer to live than the stale part: only Redis' clock counts."""

        def read(server: "redis.Redis") -> tuple[object, int]:
            with server.pipeline(transaction=True) as both:
                both.get(place.value)
                both.pttl(place.value)
                raw, left = both.execute()
            return raw, int(left)

        nothing: tuple[object, int] = (None, 0)
        raw, left = self._ask(read, nothing)
        if not isinstance(raw, bytes):
            return None
        try:
            return _Entry(json.loads(raw), left > self.timing.stale * 1000)
        except ValueError:
            _log.warning("cache_value_unreadable", key=place.value)
            return None

    def _store(self, place: "_Place", value: Json) -> None:
        fresh = self.timing.fresh * random.uniform(1 - JITTER, 1)  # noqa: S311 - spreads load, guards nothing
        document = json.dumps(value, allow_nan=False)
        keep = max(1, round((fresh + self.timing.stale) * 1000))
        self._ask(lambda server: server.set(place.value, document, px=keep), None)

    def _lock(self, place: "_Place", token: str) -> bool:
        """Whether it is this reader who computes; true too when Redis does not answer."""
        held = round(self.timing.lock * 1000)
        return bool(self._ask(lambda server: bool(server.set(place.lock, token, nx=True, px=held)), True))

    def _ask(self, question: "Callable[[redis.Redis], T]", otherwise: T) -> T:
        return otherwise if self.guard is None else self.guard.ask(question, otherwise)


class RedisGuard:
    """A Redis client that never raises: after a failure it is left alone for a while, which is logged once."""

    def __init__(self, server: "redis.Redis") -> None:
        self._server = server
        self._guard = threading.Lock()
        self._rest_until = 0.0
        self._down = False

    def ask(self, question: "Callable[[redis.Redis], T]", otherwise: T, *, insist: bool = False) -> T:
        """The answer, or ``otherwise`` while Redis does not give one; ``insist`` asks also one that failed just now."""
        from redis.exceptions import RedisError

        if time.monotonic() < self._rest_until and not insist:
            return otherwise
        try:
            answer = question(self._server)
        except (RedisError, OSError) as error:
            self._note(error)
            return otherwise
        self._note(None)
        return answer

    def _note(self, error: Exception | None) -> None:
        with self._guard:
            was_down, self._down = self._down, error is not None
            if error is not None:
                self._rest_until = time.monotonic() + REST_SECONDS
        if error is not None and not was_down:
            # Its type alone: the text of a connection error may hold the address.
            _log.warning("cache_unavailable", error=type(error).__name__, effect="slower: every read computes")
        elif error is None and was_down:
            _log.info("cache_available")


def open_cache(settings: Settings, timing: Timing | None = None) -> TenantCache:
    """The cache in CACHE_REDIS_URL, else REDIS_URL, else the home's private Redis if it runs, else one that computes.

    Connects at the first use. Any number of callers in one process share the connections.
    """
    named = settings.cache_redis_url or settings.redis_url
    url = named.get_secret_value() if named else EmbeddedRedis(settings.tenantcast_home).address()
    return TenantCache(_guard_of(url) if url else None, timing or DEFAULT_TIMING)


def bump_tenant(tenant_id: TenantId, settings: Settings | None = None) -> None:
    """Say that what is known about a tenant has changed: sales, forecast, features or messages. Never raises.

    ``settings`` None reads the environment.
    """
    try:
        cache = open_cache(settings or Settings())
    except (TenantcastError, ValueError) as error:  # settings that cannot be used; an address that is none
        _log.warning("cache_not_bumped", tenant=str(tenant_id), error=type(error).__name__)
        return
    cache.bump(tenant_id)


@lru_cache(maxsize=4)
def _guard_of(url: str) -> RedisGuard:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # redis-py opens other connections in a forked child: a guard made before the fork is safe after it.
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=TIMEOUT_SECONDS * CONNECTIONS,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    server = redis.Redis(connection_pool=pool)
    return RedisGuard(server)


@dataclass(frozen=True)
class _Place:
    """The two keys of one value."""

    value: str

    @property
    def lock(self) -> str:
        return f"{self.value}:lock"


def _version_key(tenant_id: TenantId) -> str:
    # The braces keep a tenant's keys on one node of a cluster.
    return f"{PREFIX}{{{tenant_id}}}:version"
