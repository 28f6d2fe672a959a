"""Which tenant a row belongs to, what is known about it, and the zone that its local times are read in."""

from collections.abc import Callable
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.db.store import Row
from app.errors import ConfigError, InvalidTenantId
from app.services.sales_import.options import ImportOptions, TenantFacts
from app.services.sales_import.parsing import BadRow
from app.services.sales_import.tally import TenantTally
from app.tenancy import TenantId, parse_tenant_id


def find_zone(name: str) -> ZoneInfo:
    """The IANA zone of that name.

    Raises
    ------
    ConfigError : there is no such zone; names similar ones
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"{name!r} is no time zone.", next_step=_similar_zones(name)) from error


def _similar_zones(name: str) -> str:
    import difflib
    from zoneinfo import available_timezones

    similar = difflib.get_close_matches(name, sorted(available_timezones()), n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(similar)}?" if similar else "Give an IANA name such as Europe/Madrid."


class TenantBook:
    """The tenants of one import, by the text that the file has for them; in the order of the file.

    ``known`` reads all tenants of the database; it is asked once, when the first tenant is met.
    """

    def __init__(self, options: ImportOptions, known: Callable[[], list[Row]]) -> None:
        self.notes: list[str] = []
        self._options = options
        self._read_known = known
        self._known: dict[str, Row] | None = None
        self._by_text: dict[str, TenantTally] = {}
        self._by_id: dict[TenantId, TenantTally] = {}
        self._facts = {parse_tenant_id(text): facts for text, facts in options.tenants.items()}
        self._forced = find_zone(options.timezone) if options.timezone else None

    @property
    def tenants(self) -> list[TenantTally]:
        return list(self._by_id.values())

    def find(self, text: str) -> TenantTally:
        """The tenant of a row's first cell.

        Raises
        ------
        BadRow : empty, or no tenant id
        """
        found = self._by_text.get(text)
        return found if found is not None else self._meet(text)

    def announce(self) -> None:
        """Meet every tenant whose facts were given, also one that the file has no sales of."""
        for text in self._options.tenants:
            self.find(text).announced = True

    def facts(self, tenant: TenantTally) -> TenantFacts:
        """What the database is told about the tenant: given facts; of a new one also its name and zone."""
        given: TenantFacts = {**self._options.every_tenant, **self._facts.get(tenant.tenant_id, {})}
        if not tenant.new:
            return given
        return {"name": tenant.name or str(tenant.tenant_id), "time_zone": tenant.zone_name, **given}

    def _meet(self, text: str) -> TenantTally:
        name = text.strip()
        if not name:
            raise BadRow("no_tenant")
        try:
            tenant_id = parse_tenant_id(name)
        except InvalidTenantId as error:
            raise BadRow("invalid_tenant") from error
        tenant = self._by_id.get(tenant_id) or self._new_tally(tenant_id, name)
        self._by_text[text] = self._by_id[tenant_id] = tenant
        return tenant

    def _new_tally(self, tenant_id: TenantId, name: str) -> TenantTally:
        if self._known is None:
            self._known = {row["tenant_id"]: row for row in self._read_known()}
        known = self._known.get(str(tenant_id))
        facts = self._facts.get(tenant_id, {})
        stored = known or {}
        shown = facts.get("name") or stored.get("name") or ("" if _is_uuid(name, tenant_id) else name)
        zone_name = self._options.timezone or facts.get("time_zone") or stored.get("time_zone") or "UTC"
        zone = self._forced or self._zone_of(shown or str(tenant_id), zone_name, given="time_zone" in facts)
        return TenantTally(tenant_id, shown, zone, zone.key, new=known is None, announced=bool(facts))

    def _zone_of(self, tenant: str, zone_name: str, *, given: bool) -> ZoneInfo:
        """The tenant's zone; one that the database holds and nobody knows is UTC there too, and is noted."""
        try:
            return find_zone(zone_name)
        except ConfigError as error:
            if given:
                raise
            self.notes.append(f"{tenant}: {error.message} Its local times were read as UTC.")
            return ZoneInfo("UTC")


def _is_uuid(name: str, tenant_id: TenantId) -> bool:
    return name.replace("-", "").casefold().strip("{}").removeprefix("urn:uuid:") == tenant_id.hex
