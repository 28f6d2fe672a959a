"""Tasks of messages. Arguments come from Redis, where anyone may have written them: they are parsed as hostile."""

import os
from functools import lru_cache

from celery import current_app, shared_task

from app.db.store import TenantStore
from app.services.notifications import check, send
from app.services.notifications.channels import open_channels
from app.tenancy import parse_tenant_id
from app.workers.bell import CeleryBell
from app.workers.process import this_process


@shared_task(name="app.workers.notification_worker.send_daily_notifications")
def send_daily_notifications() -> check.Checked:
    """Write the summary of every tenant that is past its local hour and has none of its local date yet."""
    here = this_process()
    return check.write_summaries(here.gateway, here.settings, CeleryBell(current_app))


@shared_task(name="app.workers.notification_worker.check_notification_rules")
def check_notification_rules() -> check.Checked:
    """Judge the rules of every tenant, and ring for every message that can be sent."""
    here = this_process()
    return check.check_rules(here.gateway, here.settings, CeleryBell(current_app))


@shared_task(name="app.workers.notification_worker.send_notification")
def send_notification(tenant_id: object, notification_id: object, channel: object = None) -> list[send.Delivery]:
    """Send one message, on one channel or on all that it goes to, where nobody has and nobody does."""
    store = TenantStore(this_process().gateway, parse_tenant_id(tenant_id))
    return send.send_everywhere(_sender(os.getpid()), store, notification_id, channel)


@lru_cache(maxsize=1)
def _sender(_pid: int) -> send.Sender:
    """One per process, since its circuit breakers remember."""
    settings = this_process().settings
    return send.Sender.from_settings(settings, open_channels(settings))
