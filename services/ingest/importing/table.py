"""A table of any encoding, delimiter and quoting that Excel and others write, row by row in
constant memory.
"""

import codecs
import csv
import re
from collections import deque
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, NamedTuple

from services.ingest.importing.detection import SAMPLE, delimiter_of, encoding_of
from services.ingest.importing.header import Header
from services.shared.errors import Reject

MAX_LINE = 1 << 20  # characters
MAX_CELL = 32 * 1024  # characters; what a record may hold is less
MAX_COLUMNS = 2_000
MAX_LINES = 200  # physical lines of one row
SEPARATOR = re.compile(r"\ufeff?sep=(.)\r?\n?", re.IGNORECASE)
UNREADABLE = "\N{REPLACEMENT CHARACTER}"


class Row(NamedTuple):
    """A row: where it begins in the file, its cells, and why it cannot be taken, if so."""

    line: int
    cells: list[str]
    reject: Reject | None = None


class Table:
    """A file as rows; opens it. Raises Reject where it holds no table, or has no such encoding or
    delimiter.
    """

    def __init__(self, path: Path, encoding: str = "", delimiter: str = "") -> None:
        self.bytes = path.stat().st_size
        self.encoding = _known(encoding) if encoding else encoding_of(path)
        self._raw: BinaryIO = path.open("rb")
        self._text = TextIOWrapper(self._raw, self.encoding, errors="replace", newline="")
        self._pushed: deque[str] = deque()
        self._taken: list[str] = []
        self._line = 0
        try:
            self._begin(delimiter)
        except BaseException:
            self.close()
            raise

    def _begin(self, delimiter: str) -> None:
        sample = self._text.read(SAMPLE)
        self._text.seek(0)
        declared = SEPARATOR.match(sample)
        self.delimiter = delimiter or (declared[1] if declared else delimiter_of(sample))
        if declared:
            self._text.readline()
            self._line = 1
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n\0':
            raise Reject(
                "no such delimiter", where="delimiter", remedy="name one character, e.g. `;`"
            )
        self.header = self._header()

    @property
    def done(self) -> int:
        """Bytes read so far."""
        return min(self._raw.tell(), self.bytes)

    def close(self) -> None:
        """Closes the file."""
        self._text.close()

    def rows(self) -> Iterator[Row]:
        """The rows after the header; those of which every cell is empty do not count."""
        width = len(self.header.names)
        for row in self._records():
            if len(row.cells) == width or row.reject:
                if row.reject or any(row.cells):
                    yield row
            elif any(map(str.strip, row.cells)):
                yield _fitted(row, width)

    def _header(self) -> Header:
        for row in self._records():
            if row.reject:
                raise Reject(
                    f"the header cannot be read: {row.reject.title}",
                    where=f"line {row.line}",
                    remedy=row.reject.remedy,
                )
            if any(map(str.strip, row.cells)):
                if len(row.cells) > MAX_COLUMNS:
                    raise Reject(
                        f"more than {MAX_COLUMNS} columns",
                        where=f"line {row.line}",
                        remedy="leave out what nobody reads",
                    )
                return Header(row.cells)
        raise Reject(
            "the file is empty",
            where="file",
            remedy="export it again, with the names of the columns in its first line",
        )

    def _records(self) -> Iterator[Row]:
        """Every record; after a broken one it goes on with the line that follows its first."""
        csv.field_size_limit(MAX_CELL)
        reader = self._reader()
        while True:
            self._taken.clear()
            began = self._line + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(began, self._give_back(), _broken(error))
                reader = self._reader()
                continue
            for line in self._taken:
                if UNREADABLE in line or "\0" in line or len(line) > MAX_LINE:
                    yield Row(began, cells, _unreadable(line, self.encoding))
                    break
            else:
                if cells:
                    yield Row(began, cells)

    def _reader(self) -> Iterator[list[str]]:
        return csv.reader(self._lines(), delimiter=self.delimiter, strict=True)

    def _lines(self) -> Iterator[str]:
        """Physical lines; a record that swallows too many of them is cut off by an
        over-long cell.
        """
        while line := self._pushed.popleft() if self._pushed else self._text.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                self._skip_rest()
            self._line += 1
            self._taken.append(line)
            yield line if len(self._taken) <= MAX_LINES else "x" * (MAX_CELL + 1)

    def _skip_rest(self) -> None:
        while (rest := self._text.readline(MAX_LINE)) and not rest.endswith(("\n", "\r")):
            pass

    def _give_back(self) -> list[str]:
        """Keeps the first line of a broken record as its only cell, and reads the others again."""
        first, *others = self._taken or [""]
        self._pushed.extendleft(reversed(others))
        self._line -= len(others)
        return [first.rstrip("\r\n")[:MAX_CELL]]


def _known(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise Reject(
            "no such encoding", where="encoding", remedy="name one like utf-8, utf-16 or cp1252"
        ) from None


def _fitted(row: Row, width: int) -> Row:
    """A row with another number of cells than the header: empty ones too many do no harm."""
    if len(row.cells) > width and not any(map(str.strip, row.cells[width:])):
        return Row(row.line, row.cells[:width])
    what = "more cells than columns" if len(row.cells) > width else "fewer cells than columns"
    return Row(
        row.line,
        row.cells,
        Reject(
            what, where=f"line {row.line}", remedy="look for a missing or an unquoted delimiter"
        ),
    )


def _broken(error: csv.Error) -> Reject:
    if "field limit" in str(error):
        return Reject(
            "a cell is too long",
            remedy=f"shorten it to {MAX_CELL:,} characters, or look for a quote that is not closed",
        )
    return Reject(
        "the quotes do not match",
        remedy='close every quote, and write a quote within quotes twice: ""',
    )


def _unreadable(line: str, encoding: str) -> Reject:
    if "\0" in line:
        return Reject("a NUL character", remedy="take it out; no database keeps it")
    if len(line) > MAX_LINE:
        return Reject("a line is too long", remedy=f"shorten it to {MAX_LINE:,} characters")
    return Reject(
        "characters that cannot be read",
        remedy=f"save the file as UTF-8; it was read as {encoding}",
    )
