"""What the import is told, and what it tells: options, tenants' facts and the report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

Progress = Callable[[int, int], None]  # bytes of the file read so far, bytes in all


class TenantFacts(TypedDict, total=False):
    """What is known about a tenant, in the words of `tenant_source`. A missing key leaves the database's value."""

    name: str
    time_zone: str  # IANA
    cutoff_hour: int  # 0..23: the business day ends at that local hour
    country: str  # ISO 3166, with a subdivision behind a dash
    language: str
    currency: str  # ISO 4217
    active: bool


@dataclass(frozen=True)
class ImportOptions:
    """How to read a file of sales.

    ``columns`` maps a field (tenant_id, fecha, total, producto_id, venta_id, cantidad) to the file's name for it.
    ``timezone`` is the IANA zone of times without an offset; empty means the tenant's own, and UTC for a tenant that
    the database does not know. ``time_format`` is a `strptime` format for times that are not ISO 8601.
    ``tenant`` is the tenant of a file that has no tenant column. ``tenants`` gives facts by the file's tenant ids,
    ``every_tenant`` those that hold for all of them.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    timezone: str = ""
    time_format: str = ""
    decimal_comma: bool = False
    delimiter: str = ""  # empty: comma, semicolon, tab or bar, whichever the header fits
    encoding: str = "utf-8"
    tenant: str = ""
    tenants: Mapping[str, TenantFacts] = field(default_factory=dict)
    every_tenant: TenantFacts = field(default_factory=TenantFacts)
    source: str = ""  # the name that quarantined rows are kept under; empty: the file's name
    dry_run: bool = False
    chunk_rows: int = 5_000  # sales per call of the database


class QuarantinedReason(TypedDict):
    """Rows that were kept aside for one reason."""

    reason: str  # a code; `quality.reason_text` says it in words
    rows: int
    first_line: int


class UnassignedRow(TypedDict):
    """A row that belongs to no tenant, so that only the report can name it."""

    line: int
    reason: str


class TenantImport(TypedDict):
    """What the import did for one tenant. ``total`` is the exact sum of the accepted rows, as text."""

    tenant_id: str
    name: str
    time_zone: str  # that naive times were read in
    new: bool  # the database did not know the tenant
    rows: int  # accepted
    inserted: int  # in a dry run: what would be
    known: int  # accepted, and in the database already
    duplicates: int  # accepted rows that repeat an earlier one exactly: separate sales
    quarantined: int
    total: str
    first_sale: str | None
    last_sale: str | None


class ImportReport(TypedDict):
    """What the import did, JSON-safe. Every data row is either accepted or quarantined."""

    file: str
    dry_run: bool
    complete: bool  # false: the file broke off; the rows before are in
    problem: str  # why it is not complete
    rows: int  # data rows read
    accepted: int
    inserted: int
    known: int
    duplicates: int
    quarantined: int
    reasons: list[QuarantinedReason]
    unassigned: list[UnassignedRow]  # the first hundred
    unassigned_rows: int
    nonexistent_times: int  # local times in the gap of a clock change: moved forward by the gap
    ambiguous_times: int  # local times that occur twice: the first occurrence was taken
    unreadable_quantities: int  # the sale counts, its quantity is unknown
    notes: list[str]
    tenants: list[TenantImport]  # in the order of the file
