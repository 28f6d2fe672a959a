"""Counting while the file streams by: what the report will say, in bounded memory."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from decimal import Decimal

from app.services.sales_import.options import (
    ImportOptions,
    ImportReport,
    QuarantinedReason,
    TenantImport,
    UnassignedRow,
)
from app.tenancy import TenantId

MAX_UNASSIGNED = 100


@dataclass
class TenantTally:
    """One tenant of the file: its zone, and what was counted so far."""

    tenant_id: TenantId
    name: str
    zone: tzinfo
    zone_name: str
    new: bool  # the database does not know it
    announced: bool = False  # its facts were given, so it exists even without a good row
    rows: int = 0
    inserted: int = 0
    known: int = 0
    duplicates: int = 0
    quarantined: int = 0
    total: Decimal = Decimal(0)
    first_sale: datetime | None = None
    last_sale: datetime | None = None

    @property
    def exists(self) -> bool:
        """Whether something other than broken rows speaks for this tenant."""
        return not self.new or self.announced or self.rows > 0

    def accept(self, sold_at: datetime, amount: Decimal, *, duplicate: bool) -> None:
        """Count one sale. Sums are exact: see the context of `import_file`."""
        self.rows += 1
        self.duplicates += duplicate
        self.total += amount
        if self.first_sale is None or sold_at < self.first_sale:
            self.first_sale = sold_at
        if self.last_sale is None or sold_at > self.last_sale:
            self.last_sale = sold_at

    def as_report(self) -> TenantImport:
        return {
            "tenant_id": str(self.tenant_id),
            "name": self.name,
            "time_zone": self.zone_name,
            "new": self.new,
            "rows": self.rows,
            "inserted": self.inserted,
            "known": self.known,
            "duplicates": self.duplicates,
            "quarantined": self.quarantined,
            "total": f"{self.total:f}",
            "first_sale": self.first_sale.isoformat() if self.first_sale else None,
            "last_sale": self.last_sale.isoformat() if self.last_sale else None,
        }


@dataclass
class FileTally:
    """The file as a whole."""

    rows: int = 0
    quarantined: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first_lines: dict[str, int] = field(default_factory=dict)
    unassigned: list[UnassignedRow] = field(default_factory=list)
    unassigned_rows: int = 0
    clock_changes: Counter[str] = field(default_factory=Counter)
    unreadable_quantities: int = 0
    notes: list[str] = field(default_factory=list)

    def quarantine(self, line: int, reason: str) -> None:
        self.quarantined += 1
        self.reasons[reason] += 1
        self.first_lines.setdefault(reason, line)

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)

    def leave_unassigned(self, line: int, reason: str) -> None:
        self.unassigned_rows += 1
        if len(self.unassigned) < MAX_UNASSIGNED:
            self.unassigned.append({"line": line, "reason": reason})

    def as_report(self, file: str, options: ImportOptions, problem: str, tenants: list[TenantTally]) -> ImportReport:
        shown = [tenant for tenant in tenants if tenant.exists]
        reasons: list[QuarantinedReason] = [
            {"reason": reason, "rows": rows, "first_line": self.first_lines[reason]}
            for reason, rows in self.reasons.most_common()
        ]
        return {
            "file": file,
            "dry_run": options.dry_run,
            "complete": not problem,
            "problem": problem,
            "rows": self.rows,
            "accepted": sum(tenant.rows for tenant in shown),
            "inserted": sum(tenant.inserted for tenant in shown),
            "known": sum(tenant.known for tenant in shown),
            "duplicates": sum(tenant.duplicates for tenant in shown),
            "quarantined": self.quarantined,
            "reasons": reasons,
            "unassigned": sorted(self.unassigned, key=lambda row: row["line"]),
            "unassigned_rows": self.unassigned_rows,
            "nonexistent_times": self.clock_changes["nonexistent"],
            "ambiguous_times": self.clock_changes["ambiguous"],
            "unreadable_quantities": self.unreadable_quantities,
            "notes": self.notes,
            "tenants": [tenant.as_report() for tenant in shown],
        }
