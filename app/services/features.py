"""Keeps `ml_features` current: daily totals, moving averages, inventory and trends, tenant by tenant.

Only what changed is written, so that the hourly refresh of thousands of tenants is mostly reading. One call does one
page of tenants and says where the next one begins: no task grows with the number of tenants, and a page that is lost is
made up for an hour later.
"""

from datetime import timedelta
from typing import TypedDict

import structlog

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.gateway import Gateway
from app.db.store import SystemStore, TenantStore
from app.errors import TenantcastError, Transient, UnknownTenant
from app.services import trends
from app.services.cache import open_cache
from app.services.ml.feature_engineer import FeatureEngineer
from app.services.ml.intake import TenantInput
from app.tenancy import TenantId, parse_tenant_id

PAGE_TENANTS = 100

_log = structlog.get_logger()


class FeatureReport(TypedDict):
    """Rows of `ml_features` written for one tenant; ``as_of`` None: no sales yet."""

    tenant_id: str
    as_of: str | None
    sales_rows: int
    inventory_rows: int
    trends_rows: int


class PageReport(TypedDict):
    """What one page of tenants came to; ``next_after`` None: it was the last one."""

    tenants: int
    rows: int
    failed: list[str]
    next_after: str | None


def update_features(
    gateway: Gateway, tenant_id: TenantId, *, ml_settings: MLSettings | None = None, settings: Settings | None = None
) -> FeatureReport:
    """Write one tenant's features as far as they changed, and let its cached values go if any did.

    Raises
    ------
    UnknownTenant, InvalidTenantInput, InvalidSeries
    DatabaseUnavailable, WrongKey, NotInstalled
    """
    cache = open_cache(settings or Settings())
    engineer = FeatureEngineer(TenantStore(gateway, tenant_id), ml_settings or MLSettings(), cache)
    found = _read(engineer)
    sales_rows = engineer.refresh_sales_features(found.series) if found.series is not None else 0
    report = FeatureReport(
        tenant_id=str(tenant_id),
        as_of=found.as_of.isoformat() if found.series is not None else None,
        sales_rows=sales_rows,
        inventory_rows=engineer.persist_inventory_features(found.last_finished_day + timedelta(days=1)),
        trends_rows=_refresh_trends(engineer, found),
    )
    if sales_rows or report["trends_rows"]:
        cache.bump(tenant_id)
    _log.info("features_updated", **report)
    return report


def update_page(
    gateway: Gateway,
    *,
    after: TenantId | None = None,
    limit: int = PAGE_TENANTS,
    ml_settings: MLSettings | None = None,
    settings: Settings | None = None,
) -> PageReport:
    """`update_features` for the next ``limit`` tenants after ``after``; one tenant's failure stops no other.

    Inactive tenants, and those that `ML_TENANT_IDS` does not name, are passed over.

    Raises
    ------
    DatabaseUnavailable, WrongKey, NotInstalled : the database cannot be used; the next slot begins again
    """
    ml_settings, settings = ml_settings or MLSettings(), settings or Settings()
    allowed = ml_settings.allowed_tenants()
    page = SystemStore(gateway).list_tenants_page(after, limit)
    ids = [parse_tenant_id(row["tenant_id"]) for row in page if row["active"] is not False]
    report = PageReport(tenants=0, rows=0, failed=[], next_after=page[-1]["tenant_id"] if len(page) == limit else None)
    for tenant_id in ids:
        if allowed is not None and tenant_id not in allowed:
            continue
        report["tenants"] += 1
        try:
            done = update_features(gateway, tenant_id, ml_settings=ml_settings, settings=settings)
        except Transient:
            raise
        except TenantcastError as error:
            _log.warning("features_failed", tenant=str(tenant_id), kind=error.kind, code=error.code)
            report["failed"].append(str(tenant_id))
        else:
            report["rows"] += done["sales_rows"] + done["inventory_rows"] + done["trends_rows"]
    return report


def _read(engineer: FeatureEngineer) -> TenantInput:
    """What a forecast of the tenant would be made from."""
    found = engineer.read_input()
    if found is None:
        raise UnknownTenant(
            f"There is no tenant {engineer.store.tenant_id}.",
            next_step="Import its sales, or look at the view tenantcast_source.tenant_source.",
            tenant_id=str(engineer.store.tenant_id),
        )
    return found


def _refresh_trends(engineer: FeatureEngineer, found: TenantInput) -> int:
    report = trends.report_of(found)
    if report is None:
        return 0
    row = trends.feature_row(report)
    stored = engineer.store.read_features(trends.FEATURE_TYPE, found.as_of)
    if any(old["feature_values"] == row["feature_values"] for old in stored):
        return 0
    return int(engineer.store.write_features([row])["written"])
