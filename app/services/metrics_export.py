"""Prometheus metrics of a worker: the ledger's numbers, asked at each scrape, and how long tasks took.

The ledger's numbers come from one SQL function, so every worker shows the same ones. Task durations are counted in the
pool's children, which come and go: they write into files, one per place in the pool, and whoever is asked adds them up.
How many series there are does not grow with the number of tenants: only the stalest few are named.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.db.gateway import Gateway
from app.db.store import Row, SystemStore
from app.errors import ConfigError, TenantcastError

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import Metric

LOOPBACK = "127.0.0.1"
HIGHEST_PORT = 65_535
PORTS = 10  # workers on one machine: the first gets METRICS_PORT, the others the next free ones
REMEMBERED_SECONDS = 5.0  # several scrapers ask the database once
TOP_TENANTS = 10
BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

# Key of ml_metrics -> metric, what it says.
GAUGES = {
    "open_runs": ("tenantcast_open_runs", "Runs that have open items."),
    "pending": ("tenantcast_pending_items", "Items that wait, for their time or for a worker."),
    "running": ("tenantcast_running_items", "Items that a worker holds."),
    "oldest_due_seconds": ("tenantcast_oldest_due_item_seconds", "For how long the oldest item could be worked on."),
    "oldest_pending_seconds": ("tenantcast_oldest_pending_item_seconds", "Age of the oldest pending item."),
    "expired_leases": ("tenantcast_expired_leases", "Leases that ran out and were not taken back yet."),
    "lost_leases_last_day": ("tenantcast_lost_leases_last_day", "Leases lost, by items open or ended within a day."),
    "re_rings_last_day": ("tenantcast_re_rings_last_day", "Messages sent again, for items open or ended within a day."),
    "failed_items_last_day": ("tenantcast_failed_items_last_day", "Items that failed within a day."),
    "tenants": ("tenantcast_tenants", "Active tenants."),
    "failed_tenants": ("tenantcast_failed_tenants", "Tenants whose last item failed."),
    "parked_tenants": ("tenantcast_parked_tenants", "Tenants whose last item was given up after lost workers."),
    "tenants_without_forecast": ("tenantcast_tenants_without_forecast", "Active tenants that never had a forecast."),
}

_log = structlog.get_logger()


@dataclass(eq=False)
class LedgerCollector(Collector):
    """Asks `ml_metrics` at each scrape, over a connection that is closed again: the process that is scraped forks."""

    open_gateway: Callable[[], Gateway]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _known: Row | None = None
    _known_at: float = float("-inf")

    def collect(self) -> "Iterator[Metric]":
        """The metrics; without a database only `tenantcast_database_up 0`."""
        known = self._ask()
        yield GaugeMetricFamily(
            "tenantcast_database_up", "1 when the database answers.", value=float(known is not None)
        )
        if known is not None:
            yield from ledger_metrics(known)

    def _ask(self) -> Row | None:
        with self._lock:
            if time.monotonic() - self._known_at < REMEMBERED_SECONDS:
                return self._known
            self._known = self._read()
            self._known_at = time.monotonic()
            return self._known

    def _read(self) -> Row | None:
        try:
            gateway = self.open_gateway()
            try:
                return SystemStore(gateway).metrics(TOP_TENANTS)
            finally:
                gateway.close()
        except TenantcastError as error:
            _log.warning("metrics_without_database", kind=error.kind, code=error.code)
            return None


def ledger_metrics(known: Row) -> "Iterator[Metric]":
    """What `ml_metrics` gave, as gauges; a number that it does not have is left out."""
    for key, (name, text) in GAUGES.items():
        yield GaugeMetricFamily(name, text, value=float(known[key]))
    fresh = GaugeMetricFamily(
        "tenantcast_forecast_age_seconds", "Since forecasts were made or found unchanged.", labels=["quantile"]
    )
    for label, key in (("0.5", "p50"), ("0.9", "p90"), ("0.99", "p99"), ("1", "max")):
        if known["freshness_seconds"][key] is not None:
            fresh.add_metric([label], float(known["freshness_seconds"][key]))
    yield fresh
    stalest = GaugeMetricFamily(
        "tenantcast_stalest_forecast_age_seconds", f"The {TOP_TENANTS} oldest forecasts.", labels=["tenant"]
    )
    for tenant in known["stalest"]:
        stalest.add_metric([str(tenant["tenant_id"])], float(tenant["seconds"]))
    yield stalest


class TaskMetrics:
    """Counts tasks of one worker, in whichever of its processes they run.

    Made once per worker, before its pool forks: from then on all metrics of this process and its children are kept in
    files below ``directory``, which is this worker's own and empty. ``place`` names a process in the pool: two that
    live at the same time never have the same one, and a process that replaces a dead one takes over its place and goes
    on counting where that one stopped.
    """

    def __init__(self, directory: Path, place: Callable[[], str]) -> None:
        self.directory = directory
        # The library chooses by a variable of the environment at its import, and names files after process numbers:
        # children that are replaced every fifty tasks would leave thousands of them.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
        values.ValueClass = values.MultiProcessValue(place)  # type: ignore[no-untyped-call]
        self._seconds = Histogram(
            "tenantcast_task_seconds", "How long tasks took.", ["task", "outcome"], buckets=BUCKETS, registry=None
        )
        self._refused = Counter(
            "tenantcast_refused_writes", "Results that came too late: another worker owned the item.", registry=None
        )

    def observe(self, task: str, seconds: float, outcome: str) -> None:
        """One task of this process ended: ``outcome`` is ok or error."""
        self._seconds.labels(task, outcome).observe(seconds)

    def refused(self) -> None:
        """A worker that had lost its lease came back with a result, and the fence refused it."""
        self._refused.inc()


def serve_metrics(port: int, collectors: "Iterable[Collector]", directory: Path | None = None) -> "MetricsServer":
    """Answer ``GET /metrics`` on the loopback, at ``port`` or the next free one of ten, from a thread of this process.

    Parameters
    ----------
    directory : that of the `TaskMetrics` of this worker, added up at each scrape

    Raises
    ------
    ConfigError : none of the ten ports is free
    """
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    if directory is not None:
        MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
    for candidate in range(port, min(port + PORTS, HIGHEST_PORT + 1)):
        try:
            server, thread = start_http_server(candidate, addr=LOOPBACK, registry=registry)
        except OSError:
            continue
        _log.info("metrics_served", address=f"http://{LOOPBACK}:{candidate}/metrics")
        return MetricsServer(candidate, server, thread)
    raise ConfigError(
        f"None of the ports {port} to {port + PORTS - 1} is free for metrics.",
        next_step="Choose another METRICS_PORT, or 0 for no metrics.",
    )


@dataclass(frozen=True)
class MetricsServer:
    """A server that runs until it is closed or its process ends."""

    port: int
    server: "WSGIServer"
    thread: threading.Thread

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
