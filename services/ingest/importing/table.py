"""A table of any encoding, delimiter and quoting that Excel and others write, or a sheet of a
spreadsheet, row by row in constant memory.
"""

import codecs
import csv
import re
from collections import Counter, deque
from collections.abc import Iterator
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from services.ingest.importing.detection import (
    LINES,
    SAMPLE,
    delimiter_of,
    preamble,
    records,
)
from services.ingest.importing.encodings import encodings_of
from services.ingest.importing.header import Header
from services.ingest.importing.sheets import is_spreadsheet, open_rows, read_rows
from services.shared.contracts.identity import AROUND
from services.shared.errors import Reject

MAX_LINE = 1 << 20  # characters
MAX_CELL = 32 * 1024  # characters; what is over is cut off
MAX_QUOTED = 64 * 1024  # characters of a row of several lines
MAX_COLUMNS = 2_000
MAX_LINES = 200  # physical lines of one row
MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"  # a byte order mark, which some programs write twice
SEPARATOR = re.compile(r"\ufeff*+sep=(.)\r?\n?", re.IGNORECASE)
OVERLONG = "x" * (MAX_LINE + 1)
UNREADABLE = "\N{REPLACEMENT CHARACTER}"
SPREADSHEET = "spreadsheet"
DOUBLED = "the column {!r} stands several times; the first one that is filled was taken"


class Row(NamedTuple):
    """A row: where it begins in the file, its cells, and why it cannot be taken, if so."""

    line: int
    cells: list[str]
    reject: Reject | None = None

    def is_filled(self) -> bool:
        """Whether any cell holds more than space and invisible marks."""
        return any(cell.strip(AROUND) for cell in self.cells)


