"""Prometheus metrics: the ledger's numbers as gauges, durations added up over the processes of a pool."""

import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from app.db.gateway import Gateway
from app.errors import ConfigError, DatabaseUnavailable
from app.services.metrics_export import GAUGES, LedgerCollector, TaskMetrics, ledger_metrics, serve_metrics
from tests.servers.postgres import free_port

LEDGER: dict[str, Any] = {
    **{key: number for number, key in enumerate(GAUGES, start=1)},
    "at": "2026-11-21T00:00:00Z", "longest_expired_seconds": 0,
    "freshness_seconds": {"p50": 60.0, "p90": 90.0, "p99": 99.0, "max": 100.5},
    "stalest": [{"tenant_id": "a", "seconds": 100.5}, {"tenant_id": "b", "seconds": 99}],
}  # fmt: skip


class Ledger:
    """A gateway that answers `ml_metrics`; counts how often, and that it is closed."""

    name = "fake"

    def __init__(self, answer: Any = LEDGER) -> None:
        self.answer, self.asked, self.open = answer, 0, 0

    def __call__(self) -> Gateway:
        self.open += 1
        return self

    def call(self, function: str, params: object) -> Any:
        assert (function, params) == ("ml_metrics", {"p_top": 10})
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.open -= 1


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Pool"]:
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)  # put back at the end, like the variable
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    pool = Pool(tmp_path)
    yield pool
    values.close_all_multiprocess_files()  # type: ignore[no-untyped-call]


class Pool:
    """Task metrics as several processes of a pool see them, one after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.place = directory, "main"
        self.metrics = TaskMetrics(directory, lambda: self.place)

    def count(self, place: str, seconds: float, outcome: str = "ok") -> None:
        self.place = place
        self.metrics.observe("app.workers.x.y", seconds, outcome)


def scraped(server_port: int) -> dict[str, float]:
    """Samples of one scrape by name and labels; every metric has a type and a text."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server_port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    assert all(family.documentation for family in families)
    return {_key(sample): sample.value for family in families for sample in family.samples}


def _key(sample: Any) -> str:
    labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
    return f"{sample.name}[{labels}]" if labels else str(sample.name)


def test_every_number_of_the_ledger_is_a_gauge_of_its_own() -> None:
    found = {metric.name: metric.samples[0].value for metric in ledger_metrics(LEDGER) if metric.name not in AGES}

    assert found == {name: float(LEDGER[key]) for key, (name, _) in GAUGES.items()}
    assert all(name.startswith("tenantcast_") for name in found)


AGES = {"tenantcast_forecast_age_seconds", "tenantcast_stalest_forecast_age_seconds"}


def test_how_fresh_forecasts_are_is_told_by_quantiles_and_by_the_stalest_few() -> None:
    found = {_key(sample): sample.value for metric in ledger_metrics(LEDGER) for sample in metric.samples}

    ages = {key: value for key, value in found.items() if key.split("[")[0] in AGES}
    assert ages == {
        "tenantcast_forecast_age_seconds[quantile=0.5]": 60.0,
        "tenantcast_forecast_age_seconds[quantile=0.9]": 90.0,
        "tenantcast_forecast_age_seconds[quantile=0.99]": 99.0,
        "tenantcast_forecast_age_seconds[quantile=1]": 100.5,
        "tenantcast_stalest_forecast_age_seconds[tenant=a]": 100.5,
        "tenantcast_stalest_forecast_age_seconds[tenant=b]": 99.0,
    }


def test_without_any_forecast_there_is_no_age() -> None:
    nothing = LEDGER | {"freshness_seconds": dict.fromkeys(("p50", "p90", "p99", "max")), "stalest": []}

    assert [s for metric in ledger_metrics(nothing) if metric.name in AGES for s in metric.samples] == []


def test_a_scrape_shows_the_ledger_and_leaves_no_connection_open() -> None:
    ledger = Ledger()
    server = serve_metrics(free_port(), [LedgerCollector(ledger)])

    first, second = scraped(server.port), scraped(server.port)
    server.close()

    assert first == second
    assert first["tenantcast_database_up"] == 1
    assert first["tenantcast_parked_tenants"] == LEDGER["parked_tenants"]
    assert ledger.open == 0
    assert ledger.asked <= 2  # once at registration or at the first scrape, then remembered


def test_without_a_database_the_scrape_says_so_and_still_answers() -> None:
    server = serve_metrics(free_port(), [LedgerCollector(Ledger(DatabaseUnavailable()))])

    found = scraped(server.port)
    server.close()

    assert found == {"tenantcast_database_up": 0}


def test_durations_of_all_processes_of_a_pool_are_added_up(tasks: Pool) -> None:
    tasks.count("pool0", 0.2)
    tasks.count("pool1", 3.0)
    tasks.count("pool1", 4.0, "error")
    tasks.count("pool0", 0.3)  # a process that took over the place goes on counting
    server = serve_metrics(free_port(), [], tasks.directory)

    found = scraped(server.port)
    server.close()

    ok, error = "outcome=ok,task=app.workers.x.y", "outcome=error,task=app.workers.x.y"
    assert found[f"tenantcast_task_seconds_count[{ok}]"] == 3
    assert found[f"tenantcast_task_seconds_sum[{ok}]"] == pytest.approx(3.5)
    assert found[f"tenantcast_task_seconds_count[{error}]"] == 1
    assert found["tenantcast_task_seconds_bucket[le=0.25,outcome=ok,task=app.workers.x.y]"] == 1
    assert found["tenantcast_task_seconds_bucket[le=+Inf,outcome=ok,task=app.workers.x.y]"] == 3


def test_a_replaced_process_goes_on_in_the_file_of_its_place(tasks: Pool) -> None:
    tasks.metrics.refused()
    for _ in range(3):
        tasks.count("pool0", 1.0)
        tasks.count("pool1", 1.0)

    files = {path.name for path in tasks.directory.iterdir()}
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(tasks.directory))  # type: ignore[no-untyped-call]

    assert files <= {f"{kind}_{place}.db" for kind in ("counter", "histogram") for place in ("main", "pool0", "pool1")}
    assert registry.get_sample_value("tenantcast_refused_writes_total") == 1


def test_a_taken_port_is_passed_over(tasks: Pool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = serve_metrics(port, [], tasks.directory)
        server.close()

    assert port < server.port < port + 10


def test_no_free_port_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.metrics_export.PORTS", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        with pytest.raises(ConfigError, match="METRICS_PORT"):
            serve_metrics(taken.getsockname()[1], [])
