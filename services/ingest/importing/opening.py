"""Opens a file as its mapping says, and asks where the file can be read in several ways."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from services.ingest.importing.mapping import READING
from services.ingest.importing.mapping import Mapping as FileMapping
from services.ingest.importing.mapping_file import MappingFile
from services.ingest.importing.questions import (
    SHOWN_ROWS,
    Choice,
    Question,
    Uncertain,
    shown,
)
from services.ingest.importing.survey import Survey
from services.ingest.importing.table import Row, Table

SLICE = 1_000  # rows after which other tasks have their turn
SOUGHT = 100_000  # rows in which readings are compared


def reading_of(mapping: FileMapping) -> dict[str, Any]:
    """The part of a mapping that says how the file is read."""
    return {key: value for key in READING if (value := getattr(mapping, key))}


@contextmanager
def opened(path: Path, written: MappingFile) -> Iterator[Table]:
    """The file as its mapping says that it is read. Raises Reject where it holds no table,
    InvalidFile where the mapping names a column that is not there.
    """
    with closing(Table(path, **reading_of(written.mapping))) as table:
        written.check(table.header)
        yield table


async def examine(table: Table, path: Path, mapping: FileMapping) -> Survey:
    """What the whole file says of its columns; the table stands at its first row again. Raises
    `Uncertain` with every question that the file leaves open.
    """
    questions = encoding_questions(table, path)
    survey = Survey(mapping, table.header)
    if survey.is_needed:
        rows = table.rows()
        while batch := list(islice(rows, SLICE)):
            for row in batch:
                if not row.reject:
                    survey.add(row.cells)
            await asyncio.sleep(0)
        table.rewind()
        questions += survey.questions()
    if questions:
        raise Uncertain(questions)
    return survey


def encoding_questions(table: Table, path: Path) -> list[Question]:
    """The question of the encoding, where several are plausible."""
    if len(table.encodings) < 2:
        return []
    with ExitStack() as stack:
        tables = [
            Table(path, encoding, table.delimiter, skip_lines=table.skip_lines)
            for encoding in table.encodings
        ]
        for other in tables:
            stack.callback(other.close)
        rows = list(islice(_differing(tables), SHOWN_ROWS))
        for other in tables:
            other.rewind()
        rows += islice(_alike(tables), SHOWN_ROWS - len(rows))
    choices = [
        Choice(encoding, "", [shown(versions[number]) for versions in rows])
        for number, encoding in enumerate(table.encodings)
    ]
    what = "the encoding of the file is uncertain: its letters can be read in several ways"
    return [Question(("encoding",), what, "encoding: …", choices)]


def _differing(tables: Sequence[Table]) -> Iterator[list[list[str]]]:
    """Rows that are not the same under all readings, the header first, in each of them."""
    headers = [table.header.names for table in tables]
    if any(header != headers[0] for header in headers):
        yield headers
    rows = zip_longest(*(table.rows() for table in tables), fillvalue=Row(0, []))
    for versions in islice(rows, SOUGHT):
        cells = [row.cells for row in versions]
        if any(other != cells[0] for other in cells):
            yield cells


def _alike(tables: Sequence[Table]) -> Iterator[list[list[str]]]:
    """Rows that are the same under all readings."""
    for versions in islice(zip(*(table.rows() for table in tables), strict=False), SOUGHT):
        cells = [row.cells for row in versions]
        if all(other == cells[0] for other in cells):
            yield cells


def answered(mapping: Any, path: Sequence[int | str], answer: str) -> Any:
    """The mapping, as plain data, with the answer at its place; a column's name there becomes a
    mapping with `column`.
    """
    if not path:
        return answer
    step, *rest = path
    if isinstance(step, int):
        items = list(mapping) if isinstance(mapping, list) else [mapping]
        items[step] = answered(items[step], rest, answer)
        return items
    node = dict(mapping) if isinstance(mapping, dict) else {"column": mapping} if mapping else {}
    node[step] = answered(node.get(step), rest, answer)
    return node