class Table:
    """A file as rows; opens it. Raises Reject where it holds no table, or has no such encoding,
    delimiter or sheet.

    `encodings` are all that are plausible, the one in use first. `skippable` lines stand before
    what looks like the header, where `skip_lines` says nothing. `notes` count the rows in which
    something was taken otherwise than it is written. `folder` is for files of the table's own.
    """

    def __init__(
        self,
        path: Path,
        encoding: str = "",
        delimiter: str = "",
        *,
        skip_lines: int = 0,
        sheet: str = "",
        folder: Path | None = None,
    ) -> None:
        self.bytes = path.stat().st_size
        self._sheet = is_spreadsheet(path)
        if self._sheet:
            self.encodings, self.delimiter = [SPREADSHEET], ""
            self._raw = open_rows(path, sheet, folder)
        else:
            self.encodings, self.delimiter = (
                [_known(encoding)] if encoding else encodings_of(path),
                delimiter,
            )
            self._raw = path.open("rb")
        self._text = TextIOWrapper(
            self._raw, "utf-8" if self._sheet else self.encoding, errors="replace", newline=""
        )
        self.skip_lines, self._given_delimiter = skip_lines, delimiter
        try:
            self.rewind()
        except BaseException:
            self.close()
            raise

    def rewind(self) -> None:
        """Goes back to the first row."""
        self._text.seek(0)
        self._line = 0
        self._pushed: deque[str] = deque()
        self._taken: list[str] = []
        self._given: Iterator[Row] | None = None
        self.notes: Counter[str] = Counter()
        self.skippable = 0
        if self._sheet:
            self._begin_sheet()
        else:
            self._begin_text()
        self.header = self._header()
        self._doubled = self.header.doubled()

    @property
    def encoding(self) -> str:
        """The encoding in use; `spreadsheet` where the file is one."""
        return self.encodings[0]

    def _begin_text(self) -> None:
        text = self._text
        sample = text.read(SAMPLE)
        text.seek(0)
        text.read(marks := len(sample) - len(sample.lstrip(MARK)))
        sample = sample[marks:]
        declared = SEPARATOR.match(sample)
        for _ in range(self.skip_lines + bool(declared)):
            self._line += 1
            sample = sample[len(text.readline(MAX_LINE)) :]
        self.delimiter = self._given_delimiter or (
            declared[1] if declared else delimiter_of(sample)
        )
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n\0':
            raise Reject(
                "no such delimiter", where="delimiter", remedy="name one character, e.g. `;`"
            )
        if not self.skip_lines:
            self.skippable = preamble(records(sample, self.delimiter))

    def _begin_sheet(self) -> None:
        rows = (Row(line, cells) for line, cells in enumerate(read_rows(self._text), 1))
        first = list(islice(rows, LINES))
        if not self.skip_lines:
            filled = ((row.line, len(row.cells)) for row in first if row.is_filled())
            self.skippable = preamble(filled)
        self._given = islice(chain(first, rows), self.skip_lines, None)

    @property
    def done(self) -> int:
        """Bytes of the file that are read, as far as it is known."""
        return min(self._raw.tell(), self.bytes)

    def close(self) -> None:
        """Closes the file."""
        self._text.close()

    def rows(self) -> Iterator[Row]:
        """The rows after the header; those of which every cell is empty do not count. Cells that
        are missing at the end are empty.
        """
        width = len(self.header.names)
        for row in self._records():
            if row.reject or row.is_filled():
                found = row if len(row.cells) == width or row.reject else _fitted(row, width)
                yield self._merged(found) if self._doubled and not found.reject else found

    def _merged(self, row: Row) -> Row:
        """The row with one cell for all columns of one name: the first that is filled."""
        cells = row.cells
        for first, others in self._doubled.items():
            if filled := [n for n in others if cells[n].strip()]:
                self.notes[DOUBLED.format(self.header.names[first])] += 1
                if not cells[first].strip():
                    cells[first], cells[filled[0]] = cells[filled[0]], ""
        return row

    def _header(self) -> Header:
        hint = (
            f"the names of the columns seem to stand in line {self.skippable + 1}: write "
            f"`skip_lines: {self.skippable}` in the mapping"
            if self.skippable
            else ""
        )
        for row in self._records():
            if row.reject:
                raise Reject(
                    f"the header cannot be read: {row.reject.title}",
                    where=f"line {row.line}",
                    remedy=row.reject.remedy,
                )
            if row.is_filled():
                if len(row.cells) > MAX_COLUMNS:
                    raise Reject(
                        f"more than {MAX_COLUMNS} columns",
                        where=f"line {row.line}",
                        remedy="leave out what nobody reads",
                    )
                return Header(row.cells, hint)
        raise Reject(
            "the file is empty",
            where="file",
            remedy="export it again, with the names of the columns in its first line",
        )

    def _records(self) -> Iterator[Row]:
        """Every record, its cells within the limit."""
        for row in self._given or self._text_records():
            if row.cells and max(map(len, row.cells)) > MAX_CELL:
                yield row._replace(cells=[cell[:MAX_CELL] for cell in row.cells])
            else:
                yield row

    def _text_records(self) -> Iterator[Row]:
        """Every record; after a broken one it goes on with the line that follows its first."""
        csv.field_size_limit(MAX_LINE)
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
        size = 0
        while line := self._pushed.popleft() if self._pushed else self._text.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                self._skip_rest()
            self._line += 1
            size = size + len(line) if self._taken else 0
            self._taken.append(line)
            fits = len(self._taken) <= MAX_LINES and size <= MAX_QUOTED
            yield line if fits else OVERLONG

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
    """A row with another number of cells than the header: missing ones are empty, and empty ones
    too many do no harm.
    """
    cells = row.cells
    if len(cells) < width:
        return Row(row.line, cells + [""] * (width - len(cells)))
    if not any(map(str.strip, cells[width:])):
        return Row(row.line, cells[:width])
    remedy = "look for a missing or an unquoted delimiter"
    where = f"line {row.line}"
    return Row(row.line, cells, Reject("more cells than columns", where=where, remedy=remedy))


def _broken(error: csv.Error) -> Reject:
    if "field limit" in str(error):
        return Reject(
            "a cell is too long",
            remedy=f"look for a quote that is not closed, or shorten it to {MAX_CELL:,} characters",
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
