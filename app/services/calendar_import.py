"""Closures, promotions and events known ahead, from a CSV into `tenant_calendar`: all of a file, or nothing of it."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, TypedDict

from app.db.gateway import Gateway
from app.db.store import TenantStore
from app.errors import InvalidFile, TenantcastError
from app.services.tenants import TenantDirectory
from app.tenancy import TenantId

COLUMNS = ("tenant_id", "day", "kind", "name")
KINDS = ("closure", "promotion", "event")
MAX_NAME = 200  # characters
FIRST_YEAR, LAST_YEAR = 1900, 2200
SHOWN_PROBLEMS = 5

DaysOfTenants = dict[TenantId, list[dict[str, Any]]]


class CalendarImport(TypedDict):
    """What was written, JSON-safe."""

    file: str
    tenants: int
    days: int
    kinds: dict[str, int]
    replaced: bool


def import_calendar(path: Path, gateway: Gateway, *, replace: bool = False) -> CalendarImport:
    """Write the days of ``path`` (columns tenant_id, day, kind, name); ``replace`` drops a tenant's earlier ones first.

    Raises
    ------
    InvalidFile : it cannot be read, or lines are wrong: they are named, and nothing is written
    """
    days = read_calendar(path, TenantDirectory.read(gateway))
    for tenant_id, rows in days.items():
        TenantStore(gateway, tenant_id).write_calendar(rows, replace=replace)
    kinds = Counter(row["kind"] for rows in days.values() for row in rows)
    return CalendarImport(
        file=path.name, tenants=len(days), days=sum(kinds.values()), kinds=dict(sorted(kinds.items())), replaced=replace
    )


def read_calendar(path: Path, directory: TenantDirectory) -> DaysOfTenants:
    """The days of each tenant; a day that is given twice for one kind counts once, the last name wins."""
    found: dict[TenantId, dict[tuple[str, str], dict[str, Any]]] = defaultdict(dict)
    problems: list[str] = []
    for line, row in _rows(path):
        try:
            tenant_id = directory.find(row["tenant_id"] or "").tenant_id
            day = _known_day(row)
        except (TenantcastError, ValueError) as error:
            problems.append(f"line {line}: {getattr(error, 'message', error)}".rstrip("."))
            continue
        found[tenant_id][day["day"], day["kind"]] = day
    if problems:
        count = "1 wrong line" if len(problems) == 1 else f"{len(problems)} wrong lines"
        more = f"; and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        raise InvalidFile(
            f"{path.name} has {count}: {'; '.join(problems[:SHOWN_PROBLEMS])}{more}.",
            next_step="Nothing was written. Mend these lines and import the file again.",
        )
    return {tenant_id: list(days.values()) for tenant_id, days in found.items()}


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Line number and fields; the header may be in any order and hold more columns."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS[:3] if name not in (reader.fieldnames or [])]
            if missing:
                raise InvalidFile(
                    f"{path.name} lacks the column {', '.join(missing)}.",
                    next_step=f"Its first line must name the columns {', '.join(COLUMNS)}.",
                )
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidFile(f"{path.name} cannot be read: {error}.", next_step="Give a CSV file in UTF-8.") from error


def _known_day(row: dict[str, str | None]) -> dict[str, Any]:
    kind = (row["kind"] or "").strip().lower()
    if kind not in KINDS:
        raise ValueError(f"kind {kind[:20]!r} is none of {', '.join(KINDS)}")
    try:
        day = date.fromisoformat((row["day"] or "").strip())
    except ValueError:
        raise ValueError(f"day {(row['day'] or '')[:20]!r} is no date like 2026-12-24") from None
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"day {day} is not between {FIRST_YEAR} and {LAST_YEAR}")
    name = (row.get("name") or "").strip()
    if len(name) > MAX_NAME or not (name.isprintable()):
        raise ValueError(f"the name is longer than {MAX_NAME} characters or holds control characters")
    return {"day": day.isoformat(), "kind": kind, "name": name}
