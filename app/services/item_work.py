"""One message, one look: claim an item of a run, forecast its tenant if it is ours to do, ring for the next ones."""

from typing import TYPE_CHECKING, TypedDict
from uuid import UUID

import structlog

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import TenantStore
from app.errors import TenantcastError
from app.services import runs
from app.services.bell import Bell
from app.tenancy import EVERYONE, TenantId

if TYPE_CHECKING:
    from app.services.ml.artifact import ArtifactKeys

_log = structlog.get_logger()


class Look(TypedDict):
    """What became of a message."""

    run_id: str
    tenant_id: str
    outcome: str  # the report's status, or why the item was not claimed: busy, later, finished, unknown


def work_on(
    gateway: Gateway, bell: Bell, settings: Settings, ml_settings: MLSettings, run_id: UUID, tenant_id: TenantId
) -> Look:
    """Claim the item and forecast its tenant. A message that is late, repeated or false does nothing.

    Raises
    ------
    DatabaseUnavailable, WrongKey, NotInstalled, ConfigError : before the item was claimed
    """
    from app.services.ml.artifact import load_keys

    keys = load_keys(settings)
    store = TenantStore(gateway, tenant_id)
    claimed = runs.claim_item(store, run_id, settings.ml_lease_seconds, settings.ml_task_seconds)
    if isinstance(claimed, runs.NotClaimed):
        _log.info("item_not_claimed", run=str(run_id), tenant=str(tenant_id), outcome=claimed.outcome)
        return Look(run_id=str(run_id), tenant_id=str(tenant_id), outcome=claimed.outcome)
    item = runs.Item(store, run_id, claimed, settings.ml_lease_seconds, settings)
    status = carry_out(item, ml_settings, keys, claimed)["status"]
    try:
        runs.ring_next(gateway, bell, run_id, settings)
    except TenantcastError as error:
        _log.warning("next_not_rung", code=error.code, reason=error.message)  # the reconciler rings
    return Look(run_id=str(run_id), tenant_id=str(tenant_id), outcome=status)


class Outcome(TypedDict):
    """What every report says, whatever the item was."""

    tenant_name: str
    status: str


def carry_out(item: runs.Item, ml_settings: MLSettings, keys: "ArtifactKeys", claimed: runs.Claim) -> Outcome:
    """Do what a claimed item is about: a tenant's forecast, or the global model. Raises nothing but interruptions."""
    if item.store.tenant_id == EVERYONE:
        from app.services.global_training import train_global_model

        training = train_global_model(item, ml_settings, keys, as_of=claimed.as_of, may_retry=True)
        return Outcome(tenant_name=training["tenant_name"], status=training["status"])
    from app.services.ml.pipeline import train_item

    report = train_item(item, ml_settings, keys, force=claimed.force, as_of=claimed.as_of, may_retry=True)
    return Outcome(tenant_name=report["tenant_name"], status=report["status"])
