"""`tenantcast doctor`: what is wrong, and the next step; it changes nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.config.ml_settings import MLSettings
from app.config.settings import Settings
from app.db.connect import chooses_supabase
from app.db.gateway import Gateway
from app.db.migrate import status_of
from app.db.store import SystemStore
from app.errors import TenantcastError
from app.services.doctor import database, machine
from app.services.doctor.check import Check
from app.services.doctor.countries import check_countries, country_notes
from app.services.doctor.sales import SalesOfTenant, check_file, check_row_security, read_sales
from app.services.tenants import TenantDirectory

__all__ = ["Check", "Diagnosis", "diagnose"]


@dataclass
class Diagnosis:
    """All findings, and the sales of every tenant as the database counts them."""

    checks: list[Check] = field(default_factory=list)
    sales: list[SalesOfTenant] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return any(check.status == "fail" for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"ok": not self.failed, "checks": [check.as_dict() for check in self.checks], "sales": self.sales}


def diagnose(
    settings: Settings,
    ml_settings: MLSettings,
    open_gateway: Callable[[Settings], Gateway],
    *,
    file: Path | None = None,
    columns: Mapping[str, str] | None = None,
) -> Diagnosis:
    """Look at everything once. A part that cannot be looked at is a failed check, never an exception.

    ``file`` is a transactions file to compare with the database; ``columns`` as in `ImportOptions`.
    """
    found = Diagnosis(_of_this_machine(settings, ml_settings))
    try:
        gateway = open_gateway(settings)
    except TenantcastError as error:
        found.checks.append(_failed("database", error))
        return found
    try:
        _look_into(gateway, found, source_of(settings))
        if file is not None:
            found.checks.append(check_file(gateway, file, columns or {}, found.sales))
    except TenantcastError as error:
        found.checks.append(_failed("database", error))
    finally:
        gateway.close()
    return found


def _of_this_machine(settings: Settings, ml_settings: MLSettings) -> list[Check]:
    return [
        machine.check_libraries(),
        machine.check_candidates(ml_settings),
        machine.check_neural(ml_settings),
        machine.check_time_zones(),
        machine.check_threads(),
        machine.check_home(settings.tenantcast_home),
        machine.check_signing_key(settings),
    ]


def source_of(settings: Settings) -> str:
    """Which database the settings choose, in words."""
    if settings.database_url is not None:
        return "DATABASE_URL"
    return "SUPABASE_URL" if chooses_supabase(settings) else f"a private one under {settings.tenantcast_home}"


def _look_into(gateway: Gateway, found: Diagnosis, source: str) -> None:
    installed = SystemStore(gateway).check_installation()
    found.checks += [
        Check("database", "ok", f"PostgreSQL {installed['version']}, {source}; {gateway.name} gateway"),
        database.check_migrations(status_of({row["version"] for row in installed["migrations"]})),
        database.check_roles(installed["roles"]),
        database.check_row_security_lint(installed["lint"]),
    ]
    tenants = TenantDirectory.read(gateway).tenants
    found.sales = read_sales(gateway, tenants, installed["source_rows"])
    found.checks += [database.check_tenant_facts(tenants), check_row_security(found.sales)]
    found.checks.append(check_countries(country_notes(gateway, tenants)))


def _failed(name: str, error: TenantcastError) -> Check:
    return Check(name, "fail", error.message, error.next_step)
