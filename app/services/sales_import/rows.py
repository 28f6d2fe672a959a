"""From lines to rows of fields: the separator, the header, and quotes that somebody forgot to close."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from app.errors import InvalidFile
from app.services.sales_import.lines import Line, LineReader
from app.services.sales_import.options import ImportOptions

FIELDS = ("tenant_id", "fecha", "total", "producto_id", "venta_id", "cantidad")
REQUIRED = ("tenant_id", "fecha", "total")
DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Header:
    """Where the fields stand. ``position`` holds the fields that the file has."""

    delimiter: str
    width: int
    position: Mapping[str, int]


@dataclass(frozen=True)
class RawRow:
    """One data row as the file has it; ``problem`` is the reason why it cannot be used, or empty."""

    line: int
    fields: list[str]
    text: str  # of a row with a problem; empty otherwise
    problem: str = ""


def read_rows(lines: LineReader, options: ImportOptions) -> tuple[Header, Iterator[RawRow]]:
    """The header, and an iterator over the data rows (blank lines left out).

    Raises
    ------
    InvalidFile : empty file, or a header that lacks a field
    """
    source = iter(lines)
    first = next((line for line in source if line.text.strip()), None)
    if first is None:
        raise InvalidFile(
            f"{lines.path.name} holds no line{': ' + lines.problem if lines.problem else ''}.",
            next_step="Give a CSV file with a header and one sale per line.",
        )
    header = _find_header(first.text, options, lines.path.name)
    return header, _rows(source, header)


def _find_header(text: str, options: ImportOptions, file: str) -> Header:
    delimiters = (options.delimiter,) if options.delimiter else DELIMITERS
    headers = [_parse_header(text, delimiter, options) for delimiter in delimiters]
    complete = [header for header in headers if not _missing(header, options)]
    if complete:
        return complete[0]
    likeliest = max(headers, key=lambda header: header.width)
    missing = _missing(likeliest, options)
    names = ", ".join(options.columns.get(name, name) for name in missing)
    found = ", ".join(cell.strip() for cell in next(csv.reader([text.strip()], delimiter=likeliest.delimiter)))
    raise InvalidFile(
        f"{file} lacks the column{'s' * (len(missing) > 1)} {names}; its first line has: {found[:300]}.",
        next_step=f"Say which column it is: --column {missing[0]}=NAME"
        + (", or name the tenant of the whole file: --tenant NAME." if "tenant_id" in missing else "."),
    )


def _parse_header(text: str, delimiter: str, options: ImportOptions) -> Header:
    cells = [cell.strip().casefold() for cell in next(csv.reader([text.strip()], delimiter=delimiter))]
    wanted = {name: options.columns.get(name, name).strip().casefold() for name in FIELDS}
    position = {name: cells.index(column) for name, column in wanted.items() if column in cells}
    twice = sorted(column for column in wanted.values() if cells.count(column) > 1)
    if twice:
        raise InvalidFile(f"The column {twice[0]} occurs twice.", next_step="Rename one of the two and import again.")
    return Header(delimiter, len(cells), position)


def _missing(header: Header, options: ImportOptions) -> list[str]:
    """Fields that the file must have; one that was mapped by name must be there too, even an optional one."""
    required = {*REQUIRED, *options.columns} - ({"tenant_id"} if options.tenant else set())
    return [name for name in FIELDS if name in required and name not in header.position]


def _rows(lines: Iterable[Line], header: Header) -> Iterator[RawRow]:
    taken: list[Line] = []  # the lines of the row that is being read: more than one inside quotes

    def tap() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line.text

    reader = csv.reader(tap(), delimiter=header.delimiter)
    while True:
        taken.clear()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            fields = []
        if not fields and not any(line.text.strip() for line in taken):
            continue
        if _is_whole(fields, taken, header):
            yield RawRow(taken[0].number, fields, "")
        else:
            yield from (_single_line(line, header) for line in taken if line.text.strip())


def _is_whole(fields: list[str], taken: list[Line], header: Header) -> bool:
    """Whether the lines are one row: a name may hold a line end inside quotes, but no number or date does."""
    if len(fields) != header.width or any(line.problem for line in taken):
        return False
    return len(taken) == 1 or not any(
        "\n" in fields[header.position[name]] for name in header.position.keys() & REQUIRED
    )


def _single_line(line: Line, header: Header) -> RawRow:
    """The row of one line on its own: a quote that is never closed costs its own line, not all that follow."""
    text = line.text.rstrip("\r\n")
    try:
        fields = next(csv.reader([text], delimiter=header.delimiter), [])
    except csv.Error:
        fields = []
    problem = line.problem
    if not problem and len(fields) != header.width:
        problem = "unclosed_quote" if text.count('"') % 2 else "wrong_columns"
    return RawRow(line.number, fields, text if problem else "", problem)
