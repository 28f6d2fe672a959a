"""Checks of the database: does it answer, is it ours and current, does row security hold, are tenants sound."""

import zoneinfo
from collections.abc import Sequence
from typing import Any

from app.db.migrate import MigrationStatus
from app.db.store import Row
from app.services.doctor.check import Check, some
from app.services.tenants import Tenant

WORKER_ROLES = ("tenantcast_worker", "tenantcast_system", "tenantcast_maintenance")


def check_migrations(status: MigrationStatus) -> Check:
    """Every migration that this version ships is applied."""
    shipped = len(status.applied) + len(status.pending)
    if status.pending:
        return Check(
            "migrations",
            "fail",
            f"{len(status.pending)} of {shipped} are not applied: {some(status.pending)}.",
            "`tenantcast db migrate` (over DATABASE_URL) or `supabase db push`.",
        )
    beside = f" (and {status.others} that are not ours)" if status.others else ""
    return Check("migrations", "ok", f"all {shipped} applied{beside}")


def check_roles(roles: dict[str, Any]) -> Check:
    """The roles that tenantcast works as exist, and row security binds them."""
    missing = [name for name in WORKER_ROLES if not roles.get(name)]
    if missing:
        return Check("roles", "fail", f"{some(missing)} missing.", "`tenantcast db migrate` creates them.")
    free = [name for name in WORKER_ROLES if roles[name]["superuser"] or roles[name]["bypass_row_security"]]
    if free:
        return Check("roles", "fail", f"{some(free)} may bypass row security.", f"alter role {free[0]} nobypassrls;")
    return Check("roles", "ok", f"{', '.join(WORKER_ROLES)}: bound by row security")


def check_row_security_lint(problems: Sequence[Row]) -> Check:
    """The database's own lint: forced row security, policies, grants, search paths."""
    if not problems:
        return Check("row security", "ok", "forced on every table of ours; no dashboard can reach around it")
    shown = some([f"{row['problem']} ({row['object']})" for row in problems])
    return Check(
        "row security", "fail", f"{len(problems)} problems: {shown}.", "`tenantcast db migrate`; or undo the change."
    )


def check_tenant_facts(tenants: Sequence[Tenant]) -> Check:
    """Time zones that the product gives its tenants must exist: else their business days are UTC's."""
    known = zoneinfo.available_timezones()
    wrong = [tenant for tenant in tenants if tenant.time_zone not in known]
    if not wrong:
        return Check("tenants", "ok", f"{len(tenants)}, every time zone is known")
    shown = some([f"{tenant.name or tenant.tenant_id} ({tenant.time_zone or 'none'})" for tenant in wrong])
    return Check(
        "tenants",
        "warn",
        f"{len(wrong)} of {len(tenants)} have no known time zone and are counted by UTC days: {shown}.",
        "Give them an IANA name such as Europe/Madrid, in the table that tenant_source reads.",
    )
