"""Which tenant a person means: an id, the name it was imported under, or its name in the product."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Self

from app.db.gateway import Gateway
from app.db.store import Row, SystemStore
from app.errors import UnknownTenant
from app.tenancy import TenantId, parse_tenant_id


@dataclass(frozen=True)
class Tenant:
    """A tenant that the product has, with what the product says about it."""

    tenant_id: TenantId
    name: str
    currency: str
    time_zone: str

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """From a row of ``ml_list_tenants``; what the product leaves open is empty."""
        facts = {key: str(row.get(key) or "") for key in ("name", "currency", "time_zone")}
        return cls(parse_tenant_id(row["tenant_id"]), **facts)


class TenantDirectory:
    """All tenants of the product, read once; finds them by id or by name."""

    def __init__(self, tenants: list[Tenant]) -> None:
        self.tenants = tenants
        self._by_id = {tenant.tenant_id: tenant for tenant in tenants}

    @classmethod
    def read(cls, gateway: Gateway) -> Self:
        return cls([Tenant.from_row(row) for row in SystemStore(gateway).list_tenants()])

    def find(self, text: str) -> Tenant:
        """The one tenant with that id, or with that name (upper and lower case are the same).

        Raises
        ------
        InvalidTenantId : ``text`` can be neither an id nor a name
        UnknownTenant : none has it, or several have that name
        """
        by_id = self._by_id.get(parse_tenant_id(text))
        if by_id is not None:
            return by_id
        name = text.strip().casefold()
        named = [tenant for tenant in self.tenants if tenant.name.strip().casefold() == name]
        if len(named) == 1:
            return named[0]
        raise self._ambiguous(text, named) if named else self._unknown(text)

    def _ambiguous(self, text: str, named: list[Tenant]) -> UnknownTenant:
        ids = ", ".join(str(tenant.tenant_id) for tenant in named[:3])
        return UnknownTenant(f"{len(named)} tenants are called {text!r}.", next_step=f"Give the id instead: {ids}.")

    def _unknown(self, text: str) -> UnknownTenant:
        message = f"No tenant has the id or the name {text!r}."
        names = [tenant.name for tenant in self.tenants if tenant.name]
        if not self.tenants:
            return UnknownTenant(
                message, next_step="There are no tenants yet: `tenantcast import FILE.csv` brings some."
            )
        near = get_close_matches(text, names, n=3, cutoff=0.5) or names[:3]
        return UnknownTenant(message, next_step=f"There are {len(self.tenants)}, for instance: {', '.join(near)}.")
