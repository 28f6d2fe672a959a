"""Metrics of a worker process, if METRICS_PORT says so: task durations, and an address that Prometheus can scrape.

Metrics never keep a worker from working: what goes wrong with them is logged.
"""

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from celery.signals import task_postrun, task_prerun, worker_init, worker_ready, worker_shutdown

from app.config.settings import Settings
from app.db.connect import open_gateway
from app.errors import TenantcastError
from app.workers.metrics_directory import MetricsDirectory, remove_left_behind

if TYPE_CHECKING:
    from app.services.metrics_export import MetricsServer, TaskMetrics

_log = structlog.get_logger()


@dataclass
class _Worker:
    """What this worker, or the worker that forked this process, measures with."""

    directory: MetricsDirectory | None = None
    tasks: "TaskMetrics | None" = None
    server: "MetricsServer | None" = None


_worker = _Worker()


def place_in_pool() -> str:
    """``main``, or the number of this process among the pool's: a process that replaces another takes its number."""
    from billiard import current_process

    index = getattr(current_process(), "index", None)
    return "main" if index is None else f"pool{index}"


@worker_init.connect
def _measure(**_: Any) -> None:
    """Before the pool forks, so that its processes share the directory."""
    if not Settings().metrics_port:
        return
    from app.services.metrics_export import TaskMetrics

    remove_left_behind()
    _worker.directory = MetricsDirectory()
    _worker.tasks = TaskMetrics(_worker.directory.path, place_in_pool)


@worker_ready.connect
def _serve(**_: Any) -> None:
    if _worker.tasks is None:
        return
    from app.services.metrics_export import LedgerCollector, serve_metrics

    settings = Settings()
    ledger = LedgerCollector(partial(open_gateway, settings))
    try:
        _worker.server = serve_metrics(settings.metrics_port, [ledger], _worker.tasks.directory)
    except TenantcastError as error:
        _log.error("metrics_not_served", reason=error.message, next_step=error.next_step)


@worker_shutdown.connect
def _end(**_: Any) -> None:
    if _worker.server is not None:
        _worker.server.close()
    if _worker.directory is not None:
        _worker.directory.remove()


@task_prerun.connect
def _begin(task: Any = None, **_: Any) -> None:
    if _worker.tasks is not None:
        task.request.measured_from = time.monotonic()


@task_postrun.connect
def _note(task: Any = None, state: str = "", retval: object = None, **_: Any) -> None:
    started = getattr(task.request, "measured_from", None) if task is not None else None
    if _worker.tasks is None or started is None:
        return
    report = retval if isinstance(retval, dict) else {}
    # Expected errors are reports (see `app.workers.ticking`): those of `TenantcastError.as_dict` have a kind.
    failed = state != "SUCCESS" or "kind" in report
    _worker.tasks.observe(task.name, time.monotonic() - started, "error" if failed else "ok")
    if report.get("outcome") == "lost" or report.get("status") == "lost":
        _worker.tasks.refused()
