"""What one worker process holds: settings, and connections that are its own.

Celery forks its children. A connection made before the fork would be shared by two processes, so everything here is
made at the first use after it; the parent only imports the forecasting libraries, which its children then share.
"""

import os
import resource
import threading
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import structlog
from celery.signals import setup_logging, worker_init, worker_process_init, worker_process_shutdown

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.connect import open_gateway
from app.db.gateway import Gateway
from app.log import configure_logging
from app.workers import metrics  # noqa: F401 - connects its signals: every task module imports this one

# Imported in the parent: 65 to 126 MB per child instead of 197. Nothing is ever fitted there: a child of a process that
# has fitted XGBoost hangs.
PRELOADED = ("app.services.ml.pipeline", "statsmodels.tsa.seasonal")
LIBRARIES = {
    "sarimax": "statsmodels.tsa.statespace.sarimax",
    "prophet": "prophet",
    **dict.fromkeys(("xgboost", "recursive", "levels"), "xgboost"),
}
ML_QUEUE = "ml_processing"

_log = structlog.get_logger()


@dataclass(frozen=True)
class Process:
    """Settings of one process, and its way to the database."""

    pid: int
    settings: Settings
    ml_settings: MLSettings

    @cached_property
    def gateway(self) -> Gateway:
        """Opened at the first use, so after the fork."""
        return open_gateway(self.settings)

    def close(self) -> None:
        """Give connections back, if there are any."""
        if "gateway" in self.__dict__:
            self.gateway.close()


_lock = threading.Lock()
_current: Process | None = None


def this_process() -> Process:
    """The same object for every task of a process, never one of its parent's."""
    global _current  # noqa: PLW0603 - the one thing that tasks, which are plain functions, share
    with _lock:
        if _current is None or _current.pid != os.getpid():
            _current = Process(os.getpid(), Settings(), MLSettings())
        return _current


@setup_logging.connect
def _log_as_we_do(**_: Any) -> None:
    configure_logging(Settings())


@worker_init.connect
def _import_before_the_fork(sender: Any = None, **_: Any) -> None:
    queues = sender.app.amqp.queues.consume_from if sender is not None else {}
    if ML_QUEUE in queues:
        configure_logging(Settings())  # Celery sets logging up only after this signal
        modules = preloaded(MLSettings())
        for module in modules:
            import_module(module)
        _log.info("libraries_imported", modules=modules, pid=os.getpid())


def preloaded(ml_settings: MLSettings) -> tuple[str, ...]:
    """The modules that forecasting with these settings needs; what a tenant's override adds, its child imports."""
    names = (*ml_settings.model_candidates, *(["levels"] if ml_settings.global_model else []))
    wanted = (LIBRARIES[name] for name in names if name in LIBRARIES)
    return (*PRELOADED, *dict.fromkeys(wanted))


@worker_process_init.connect
def _begin_process(**_: Any) -> None:
    """One thread per process: parallelism is processes. The variables of `app` bind libraries that read them only."""
    global _lock  # noqa: PLW0603 - the parent may have held it at the fork
    _lock = threading.Lock()
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    settings = Settings()
    configure_logging(settings)
    limit_memory(settings.ml_child_memory_mib)
    _log.info("worker_process_started", pid=os.getpid())


def limit_memory(mebibytes: int | None) -> None:
    """A tenant that would take more gets a MemoryError and fails alone, before the system ends the whole worker."""
    if mebibytes is not None:
        limit = mebibytes * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@worker_process_shutdown.connect
def _end_process(**_: Any) -> None:
    if _current is not None and _current.pid == os.getpid():
        _current.close()
