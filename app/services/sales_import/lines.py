"""From a file, plain or gzipped, to numbered lines of text; a broken file gives the lines before the break."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from app.errors import InvalidFile
from app.services.sales_import.options import Progress

MAX_LINE_BYTES = 1 << 20  # a file without line ends must not fill the memory
PROGRESS_LINES = 2_000
FOREIGN_FORMATS = {b"PK\x03\x04": "a zip or Excel file", b"\xd0\xcf\x11\xe0": "an old Excel file", b"%PDF": "a PDF"}


@dataclass(frozen=True)
class Line:
    """One line of the file; ``problem`` is the reason why its text cannot be trusted, or empty."""

    number: int  # 1 is the first line of the file
    text: str
    problem: str = ""


class LineReader:
    """Iterates over the lines of a file; afterwards ``problem`` says whether, and why, it broke off early."""

    def __init__(self, path: Path, encoding: str, progress: Progress | None = None) -> None:
        self.path = path
        self.problem = ""
        self._encoding = _line_encoding(encoding)
        self._progress = progress

    def __iter__(self) -> Iterator[Line]:
        """Lines in order.

        Raises
        ------
        InvalidFile : the file cannot be opened, or is of another format
        """
        with _open(self.path) as raw:
            size = self.path.stat().st_size
            stream = _unzip(raw, self.path)
            number = 0
            while data := self._next_line(stream, number):
                number += 1
                yield self._decode(number, data)
                if self._progress and number % PROGRESS_LINES == 0:
                    self._progress(raw.tell(), size)
            if self._progress:
                self._progress(size, size)

    def _next_line(self, stream: BinaryIO, number: int) -> bytes:
        try:
            return stream.readline(MAX_LINE_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile, OSError) as error:
            self.problem = f"{self.path.name} breaks off after line {number}: {error}"
            return b""

    def _decode(self, number: int, data: bytes) -> Line:
        if number == 1:
            data = data.removeprefix(codecs.BOM_UTF8)
        too_long = len(data) == MAX_LINE_BYTES and not data.endswith(b"\n")
        try:
            return Line(number, data.decode(self._encoding), "line_too_long" if too_long else "")
        except UnicodeDecodeError:
            return Line(number, data.decode(self._encoding, "backslashreplace"), "invalid_encoding")


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InvalidFile(
            f"{path} cannot be read: {error.strerror}.", next_step="Give the path of a CSV file."
        ) from error


def _unzip(raw: BinaryIO, path: Path) -> BinaryIO:
    """By content, not by name: exports are often named wrongly."""
    start = raw.read(4)
    raw.seek(0)
    if start[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
        raise InvalidFile(f"{path.name} is UTF-16.", next_step="Save it as CSV in UTF-8 and import that.")
    if kind := FOREIGN_FORMATS.get(start):
        raise InvalidFile(f"{path.name} is {kind}, not CSV.", next_step="Export it as CSV and import that.")
    return cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if start[:2] == b"\x1f\x8b" else raw


def _line_encoding(encoding: str) -> str:
    """A codec in which a line end is one byte, so that lines can be split before they are decoded."""
    try:
        name = codecs.lookup(encoding).name
        splittable = "\n".encode(name) == b"\n"
    except LookupError:
        splittable = False
    if not splittable:
        raise InvalidFile(
            f"The encoding {encoding!r} cannot be read line by line.",
            next_step="Give utf-8, latin-1 or cp1252, or save the file as UTF-8.",
        )
    return name
