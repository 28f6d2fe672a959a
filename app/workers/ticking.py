"""The base class of our tasks: expected errors are reports, and a scheduled message is carried out once per slot."""

from datetime import datetime
from typing import Any

import celery
import structlog

from app.errors import TenantcastError
from app.services.schedule import Tick, find_job, finish_slot, take_slot
from app.workers.process import this_process

JOB_HEADER = "job"  # set by beat, and by the reconciler when it catches up; a message without it just runs

_log = structlog.get_logger()


class Task(celery.Task):
    """Ends with a report whatever happens: what is to be done again stands in the ledger, not in the broker."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with structlog.contextvars.bound_contextvars(task=self.name, message_id=self.request.id):
            try:
                return self._carry_out(args, kwargs)
            except TenantcastError as error:
                _log.warning("task_ended_with_error", kind=error.kind, code=error.code, reason=error.message)
                return error.as_dict()

    def _carry_out(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = self.request.get(JOB_HEADER)
        if name is None:
            return super().__call__(*args, **kwargs)
        here = this_process()
        tick = take_slot(here.gateway, find_job(here.ml_settings, name), here.settings.ml_task_seconds)
        if tick is None:
            _log.info("slot_not_taken", job=name)
            return {"job": name, "outcome": "not taken"}
        self.request.tick = tick
        report = super().__call__(*args, **kwargs)
        finish_slot(here.gateway, tick)
        return report


def slot_of(task: celery.Task) -> datetime | None:
    """The slot that this message of the schedule carries out; None when the task was called by hand."""
    tick: Tick | None = getattr(task.request, "tick", None)
    return tick.slot if tick else None
