"""`tenantcast import`: a file of sales into the database, idempotently; rows that cannot be used are kept aside."""

import re
from datetime import datetime
from decimal import Context, localcontext
from pathlib import Path

import structlog

from app.db.gateway import Gateway
from app.db.store import Row, SystemStore
from app.errors import ConfigError
from app.services.sales_import.keys import SaleKeys
from app.services.sales_import.lines import LineReader
from app.services.sales_import.loader import Loader
from app.services.sales_import.options import (
    ImportOptions,
    ImportReport,
    Progress,
    QuarantinedReason,
    TenantFacts,
    TenantImport,
    UnassignedRow,
)
from app.services.sales_import.parsing import Amount, BadRow, parse_amount, parse_instant, parse_label
from app.services.sales_import.rows import FIELDS, Header, RawRow, read_rows
from app.services.sales_import.tally import FileTally, TenantTally
from app.services.sales_import.tenants import TenantBook, find_zone

__all__ = [
    "ImportOptions",
    "ImportReport",
    "Progress",
    "QuarantinedReason",
    "TenantFacts",
    "TenantImport",
    "UnassignedRow",
    "find_zone",
    "import_file",
]

CURRENCY = re.compile("[A-Z]{3}")
# Sums of ten billion amounts of 36 digits stay exact.
EXACT = Context(prec=60)
log = structlog.get_logger()


def import_file(
    path: Path, gateway: Gateway, options: ImportOptions | None = None, progress: Progress | None = None
) -> ImportReport:
    """Bring the sales of a CSV file (plain or gzipped) into the product's tables, as a stream.

    A sale's key is its external id, else a UUIDv5 of what it says and of how many equal rows came before it: the same
    file again changes nothing, and exact duplicates stay separate sales. A row that is no sale is quarantined with
    its line and the reason, never fatal. A file that breaks off (a truncated .gz) gives the rows before the break and
    a report whose ``complete`` is false.

    Raises
    ------
    InvalidFile : no such file, not CSV, or a column is missing
    ConfigError : an option cannot be used
    NotInstalled : the product has tables of its own; and what else `Gateway.call` raises
    """
    options = options or ImportOptions()
    _check(options)
    lines = LineReader(path, options.encoding, progress)
    header, rows = read_rows(lines, options)
    tally = FileTally()
    book = TenantBook(options, SystemStore(gateway).list_tenants)
    loader = Loader(gateway, options, options.source or path.name, book, tally)
    reader = _SaleReader(header, options, tally)
    with localcontext(EXACT):
        book.announce()
        for row in rows:
            tally.rows += 1
            _take(row, reader, book, loader)
        loader.finish()
        for note in (*book.notes, *_hints(tally)):
            tally.note(note)
        report = tally.as_report(path.name, options, lines.problem, book.tenants)
    _log(report)
    return report


def _take(row: RawRow, reader: "_SaleReader", book: TenantBook, loader: Loader) -> None:
    tenant = None
    try:
        tenant = book.find(reader.tenant_text(row))
        loader.add_sale(tenant, reader.read(row, tenant))
    except BadRow as bad:
        loader.refuse(tenant, row.line, row.problem or str(bad), row.text or reader.join(row))


