"""The process that reads a spreadsheet: from standard input, its rows as JSON lines to standard
output, what is wrong with it to standard error.
"""

import datetime
import io
import os
import resource
import sys
import zipfile
from typing import Any, NoReturn

import msgspec
from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook, PasswordError

from services.ingest.importing.sheets import (
    MAX_COLUMNS,
    MAX_CPU,
    MAX_MEMORY,
    MAX_ROWS_BYTES,
    MAX_SHEET_BYTES,
    MAX_UNZIPPED,
    ZIP,
    Refusal,
)

LIMITS = {
    resource.RLIMIT_AS: MAX_MEMORY,
    resource.RLIMIT_CPU: MAX_CPU,
    resource.RLIMIT_FSIZE: MAX_ROWS_BYTES,
    resource.RLIMIT_CORE: 0,
}


def main() -> None:
    """Reads the sheet that the first argument names, by name or number from 1; '' for the first."""
    for limit, most in LIMITS.items():
        resource.setrlimit(limit, (most, most))
    raw = sys.stdin.buffer.read(MAX_SHEET_BYTES + 1)
    try:
        _check_archive(raw)
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(raw))
        sheet = _sheet(workbook, sys.argv[1])
        _write(sheet)
    except PasswordError:
        _end("the spreadsheet is protected by a password", "save it without one")
    except (CalamineError, zipfile.BadZipFile, ValueError) as error:
        what = f"the spreadsheet cannot be read: {str(error)[:200]}"
        _end(what, "save it again as .xlsx, or as CSV")


def _check_archive(raw: bytes) -> None:
    """Ends where an archive says itself that it grows too large."""
    if raw.startswith(ZIP):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_UNZIPPED:
                os._exit(1)


def _sheet(workbook: CalamineWorkbook, name: str) -> CalamineSheet:
    names = workbook.sheet_names
    if not names:
        _end("the spreadsheet has no sheet", "save it again as .xlsx, or as CSV")
    if not name:
        return workbook.get_sheet_by_index(0)
    if name in names:
        return workbook.get_sheet_by_name(name)
    if name.isdecimal() and 1 <= int(name) <= len(names):
        return workbook.get_sheet_by_index(int(name) - 1)
    known = ", ".join(map(repr, names[:40]))
    _end(f"no sheet {name[:60]!r} in the file", f"write `sheet:` and one of {known}")


def _write(sheet: CalamineSheet) -> None:
    if sheet.total_width > MAX_COLUMNS:
        _end(f"more than {MAX_COLUMNS} columns", "leave out what nobody reads")
    out = sys.stdout.buffer
    start = sheet.start or (0, 0)
    for _ in range(start[0]):
        out.write(b"[]\n")
    before = [""] * start[1]
    for row in sheet.iter_rows():
        cells = [*before, *map(text_of, row)]
        while cells and not cells[-1]:
            cells.pop()
        out.write(msgspec.json.encode(cells) + b"\n")
    out.flush()


def text_of(value: Any) -> str:
    """A cell as the text that a CSV would have: dates in ISO, whole numbers without a fraction."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ") if value.time() != datetime.time() else str(value.date())
    return str(value)


def _end(what: str, remedy: str) -> NoReturn:
    sys.stderr.buffer.write(msgspec.json.encode(Refusal(what, remedy)))
    sys.stderr.flush()
    os._exit(2)


if __name__ == "__main__":
    main()
