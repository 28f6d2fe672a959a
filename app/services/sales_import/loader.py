"""Sales and quarantined rows on their way into the database: buffered per tenant, written in chunks."""

from collections import defaultdict

from app.db.gateway import Gateway
from app.db.store import Row, TenantStore
from app.errors import NotInstalled
from app.services.cache import bump_tenant
from app.services.sales_import.options import ImportOptions
from app.services.sales_import.tally import FileTally, TenantTally
from app.services.sales_import.tenants import TenantBook
from app.tenancy import TenantId

MAX_BUFFERED = 50_000  # sales of all tenants together: many small tenants must not add up
MAX_QUARANTINE = 1_000  # rows of one tenant per call
MAX_RAW = 300  # characters of a quarantined row that are kept


class Loader:
    """Takes accepted and refused rows one by one; `finish` writes what is left. A dry run asks and writes nothing."""

    def __init__(
        self, gateway: Gateway, options: ImportOptions, source: str, book: TenantBook, tally: FileTally
    ) -> None:
        self._gateway = gateway
        self._options = options
        self._source = source
        self._book = book
        self._tally = tally
        self._sales: dict[TenantId, list[Row]] = defaultdict(list)
        self._buffered = 0
        self._refused: dict[TenantId, list[Row]] = defaultdict(list)
        self._cleared: set[TenantId] = set()

    def add_sale(self, tenant: TenantTally, sale: Row) -> None:
        sales = self._sales[tenant.tenant_id]
        sales.append(sale)
        self._buffered += 1
        if len(sales) >= self._options.chunk_rows:
            self._write_sales(tenant)
        elif self._buffered >= MAX_BUFFERED:
            self._write_all_sales()

    def refuse(self, tenant: TenantTally | None, line: int, reason: str, raw: str) -> None:
        """Keep a row aside: with its tenant, or, when it belongs to none, in the report alone."""
        self._tally.quarantine(line, reason)
        if tenant is None:
            self._tally.leave_unassigned(line, reason)
            return
        tenant.quarantined += 1
        if len(self._refused[tenant.tenant_id]) >= MAX_QUARANTINE:
            if not tenant.exists:  # a million broken rows of a tenant that is none must not fill the memory
                self._tally.leave_unassigned(line, reason)
                return
            self._write_refused(tenant)
        self._refused[tenant.tenant_id].append({"line": line, "reason": reason, "raw": _storable(raw)})

    def finish(self) -> None:
        """Write what is left; a tenant that only broken rows speak of is none, and its rows go to the report."""
        self._write_all_sales()
        for tenant in self._book.tenants:
            if tenant.exists:
                if not tenant.rows and not self._options.dry_run:
                    self._send_sales(tenant, [])
                self._write_refused(tenant)
            else:
                for row in self._refused.pop(tenant.tenant_id, []):
                    self._tally.leave_unassigned(row["line"], row["reason"])
            if tenant.inserted and not self._options.dry_run:
                bump_tenant(tenant.tenant_id)  # what was cached of it is older than its sales

    def _write_all_sales(self) -> None:
        for tenant in self._book.tenants:
            self._write_sales(tenant)

    def _write_sales(self, tenant: TenantTally) -> None:
        sales = self._sales.pop(tenant.tenant_id, [])
        self._buffered -= len(sales)
        if sales:
            self._send_sales(tenant, sales)

    def _send_sales(self, tenant: TenantTally, sales: list[Row]) -> None:
        store = TenantStore(self._gateway, tenant.tenant_id)
        try:
            written = store.import_sales(dict(self._book.facts(tenant)), sales, dry_run=self._options.dry_run)
        except NotInstalled as error:
            if not self._options.dry_run:
                raise
            # Reading a file, to compare it with the database, works with any product.
            self._tally.note(f"An import would be refused: {error.message}")
            return
        tenant.inserted += written["inserted"]
        tenant.known += written["known"]

    def _write_refused(self, tenant: TenantTally) -> None:
        """What an earlier import of the same source kept aside goes: its rows may have been mended."""
        refused = self._refused.pop(tenant.tenant_id, [])
        first = tenant.tenant_id not in self._cleared
        if self._options.dry_run or not (refused or first):
            return
        TenantStore(self._gateway, tenant.tenant_id).quarantine_rows(self._source, refused, replace=first)
        self._cleared.add(tenant.tenant_id)


def _storable(raw: str) -> str:
    """Postgres stores neither NUL nor half a surrogate pair."""
    return raw.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")[:MAX_RAW]
