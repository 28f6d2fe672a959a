"""The only door to data: `TenantStore` for one tenant, `SystemStore` for runs, `MaintenanceStore` for clean-ups.

All are thin: every method is one named SQL function (see docs/database.md). A `TenantStore` cannot be asked about
another tenant, because no method takes a tenant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, cast
from uuid import UUID, uuid4

from app.db.gateway import Gateway
from app.tenancy import TenantId

Row = dict[str, Any]


@dataclass(frozen=True)
class TenantStore:
    """One tenant's data. Raises what `Gateway.call` raises."""

    gateway: Gateway
    tenant_id: TenantId

    def read_input(self, as_of: date | None, max_days: int, stale_after_days: int) -> Row:
        return self._call("ml_read_input", as_of=as_of, max_days=max_days, stale_after_days=stale_after_days)

    def claim_item(self, run_id: UUID, lease_seconds: int) -> Row:
        # A claimant of its own for every claim: a repeat after a lost answer gets the same lease, nobody else does.
        return self._call("ml_claim_item", run_id=run_id, lease_seconds=lease_seconds, claimant=uuid4())

    def heartbeat_item(
        self,
        run_id: UUID,
        fence: int,
        lease_seconds: int,
        stage: str,
        candidate: str | None = None,
        candidate_seconds: int = 0,
    ) -> Row:
        """``candidate`` is being computed, for so many seconds already; None: nothing that could hang is."""
        return self._call(
            "ml_heartbeat_item",
            run_id=run_id, fence=fence, lease_seconds=lease_seconds, stage=stage, candidate=candidate,
            candidate_seconds=candidate_seconds,
        )  # fmt: skip

    def fail_item(self, run_id: UUID, fence: int, error: Row, retry_in_seconds: int | None = None) -> Row:
        return self._call("ml_fail_item", run_id=run_id, fence=fence, error=error, retry_in_seconds=retry_in_seconds)

    def finish_item(
        self, run_id: UUID, fence: int, state: str, reason: str, report: Row, input_hash: str | None = None
    ) -> Row:
        return self._call(
            "ml_finish_item",
            run_id=run_id, fence=fence, state=state, reason=reason, report=report, input_hash=input_hash,
        )  # fmt: skip

    def publish_item(self, run_id: UUID, fence: int, result: Row) -> Row:
        return self._call("ml_publish_item", run_id=run_id, fence=fence, result=result)

    def publish_model(self, run_id: UUID, fence: int, model: Row, report: Row) -> Row:
        return self._call("ml_publish_model", run_id=run_id, fence=fence, model=model, report=report)

    def read_forecast(self) -> Row:
        return self._call("ml_read_forecast")

    def read_model(self, model_type: str, model_version: str | None = None) -> Row | None:
        return cast("Row | None", self._call("ml_read_model", model_type=model_type, model_version=model_version))

    def list_models(self) -> list[Row]:
        return cast("list[Row]", self._call("ml_list_models"))

    def activate_model(self, model_type: str, model_version: str) -> Row:
        return self._call("ml_activate_model", model_type=model_type, model_version=model_version)

    def write_settings(self, settings: Row | None) -> Row:
        return self._call("ml_write_settings", settings=settings)

    def write_calendar(self, days: list[Row], *, replace: bool = False) -> Row:
        return self._call("ml_write_calendar", days=days, replace=replace)

    def read_snapshot(self, input_hash: str) -> Row | None:
        return cast("Row | None", self._call("ml_read_snapshot", input_hash=input_hash))

    def read_sales_page(self, after_sold_at: datetime | None, after_sale_id: str | None, limit: int) -> list[Row]:
        return cast(
            "list[Row]",
            self._call("ml_read_sales_page", after_sold_at=after_sold_at, after_sale_id=after_sale_id, limit=limit),
        )

    def read_inventory(self) -> list[Row]:
        return cast("list[Row]", self._call("ml_read_inventory"))

    def write_features(self, rows: list[Row]) -> Row:
        return self._call("ml_write_features", rows=rows)

    def read_features(self, feature_type: str, start: date | None = None) -> list[Row]:
        return cast("list[Row]", self._call("ml_read_features", feature_type=feature_type, **{"from": start}))

    def quarantine_rows(self, source: str, rows: list[Row], *, replace: bool = False) -> Row:
        """``replace`` first forgets what an earlier import of the same source kept aside."""
        return self._call("ml_quarantine_rows", source=source, rows=rows, replace=replace)

    def check_sales(self) -> Row:
        return self._call("ml_check_sales")

    def write_notifications(self, notifications: list[Row]) -> Row:
        return self._call("ml_write_notifications", notifications=notifications)

    def write_digest(self, notification: Row, until: str) -> Row:
        """In place of what the daily limit held back up to ``until``, an instant of `read_notification_facts`."""
        return self._call("ml_write_digest", notification=notification, until=until)

    def list_notifications(self, limit: int) -> list[Row]:
        return cast("list[Row]", self._call("ml_list_notifications", limit=limit))

    def read_notification_config(self) -> Row:
        return self._call("ml_read_notification_config")

    def write_notification_config(self, rule: str, channel: str, *, enabled: bool, settings: Row) -> Row:
        return self._call(
            "ml_write_notification_config", rule=rule, channel=channel, enabled=enabled, settings=settings
        )

    def write_notification_address(self, channel: str, address: str | None) -> Row:
        return self._call("ml_write_notification_address", channel=channel, address=address)

    def read_notification_facts(self, days: int) -> Row:
        return self._call("ml_read_notification_facts", days=days)

    def claim_delivery(self, notification_id: UUID, channel: str, lease_seconds: int, daily_limit: int) -> Row:
        return self._call(
            "ml_claim_delivery",
            notification_id=notification_id, channel=channel, lease_seconds=lease_seconds, daily_limit=daily_limit,
        )  # fmt: skip

    def end_delivery(
        self,
        notification_id: UUID,
        channel: str,
        fence: int,
        state: str,
        *,
        error: str | None = None,
        retry_in_seconds: int = 0,
        counts: bool = True,
    ) -> Row:
        """``counts`` False puts a message back that nobody tried to send."""
        return self._call(
            "ml_end_delivery",
            notification_id=notification_id, channel=channel, fence=fence, state=state, error=error,
            retry_in_seconds=retry_in_seconds, counts=counts,
        )  # fmt: skip

    def import_sales(self, tenant: Row, rows: list[Row], *, dry_run: bool = False) -> Row:
        """Into the example product's tables; `NotInstalled` where the product has tables of its own."""
        return self._call("example_import_sales", tenant=tenant, rows=rows, dry_run=dry_run)

    def _call(self, function: str, **params: object) -> Row:
        named = {f"p_{key}": value for key, value in params.items()}
        return cast("Row", self.gateway.call(function, {"p_tenant_id": self.tenant_id, **named}))


