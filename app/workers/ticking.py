"""The base class of our tasks: expected errors are reports, and a scheduled message is carried out once per slot."""

from typing import Any, cast

import celery
import structlog

from app.errors import TenantcastError

_log = structlog.get_logger()


class Task(celery.Task):
    """Ends with a report whatever happens: what is to be done again stands in the ledger, not in the broker."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with structlog.contextvars.bound_contextvars(task=self.name, message=self.request.id):
            try:
                return super().__call__(*args, **kwargs)
            except TenantcastError as error:
                _log.warning("task_ended_with_error", kind=error.kind, code=error.code, message_text=error.message)
                return cast("dict[str, Any]", error.as_dict())
