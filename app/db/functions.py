"""The named SQL functions that a gateway may call, and the type of each parameter (see docs/database.md).

Identifiers in a statement come from here and never from input; the types let ``None``, numbers and JSON travel without
guessing. A contract test compares this list with the database's catalogue.
"""

from collections.abc import Mapping
from types import MappingProxyType

from app.errors import QueryRefused

_ITEM = {"p_tenant_id": "uuid", "p_run_id": "uuid"}
_FENCED = {**_ITEM, "p_fence": "bigint"}
_TENANT = {"p_tenant_id": "uuid"}
_DELIVERY = {**_TENANT, "p_notification_id": "uuid", "p_channel": "text"}

FUNCTIONS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "ml_read_input": {**_TENANT, "p_as_of": "date", "p_max_days": "integer", "p_stale_after_days": "integer"},
        "ml_claim_item": {**_ITEM, "p_lease_seconds": "integer", "p_claimant": "uuid"},
        "ml_heartbeat_item": {
            **_FENCED, "p_lease_seconds": "integer", "p_stage": "text", "p_candidate": "text",
            "p_candidate_seconds": "integer",
        },
        "ml_fail_item": {**_FENCED, "p_error": "jsonb", "p_retry_in_seconds": "integer"},
        "ml_finish_item": {
            **_FENCED, "p_state": "text", "p_reason": "text", "p_report": "jsonb", "p_input_hash": "text",
        },
        "ml_publish_item": {**_FENCED, "p_result": "jsonb"},
        "ml_publish_model": {**_FENCED, "p_model": "jsonb", "p_report": "jsonb"},
        "ml_read_forecast": _TENANT,
        "ml_read_model": {**_TENANT, "p_model_type": "text", "p_model_version": "text"},
        "ml_list_models": _TENANT,
        "ml_activate_model": {**_TENANT, "p_model_type": "text", "p_model_version": "text"},
        "ml_read_settings": {"p_tenant_ids": "jsonb"},
        "ml_write_settings": {**_TENANT, "p_settings": "jsonb"},
        "ml_write_calendar": {**_TENANT, "p_days": "jsonb", "p_replace": "boolean"},
        "ml_read_snapshot": {**_TENANT, "p_input_hash": "text"},
        "ml_read_sales_page": {
            **_TENANT, "p_after_sold_at": "timestamp with time zone", "p_after_sale_id": "text", "p_limit": "integer",
        },
        "ml_read_inventory": _TENANT,
        "ml_write_features": {**_TENANT, "p_rows": "jsonb"},
        "ml_quarantine_rows": {**_TENANT, "p_source": "text", "p_rows": "jsonb", "p_replace": "boolean"},
        "ml_check_sales": _TENANT,
        "ml_list_tenants": {"p_after": "uuid", "p_limit": "integer"},
        "ml_start_run": {
            "p_kind": "text", "p_slot": "timestamp with time zone", "p_params": "jsonb", "p_code_version": "text",
            "p_tenant_ids": "jsonb", "p_ring": "boolean", "p_spread_seconds": "integer", "p_local_hour": "integer",
        },
        "ml_next_items": {"p_run_id": "uuid", "p_ring_seconds": "integer", "p_window": "integer"},
        "ml_reconcile": {"p_ring_seconds": "integer", "p_window": "integer"},
        "ml_cancel_run": {"p_run_id": "uuid"},
        "ml_retry_items": {"p_run_id": "uuid", "p_tenant_ids": "jsonb"},
        "ml_read_schedule": {},
        "ml_claim_tick": {"p_job": "text", "p_slot": "timestamp with time zone", "p_lease_seconds": "integer"},
        "ml_finish_tick": {"p_job": "text", "p_slot": "timestamp with time zone", "p_fence": "bigint"},
        "ml_pending_items": {"p_run_id": "uuid", "p_limit": "integer"},
        "ml_finish_run": {"p_run_id": "uuid"},
        "ml_list_runs": {"p_limit": "integer"},
        "ml_show_run": {"p_run_id": "uuid", "p_after": "uuid", "p_limit": "integer"},
        "ml_check_installation": {},
        "ml_write_notifications": {**_TENANT, "p_notifications": "jsonb"},
        "ml_write_digest": {**_TENANT, "p_notification": "jsonb", "p_until": "timestamp with time zone"},
        "ml_list_notifications": {**_TENANT, "p_limit": "integer"},
        "ml_read_notification_config": _TENANT,
        "ml_write_notification_config": {
            **_TENANT, "p_rule": "text", "p_channel": "text", "p_enabled": "boolean", "p_settings": "jsonb",
        },
        "ml_write_notification_address": {**_TENANT, "p_channel": "text", "p_address": "text"},
        "ml_read_notification_facts": {**_TENANT, "p_days": "integer"},
        "ml_claim_delivery": {**_DELIVERY, "p_lease_seconds": "integer", "p_daily_limit": "integer"},
        "ml_end_delivery": {
            **_DELIVERY, "p_fence": "bigint", "p_state": "text", "p_error": "text", "p_retry_in_seconds": "integer",
            "p_counts": "boolean",
        },
        "ml_due_deliveries": {"p_limit": "integer"},
        "ml_due_notification_ticks": {
            "p_job": "text", "p_limit": "integer", "p_lease_seconds": "integer", "p_period_seconds": "integer",
            "p_hour": "integer", "p_hours_late": "integer",
        },
        "ml_end_notification_tick": {**_TENANT, "p_job": "text", "p_slot": "text"},
        "ml_read_features": {**_TENANT, "p_feature_type": "text", "p_from": "date"},
        "ml_metrics": {"p_top": "integer"},
        "ml_health": {},
        "ml_plan_clean_up": {"p_what": "text", "p_keep_days": "integer", "p_keep_versions": "integer"},
        "ml_clean_up_batch": {
            "p_what": "text", "p_keep_days": "integer", "p_keep_versions": "integer", "p_limit": "integer",
        },
        "example_import_sales": {**_TENANT, "p_tenant": "jsonb", "p_rows": "jsonb", "p_dry_run": "boolean"},
    }
)  # fmt: skip

# A second call after a lost answer would do something else than the first: another run; a lease of a worker that does
# not know of it. Every other function is idempotent under its fence or its key.
NOT_REPEATABLE = frozenset({"ml_start_run", "ml_claim_delivery", "ml_due_notification_ticks"})


def parameter_types(function: str, params: Mapping[str, object]) -> Mapping[str, str]:
    """The SQL type of each parameter of a call.

    Raises
    ------
    QueryRefused : no such function, or a parameter that it does not have
    """
    types = FUNCTIONS.get(function)
    if types is None:
        raise QueryRefused(f"{function!r} is no function of the database API.")
    unknown = sorted(set(params) - set(types))
    if unknown:
        raise QueryRefused(f"{function} has no parameter {', '.join(unknown)}.")
    return types
