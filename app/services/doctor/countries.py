"""Tenants whose country is missing or looks wrong, as the last fit of each noted it; nothing is computed here."""

from collections.abc import Mapping

from app.db.gateway import Gateway
from app.db.store import TenantStore
from app.services.doctor.check import Check, some
from app.services.ml.country import COUNTRY_NOTES
from app.services.ml.notes import say_stored
from app.services.tenants import Tenant


def country_notes(gateway: Gateway, tenants: list[Tenant]) -> dict[str, str]:
    """What the report of each current forecast says of the country, by the tenant's name; only where it does."""
    found: dict[str, str] = {}
    for tenant in tenants:
        report = TenantStore(gateway, tenant.tenant_id).read_forecast().get("report") or {}
        for stored in report.get("notes") or []:
            if stored["code"] in COUNTRY_NOTES:
                found[tenant.name or str(tenant.tenant_id)] = say_stored(stored, "en")
    return found


def check_countries(notes: Mapping[str, str]) -> Check:
    """A country is worth asking about where the sales show the public holidays of another one."""
    if not notes:
        return Check("countries", "ok", "none of the current forecasts asks for another country's public holidays")
    shown = some([f"{name}: {said}" for name, said in notes.items()])
    return Check(
        "countries",
        "warn",
        f"{len(notes)} in doubt. {shown}",
        "If it is right: `tenantcast settings set TENANT holidays_country=CODE`, or the country in tenant_source.",
    )
