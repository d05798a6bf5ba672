"""CSV that people open with a program of spreadsheets."""

import csv
import io
from collections.abc import Iterable

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what such programs take for the beginning of one


def inert(cell: object) -> object:
    """A cell that is not taken for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def csv_of(rows: Iterable[Iterable[object]]) -> str:
    """Rows as RFC 4180 has them, each cell inert."""
    written = io.StringIO()
    csv.writer(written).writerows(map(inert, row) for row in rows)
    return written.getvalue()
