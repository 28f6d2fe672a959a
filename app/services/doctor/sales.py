"""Are all sales seen? Counted with the owner's rights, as the worker sees them, and in a file they came from."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TypedDict

from app.db.gateway import Gateway
from app.db.store import Row, TenantStore
from app.errors import TenantcastError
from app.services.doctor.check import Check, some
from app.services.sales_import import ImportOptions, TenantImport, import_file
from app.services.tenants import Tenant


class SalesOfTenant(TypedDict):
    """Rows and the exact sum of one tenant's sales; ``owner_`` bypasses row security, ``worker_`` does not."""

    tenant_id: str
    name: str
    owner_rows: int
    owner_total: str | None
    worker_rows: int
    worker_total: str


def read_sales(gateway: Gateway, tenants: list[Tenant], source_rows: list[Row]) -> list[SalesOfTenant]:
    """Both counts for every tenant; a tenant that only the owner's count knows has no row of its own here."""
    as_owner = {row["tenant_id"]: row for row in source_rows}
    found = []
    for tenant in tenants:
        owner = as_owner.get(str(tenant.tenant_id), {})
        worker = TenantStore(gateway, tenant.tenant_id).check_sales()
        found.append(
            SalesOfTenant(
                tenant_id=str(tenant.tenant_id),
                name=tenant.name,
                owner_rows=int(owner.get("rows", 0)),
                owner_total=owner.get("total"),
                worker_rows=int(worker["rows"]),
                worker_total=str(worker["total"]),
            )
        )
    return found


def check_row_security(sales: list[SalesOfTenant]) -> Check:
    """The worker must see exactly what the owner sees: fewer rows would be a forecast of part of the sales."""
    name = "sales as owner and as worker"
    if not sales:
        return Check(name, "warn", "There are no tenants.", "`tenantcast import FILE.csv`, or adapt the source views.")
    differ = [row for row in sales if not _agree(row)]
    if differ:
        shown = [
            f"{row['name'] or row['tenant_id']}: {row['owner_rows']} rows as owner, {row['worker_rows']} as worker"
            for row in differ
        ]
        return Check(
            name,
            "fail",
            f"{len(differ)} of {len(sales)} tenants differ: {some(shown)}.",
            "Row security of the product hides sales from the source views: see docs/how-to/point-at-your-supabase.md.",
        )
    rows = sum(row["worker_rows"] for row in sales)
    return Check(name, "ok", f"{len(sales)} tenants, {rows:,} rows: equal, to the cent")


def check_file(gateway: Gateway, path: Path, columns: Mapping[str, str], sales: list[SalesOfTenant]) -> Check:
    """Every tenant of the file has the file's usable rows and their sum in the database, to the cent.

    The file is read as `tenantcast import --dry-run` reads it, so both agree on which rows can be used.
    """
    name = f"sales of {path.name}"
    try:
        report = import_file(path, gateway, ImportOptions(columns=columns, dry_run=True))
    except TenantcastError as error:
        return Check(name, "fail", error.message, error.next_step)
    in_database = {row["tenant_id"]: row for row in sales}
    in_file = [one for one in report["tenants"] if one["rows"]]
    if not in_file or not report["complete"]:
        problem = report["problem"] or "no usable row"
        return Check(name, "fail", f"The file cannot be compared: {problem}.", "Try `tenantcast import --dry-run`.")
    differ = [text for one in in_file if (text := _difference(one, in_database.get(one["tenant_id"])))]
    if differ:
        detail = f"{len(differ)} of {len(in_file)} tenants differ: {some(differ)}."
        return Check(name, "fail", detail, "Import the file again; sales that came from elsewhere count here, too.")
    rows = sum(one["rows"] for one in in_file)
    total = sum((Decimal(one["total"]) for one in in_file), Decimal(0))
    aside = f"; {report['quarantined']:,} kept aside" if report["quarantined"] else ""
    return Check(name, "ok", f"{len(in_file)} tenants, {rows:,} rows, {total:,} in all: equal, to the cent{aside}")


def _agree(row: SalesOfTenant) -> bool:
    if row["owner_rows"] != row["worker_rows"]:
        return False
    return row["owner_total"] is None or Decimal(row["owner_total"]) == Decimal(row["worker_total"])


def _difference(in_file: TenantImport, row: SalesOfTenant | None) -> str:
    if row is None:
        return f"{in_file['name'] or in_file['tenant_id']} is not in the database"
    if row["worker_rows"] == in_file["rows"] and Decimal(row["worker_total"]) == Decimal(in_file["total"]):
        return ""
    return (
        f"{row['name'] or row['tenant_id']}: {in_file['rows']} rows and {in_file['total']} in the file, "
        f"{row['worker_rows']} and {row['worker_total']} in the database"
    )
