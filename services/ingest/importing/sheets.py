"""Spreadsheets as tables: a process of its own, with limits of memory and time, writes the rows of
one sheet to a file of JSON lines.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

import msgspec

from services.shared.errors import Reject

ROOT = Path(__file__).parents[3]  # where the process finds the code
ZIP, OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
WEB_PAGE = (b"<html", b"<!doctype html", b"<table", b"<?xml")
MAX_SHEET_BYTES = 64 * 1024 * 1024  # of a file
MAX_ROWS_BYTES = 256 * 1024 * 1024  # of its rows as JSON
MAX_MEMORY = 384 * 1024 * 1024  # bytes of the process
MAX_CPU = 60  # seconds
MAX_UNZIPPED = 512 * 1024 * 1024  # bytes
MAX_COLUMNS = 2_000
TOO_LARGE = Reject(
    "the spreadsheet is too large",
    where="file",
    remedy="save the sheet as CSV, or cut it into several; docs/security.md has the limits",
    kind="too-large",
)


class Refusal(msgspec.Struct):
    """Why the process could not read the sheet."""

    what: str
    remedy: str


def is_spreadsheet(path: Path) -> bool:
    """Whether the file is one by its first bytes. Raises Reject for a web page."""
    with path.open("rb") as file:
        start = file.read(512)
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(WEB_PAGE):
        raise Reject(
            "this is a web page or XML, not a table",
            where="file",
            remedy="open it in a spreadsheet program, and save it as CSV or .xlsx",
        )
    return start.startswith((ZIP, OLE))


def open_rows(path: Path, sheet: str, folder: Path | None) -> BinaryIO:
    """The sheet's rows as JSON lines, in a file that ends with its closing. Raises Reject."""
    if path.stat().st_size > MAX_SHEET_BYTES:
        raise TOO_LARGE
    rows = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 the caller closes it
    try:
        command = [sys.executable, "-m", f"{__package__}.sheet_process", sheet]
        with path.open("rb") as file:
            done = subprocess.run(
                command, stdin=file, stdout=rows, stderr=subprocess.PIPE, cwd=ROOT,
                env=_environment(), timeout=2 * MAX_CPU, check=False,
            )  # fmt: skip
        if done.returncode:
            raise _refused(done.stderr)
    except subprocess.TimeoutExpired:
        rows.close()
        raise TOO_LARGE from None
    except BaseException:
        rows.close()
        raise
    rows.seek(0)
    return rows


def read_rows(rows: TextIO) -> Iterator[list[str]]:
    """The rows of such a file, each as long as it has cells."""
    for line in rows:
        yield msgspec.json.decode(line, type=list[str])


def _environment() -> dict[str, str]:
    """What the process needs of ours, and no secret."""
    return {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}


def _refused(stderr: bytes) -> Reject:
    """What the process says on its last line; where it says nothing a limit ended it."""
    try:
        refusal = msgspec.json.decode(stderr.strip().rpartition(b"\n")[2], type=Refusal)
    except msgspec.MsgspecError:
        return TOO_LARGE
    return Reject(refusal.what, where="file", remedy=refusal.remedy)
