"""A real worker's metrics address: durations of its children, the ledger, and what the upkeep tasks did."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from prometheus_client.parser import text_string_to_metric_families

from app.celery_app import make_celery
from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from tests.integration.celery_processes import CELERY, CHECKOUT, CeleryProcess, running, wait_until
from tests.servers.postgres import free_port

UPKEEP = "app.workers.maintenance_worker"
TENANT = "aaaaaaaa-0000-4000-8000-000000000001"


@contextmanager
def upkeep_worker(environment: dict[str, str], directory: Path) -> Iterator[CeleryProcess]:
    command = (
        *CELERY, "worker", "--queues", "maintenance", "--concurrency", "2", "--loglevel", "INFO", "--without-mingle",
        "--without-gossip", "--without-heartbeat",
    )  # fmt: skip
    with running(command, environment, directory / "worker.log") as started:
        wait_until(lambda: "metrics_served" in started.words() or not started.is_running(), "metrics", started)
        assert started.is_running(), started.words()[-4000:]
        yield started


def counted(port: int) -> dict[str, float]:
    """Ended tasks by name and outcome, and gauges without labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "tenantcast_task_seconds_count":
                found[f"{sample.labels['task'].removeprefix(UPKEEP)}:{sample.labels['outcome']}"] = sample.value
            elif not sample.labels:
                found[sample.name] = sample.value
    return found


def directories(where: Path) -> list[Path]:
    return sorted(where.glob("tenantcast-metrics-*"))


def test_what_a_killed_worker_left_goes_at_the_next_start_and_nothing_else_does(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    temporary = tmp_path / "tmp"
    foreign = temporary / "tenantcast-metrics-somebody-elses"  # not made by a worker of ours: nothing is locked in it
    foreign.mkdir(parents=True)
    environment = {
        "DATABASE_URL": database_url, "REDIS_URL": redis_url, "METRICS_PORT": str(free_port()),
        "TMPDIR": str(temporary),
    }  # fmt: skip
    with upkeep_worker(environment, tmp_path):
        (killed,) = set(directories(temporary)) - {foreign}

    left = directories(temporary)
    with upkeep_worker(environment, tmp_path) as second:
        (alive,) = set(directories(temporary)) - {foreign}
        while_it_lives = remove_in(temporary)
        second.process.terminate()
        wait_until(lambda: not second.is_running(), "an end in order", second)

    assert left == sorted([foreign, killed])
    assert alive != killed
    assert while_it_lives == 0
    assert directories(temporary) == [foreign]


def remove_in(temporary: Path) -> int:
    """What another worker that starts now removes."""
    command = "from app.workers.metrics_directory import remove_left_behind as remove; print(remove())"
    done = subprocess.run(
        [sys.executable, "-c", command], env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(CHECKOUT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout.splitlines()[-1])


def test_tasks_of_all_children_are_counted_and_the_ledger_is_shown(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    port = free_port()
    environment = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "METRICS_PORT": str(port)}
    with psycopg.connect(database_url) as owner:
        for days in (10, 40):
            owner.execute(
                "insert into notifications (tenant_id, dedupe_key, kind, title, created_at)"
                " values (%s, %s, 'x', 'x', now() - make_interval(days => %s))",
                (TENANT, str(days), days),
            )
    app = make_celery(Settings(redis_url=redis_url), MLSettings())

    with upkeep_worker(environment, tmp_path) as worker:
        for name in ("cleanup_old_notifications", "cleanup_old_ml_predictions", "cleanup_old_runs", "health_check"):
            for _ in range(3):
                app.send_task(f"{UPKEEP}.{name}")
        app.send_task(f"{UPKEEP}.cleanup_old_notifications", kwargs={"no_such": "argument"})
        wait_until(lambda: sum(v for k, v in counted(port).items() if ":" in k) == 13, "thirteen tasks", worker)
        found = counted(port)
    app.close()

    assert found[".cleanup_old_notifications:ok"] == 3
    assert found[".cleanup_old_notifications:error"] == 1
    assert found[".health_check:ok"] == 3
    assert found["tenantcast_database_up"] == 1
    assert found["tenantcast_tenants"] == 0
    assert found["tenantcast_refused_writes_total"] == 0
    with psycopg.connect(database_url) as owner:
        assert owner.execute("select dedupe_key from notifications").fetchall() == [("10",)]