class _SaleReader:
    """From the fields of a row to the sale that `example_import_sales` takes."""

    def __init__(self, header: Header, options: ImportOptions, tally: FileTally) -> None:
        self._options = options
        self._tally = tally
        self._keys = SaleKeys()
        self._delimiter = header.delimiter
        self._tenant, self._time, self._total, self._product, self._id, self._quantity = (
            header.position.get(name) for name in FIELDS
        )

    def tenant_text(self, row: RawRow) -> str:
        """What stands in the tenant's cell; a row with a problem may lack it."""
        if self._tenant is None or self._options.tenant:
            return self._options.tenant
        return row.fields[self._tenant] if self._tenant < len(row.fields) else ""

    def read(self, row: RawRow, tenant: TenantTally) -> Row:
        """Raises BadRow."""
        if row.problem:
            raise BadRow(row.problem)
        amount = parse_amount(_cell(row, self._total), self._options.decimal_comma)
        sold_at, change = parse_instant(_cell(row, self._time), tenant.zone, self._options.time_format)
        product = parse_label(_cell(row, self._product))
        instant = sold_at.isoformat()
        sale_id, duplicate = self._key(row, tenant, instant, amount, product)
        tenant.accept(sold_at, amount.value, duplicate=duplicate)
        if change:
            self._tally.clock_changes[change] += 1
        return {
            "sale_id": sale_id,
            "sold_at": instant,
            "amount": amount.text,
            "quantity": self._read_quantity(row),
            "product_id": product,
        }

    def join(self, row: RawRow) -> str:
        """The row as text again, for the quarantine."""
        return self._delimiter.join(row.fields)

    def _key(
        self, row: RawRow, tenant: TenantTally, instant: str, amount: Amount, product: str | None
    ) -> tuple[str, bool]:
        external = parse_label(_cell(row, self._id))
        if external is not None:
            return self._keys.external(tenant.tenant_id, external), False
        return self._keys.derive(tenant.tenant_id, instant, amount.text, product)

    def _read_quantity(self, row: RawRow) -> str | None:
        """The money counts even when the quantity cannot be read."""
        cell = _cell(row, self._quantity)
        if not cell.strip():
            return None
        try:
            return parse_amount(cell, self._options.decimal_comma).text
        except BadRow:
            self._tally.unreadable_quantities += 1
            return None


def _cell(row: RawRow, position: int | None) -> str:
    return "" if position is None else row.fields[position]


def _check(options: ImportOptions) -> None:
    unknown = sorted(set(options.columns) - set(FIELDS))
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is no field of a sale.", next_step=f"Fields are {', '.join(FIELDS)}.")
    if options.delimiter and (len(options.delimiter) != 1 or options.delimiter in '"\r\n'):
        raise ConfigError(f"{options.delimiter!r} is no separator.", next_step="Give one character, for instance ';'.")
    if options.decimal_comma and options.delimiter == ",":
        raise ConfigError("A comma cannot be both separator and decimal point.", next_step="Give one of the two.")
    if options.chunk_rows < 1:
        raise ConfigError("A chunk has at least one row.", next_step="Leave chunk_rows at 5000.")
    currency = options.every_tenant.get("currency", "")
    if currency and not CURRENCY.fullmatch(currency):
        raise ConfigError(f"{currency!r} is no currency.", next_step="Give its ISO 4217 code, for instance EUR.")
    country = options.every_tenant.get("country", "")
    if country:
        from app.services.ml.calendar import validate_country  # numpy: only where it is needed

        validate_country(country)
    if options.time_format:
        _check_time_format(options.time_format)


def _check_time_format(time_format: str) -> None:
    try:
        datetime.strptime(datetime(2026, 1, 2, 3, 4, 5).strftime(time_format), time_format)  # noqa: DTZ001, DTZ007
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{time_format!r} is no time format.", next_step="Give one such as '%d/%m/%Y %H:%M'."
        ) from error


def _hints(tally: FileTally) -> list[str]:
    """When most rows fail alike, it is the option that is wrong and not the rows."""
    known = {
        "unreadable_date": "Most dates cannot be read: give their format, for instance --time-format '%d/%m/%Y %H:%M'.",
        "not_a_number": "Most amounts are no numbers: with 1.234,50 for 1234.50 give --decimal-comma.",
    }
    return [hint for reason, hint in known.items() if tally.reasons[reason] * 2 > tally.rows]


def _log(report: ImportReport) -> None:
    log.info(
        "import.done",
        file=report["file"],
        dry_run=report["dry_run"],
        complete=report["complete"],
        rows=report["rows"],
        accepted=report["accepted"],
        inserted=report["inserted"],
        quarantined=report["quarantined"],
        tenants=len(report["tenants"]),
    )
