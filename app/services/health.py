"""`health_check`: can this installation do its work right now, as JSON for a monitor; it changes nothing.

Every part is looked at whatever the others say, except that without a database nothing else can be known of it.
"""

import logging
import time
from collections.abc import Iterator
from typing import Literal, TypedDict
from urllib.parse import urlsplit

import structlog

from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.migrate import status_of
from app.db.store import Row, SystemStore
from app.errors import TenantcastError
from app.services.doctor.check import Check, Status
from app.services.doctor.database import check_migrations, check_roles, check_row_security_lint
from app.services.embedded_redis import broker_address

REDIS_SECONDS = 2.0  # to connect, and to answer
SLOW_DATABASE_SECONDS = 2.0
LATE_SECONDS = (900.0, 7200.0)  # a due item that nobody takes up: worth a look, then an outage
UNCOLLECTED_SECONDS = 300.0  # the reconciler takes a dead worker's items back within seconds
STALE_SECONDS = 9 * 86_400.0  # a week between two runs, and two days of grace
TOP_TENANTS = 5

_log = structlog.get_logger()


class HealthReport(TypedDict):
    """``status`` is the worst of the checks; ``metrics`` are those of `ml_metrics`, None without a database."""

    status: Status
    checks: list[dict[str, object]]
    metrics: Row | None


def health_check(gateway: Gateway, settings: Settings) -> HealthReport:
    """Database, migrations, roles, row security, Redis, and the queue of the ledger. Raises nothing of ours."""
    checks, metrics = _database_checks(gateway)
    checks += list(_redis_checks(settings))
    order: list[Status] = ["ok", "warn", "fail"]
    worst = max((check.status for check in checks), key=order.index)
    troubles = {check.name: check.detail for check in checks if check.status != "ok"}
    if troubles:
        _log.log(logging.ERROR if worst == "fail" else logging.WARNING, "unhealthy", status=worst, troubles=troubles)
    return HealthReport(status=worst, checks=[check.as_dict() for check in checks], metrics=metrics)


def queue_checks(metrics: Row) -> list[Check]:
    """What the ledger's numbers say: is the work taken up, are dead workers noticed, are forecasts fresh."""
    return [_late_items(metrics), _expired_leases(metrics), _troubled_tenants(metrics), _freshness(metrics)]


def _database_checks(gateway: Gateway) -> tuple[list[Check], Row | None]:
    store = SystemStore(gateway)
    started = time.monotonic()
    try:
        installed = store.health()
        seconds = time.monotonic() - started
        metrics = store.metrics(TOP_TENANTS)
    except TenantcastError as error:
        return [Check("database", "fail", error.message, error.next_step)], None
    slow: Status = "warn" if seconds > SLOW_DATABASE_SECONDS else "ok"
    checks = [
        Check("database", slow, f"PostgreSQL {installed['version']} over {gateway.name}, {seconds * 1000:.0f} ms"),
        check_migrations(status_of({row["version"] for row in installed["migrations"]})),
        check_roles(installed["roles"]),
        check_row_security_lint(installed["lint"]),
        *queue_checks(metrics),
    ]
    return checks, metrics


def _late_items(metrics: Row) -> Check:
    late, oldest = float(metrics["oldest_due_seconds"]), float(metrics["oldest_pending_seconds"])
    detail = (
        f"{metrics['pending']} pending, {metrics['running']} running; the oldest due one waits {_span(late)}, the "
        f"oldest of all was planned {_span(oldest)} ago"
    )
    if late <= LATE_SECONDS[0]:
        return Check("queue", "ok", detail)
    status: Literal["warn", "fail"] = "fail" if late > LATE_SECONDS[1] else "warn"
    return Check(
        "queue", status, detail, "Do workers of ml_processing run, and enough of them? `tenantcast runs watch`."
    )


def _expired_leases(metrics: Row) -> Check:
    expired, longest = int(metrics["expired_leases"]), float(metrics["longest_expired_seconds"])
    if longest <= UNCOLLECTED_SECONDS:
        return Check("leases", "ok", f"{expired} run out and not taken back yet")
    return Check(
        "leases",
        "fail",
        f"{expired} ran out, the oldest {_span(longest)} ago, and nobody takes them back.",
        "The reconciler does not run: start `tenantcast beat` and a worker of the queue control.",
    )


def _troubled_tenants(metrics: Row) -> Check:
    parked, failed = int(metrics["parked_tenants"]), int(metrics["failed_tenants"])
    if not failed:
        return Check("tenants", "ok", f"{metrics['tenants']} active, none failed in its last run")
    return Check(
        "tenants",
        "warn",
        f"{failed} of {metrics['tenants']} failed in their last run, {parked} of them parked after lost workers.",
        "`tenantcast runs show` says why; `tenantcast runs retry` tries them again.",
    )


def _freshness(metrics: Row) -> Check:
    oldest = metrics["freshness_seconds"]["max"]
    if oldest is None or float(oldest) <= STALE_SECONDS:
        span = "no forecast yet" if oldest is None else f"the oldest forecast was made {_span(float(oldest))} ago"
        return Check("freshness", "ok", span)
    named = ", ".join(str(tenant["tenant_id"]) for tenant in metrics["stalest"])
    return Check(
        "freshness",
        "warn",
        f"The oldest forecast was made {_span(float(oldest))} ago; the stalest tenants: {named}.",
        "Did the weekly run happen? `tenantcast runs list`; `tenantcast retrain` starts one now.",
    )


def _redis_checks(settings: Settings) -> Iterator[Check]:
    url = broker_address(settings)
    yield _ping("redis", url, "fail", "Start Redis, or set REDIS_URL. What is to be done is kept in the database.")
    cache = settings.cache_redis_url
    if cache is not None and cache.get_secret_value() != url:
        yield _ping("cache", cache.get_secret_value(), "warn", "Start it, or set CACHE_REDIS_URL. Reads are slower.")


def _ping(name: str, url: str, when_away: Status, next_step: str) -> Check:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
    from redis.retry import Retry

    if urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
        return Check(name, "ok", f"{urlsplit(url).scheme}: no Redis, not looked at")
    started = time.monotonic()
    try:
        with Redis.from_url(
            url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS, retry=Retry(NoBackoff(), 0)
        ) as server:
            server.ping()
    except (RedisError, OSError, ValueError) as error:
        # Its type alone: the text may hold the address with its password.
        return Check(name, when_away, f"does not answer: {type(error).__name__}", next_step)
    return Check(name, "ok", f"answers in {(time.monotonic() - started) * 1000:.0f} ms")


def _span(seconds: float) -> str:
    """As a person says it: 40 s, 12 min, 3.5 h, 9 d."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"