@dataclass(frozen=True)
class SystemStore:
    """Runs, which tenants there are and what they set for themselves: never a tenant's sales."""

    gateway: Gateway

    def list_tenants(self, page: int = 500) -> list[Row]:
        """All tenants, by id; read in pages."""
        tenants: list[Row] = []
        after: str | None = None
        while True:
            rows = self.list_tenants_page(after, page)
            if not rows:
                return tenants
            tenants += rows
            after = rows[-1]["tenant_id"]

    def list_tenants_page(self, after: TenantId | str | None, limit: int) -> list[Row]:
        """Tenants whose id comes after ``after`` (None: the first ones), by id; an empty page is the last."""
        return cast("list[Row]", self._call("ml_list_tenants", after=after, limit=limit))

    def read_settings(self, tenant_ids: Sequence[TenantId], page: int = 500) -> dict[str, Row]:
        """The overrides of those that have any, by id as text; each tenant is asked in its own scope."""
        found: dict[str, Row] = {}
        for start in range(0, len(tenant_ids), page):
            asked = _texts(tenant_ids[start : start + page])
            rows = cast("list[Row]", self._call("ml_read_settings", tenant_ids=asked))
            found |= {row["tenant_id"]: row["settings"] for row in rows}
        return found

    def start_run(
        self,
        kind: str,
        params: Row,
        code_version: str,
        tenant_ids: list[TenantId] | None = None,
        slot: datetime | None = None,
        *,
        ring: bool = True,
        spread_seconds: int = 0,
        local_hour: int | None = None,
    ) -> Row:
        return self._call(
            "ml_start_run",
            kind=kind, slot=slot, params=params, code_version=code_version, tenant_ids=_texts(tenant_ids), ring=ring,
            spread_seconds=spread_seconds, local_hour=local_hour,
        )  # fmt: skip

    def next_items(self, run_id: UUID, ring_seconds: int, window: int) -> Row:
        return self._call("ml_next_items", run_id=run_id, ring_seconds=ring_seconds, window=window)

    def reconcile(self, ring_seconds: int, window: int) -> Row:
        return self._call("ml_reconcile", ring_seconds=ring_seconds, window=window)

    def cancel_run(self, run_id: UUID) -> Row | None:
        return cast("Row | None", self._call("ml_cancel_run", run_id=run_id))

    def retry_items(self, run_id: UUID, tenant_ids: list[TenantId] | None = None) -> Row | None:
        return cast("Row | None", self._call("ml_retry_items", run_id=run_id, tenant_ids=_texts(tenant_ids)))

    def read_schedule(self) -> Row:
        return self._call("ml_read_schedule")

    def claim_tick(self, job: str, slot: datetime, lease_seconds: int) -> Row:
        return self._call("ml_claim_tick", job=job, slot=slot, lease_seconds=lease_seconds)

    def finish_tick(self, job: str, slot: datetime, fence: int) -> Row:
        return self._call("ml_finish_tick", job=job, slot=slot, fence=fence)

    def pending_items(self, run_id: UUID, limit: int) -> list[Row]:
        return cast("list[Row]", self._call("ml_pending_items", run_id=run_id, limit=limit))

    def finish_run(self, run_id: UUID) -> Row:
        return self._call("ml_finish_run", run_id=run_id)

    def list_runs(self, limit: int) -> list[Row]:
        return cast("list[Row]", self._call("ml_list_runs", limit=limit))

    def show_run(self, run_id: UUID | None, page: int = 100) -> Row:
        """The run and all its items, read in pages. ``run_id`` None is the newest; None comes back without any run."""
        shown = self._call("ml_show_run", run_id=run_id, after=None, limit=page)
        while shown and (more := self._next_items(shown, page)):
            shown["items"] += more
        return shown

    def read_run(self, run_id: UUID | None) -> Row | None:
        """The run without its items. ``run_id`` None is the newest; None comes back without any run."""
        shown = self._call("ml_show_run", run_id=run_id, after=None, limit=1)
        return cast("Row", shown["run"]) if shown else None

    def due_deliveries(self, limit: int) -> list[Row]:
        return cast("list[Row]", self._call("ml_due_deliveries", limit=limit))

    def due_notification_ticks(
        self, job: str, limit: int, lease_seconds: int, *, period_seconds: int, hour: int, hours_late: int
    ) -> list[Row]:
        return cast(
            "list[Row]",
            self._call(
                "ml_due_notification_ticks",
                job=job, limit=limit, lease_seconds=lease_seconds, period_seconds=period_seconds, hour=hour,
                hours_late=hours_late,
            ),
        )  # fmt: skip

    def end_notification_tick(self, tenant_id: TenantId, job: str, slot: str) -> Row:
        return self._call("ml_end_notification_tick", tenant_id=tenant_id, job=job, slot=slot)

    def metrics(self, top: int) -> Row:
        """The ledger in numbers; ``top`` is how many of the stalest tenants it names."""
        return self._call("ml_metrics", top=top)

    def health(self) -> Row:
        return self._call("ml_health")

    def check_installation(self) -> Row:
        return self._call("ml_check_installation")

    def _next_items(self, shown: Row, page: int) -> list[Row]:
        if not shown["items"]:
            return []
        after = shown["items"][-1]["tenant_id"]
        found = self._call("ml_show_run", run_id=shown["run"]["run_id"], after=after, limit=page)
        return cast("list[Row]", found["items"])

    def _call(self, function: str, **params: object) -> Row:
        return cast("Row", self.gateway.call(function, {f"p_{key}": value for key, value in params.items()}))


@dataclass(frozen=True)
class MaintenanceStore:
    """What is old, of every tenant: counted and deleted, never read."""

    gateway: Gateway

    def plan_clean_up(self, what: str, keep_days: int, keep_versions: int) -> Row:
        return self._call("ml_plan_clean_up", what=what, keep_days=keep_days, keep_versions=keep_versions)

    def clean_up_batch(self, what: str, keep_days: int, keep_versions: int, limit: int) -> Row:
        return self._call("ml_clean_up_batch", what=what, keep_days=keep_days, keep_versions=keep_versions, limit=limit)

    def _call(self, function: str, **params: object) -> Row:
        return cast("Row", self.gateway.call(function, {f"p_{key}": value for key, value in params.items()}))


def _texts(tenant_ids: Sequence[TenantId] | None) -> list[str] | None:
    return None if tenant_ids is None else [str(tenant_id) for tenant_id in tenant_ids]
