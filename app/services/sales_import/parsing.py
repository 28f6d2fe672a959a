"""From the text of one row to a sale: exact decimals, instants in UTC, or the reason why it is none."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Literal

MAX_AMOUNT = Decimal(10) ** 15  # the database leaves out what is larger, too
MAX_DECIMALS = 20
MAX_TEXT = 200
FIRST_YEAR, LAST_YEAR = 1900, 2200
# Decimal() alone would also take "NaN", "1_000" and digits of other scripts.
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
NOT_FINITE = {"nan", "inf", "infinity"}

ClockChange = Literal["", "nonexistent", "ambiguous"]


class BadRow(ValueError):
    """The row is no sale; the argument is the reason's code."""


@dataclass(frozen=True)
class Amount:
    """An exact amount and its one spelling: no exponent, no trailing zeros ("38.7", "-2", "0")."""

    value: Decimal
    text: str


@lru_cache(maxsize=1 << 16)
def parse_amount(text: str, decimal_comma: bool = False) -> Amount:
    """The amount of a cell; totals repeat, so the last 65,536 spellings are remembered.

    ``decimal_comma`` reads "1.234,50" as 1234.50: dots are thousands, the comma is the decimal point.

    Raises
    ------
    BadRow : empty, not a number, not finite, beyond 10^15 or finer than 20 decimals
    """
    cell = text.strip()
    if not cell:
        raise BadRow("no_amount")
    if decimal_comma:
        cell = cell.replace(".", "").replace(",", ".")
    if len(cell) > MAX_TEXT or not NUMBER.fullmatch(cell):
        raise BadRow("not_finite" if cell.lstrip("+-").lower() in NOT_FINITE else "not_a_number")
    value = Decimal(cell)
    if abs(value) > MAX_AMOUNT:
        raise BadRow("absurd_amount")
    plain = f"{value:f}" if value else "0"
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    if len(plain.partition(".")[2]) > MAX_DECIMALS:
        raise BadRow("absurd_amount")
    return Amount(Decimal(plain), plain)


def parse_instant(text: str, zone: tzinfo, time_format: str = "") -> tuple[datetime, ClockChange]:
    """The instant in UTC of an ISO 8601 cell (or one in ``time_format``), and whether the clock change touched it.

    A time with an offset is kept. One without is local in ``zone``: a time that the clock skipped moves forward by
    the gap, one that occurs twice is the first occurrence (the earlier offset; PEP 495, ``fold=0``). A date without
    a time is noon, which lies inside the business day of that date whatever the closing hour up to noon.

    Raises
    ------
    BadRow : empty, unreadable, or outside the years 1900 to 2200
    """
    cell = text.strip()
    if not cell:
        raise BadRow("no_date")
    moment = _read_time(cell, time_format)
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise BadRow("absurd_date")
    if moment.tzinfo is not None:
        return moment.astimezone(UTC), ""
    local = moment.replace(tzinfo=zone)
    first, second = local.utcoffset(), local.replace(fold=1).utcoffset()
    instant = local.astimezone(UTC)
    if first == second or first is None or second is None:
        return instant, ""
    return instant, "nonexistent" if first < second else "ambiguous"


def _read_time(cell: str, time_format: str) -> datetime:
    if len(cell) > MAX_TEXT:
        raise BadRow("unreadable_date")
    try:
        moment = datetime.strptime(cell, time_format) if time_format else datetime.fromisoformat(cell)  # noqa: DTZ007
    except ValueError as error:
        absurd = re.match(r"[+-]?\d{5,}-|0000-", cell) is not None
        raise BadRow("absurd_date" if absurd else "unreadable_date") from error
    has_time = "%H" in time_format or "%I" in time_format if time_format else ":" in cell or "T" in cell
    return moment if has_time else datetime.combine(moment, time(12))


def parse_label(text: str) -> str | None:
    """A product's or sale's own id: trimmed; None when empty.

    Raises
    ------
    BadRow : longer than 200 characters, or with a NUL
    """
    label = text.strip()
    if "\0" in label:
        raise BadRow("nul_character")
    if len(label) > MAX_TEXT:
        raise BadRow("text_too_long")
    return label or None
