"""Rows of a table: cells, times in days, what happened, whether it was the outcome."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from services.ingest.importing import times
from services.ingest.importing.cells import folded, matches, values_of
from services.ingest.importing.header import Header
from services.ingest.importing.table import Table
from services.ingest.sources.segment_calls import snake
from services.ops.learning.mapping import TableMapping, TableOutcome
from services.shared.clock import EPOCH
from services.shared.errors import Reject

ZONE = "UTC"  # of times that name none, where the mapping does not say another
DAY_S = 86_400.0

Progress = Callable[[str, float], None]


def rows_of(table: Table, progress: Progress) -> Iterator[list[str] | Reject]:
    """Cells of each row, or why it cannot be read."""
    for number, row in enumerate(table.rows()):
        if number % 1_000 == 0:
            progress("reading", table.done / max(table.bytes, 1))
        yield row.reject or row.cells
    progress("reading", 1.0)


def days_of(at: times.Read, row: list[str]) -> float:
    """A row's time in days since 1970; NaN where it has none that can be read."""
    try:
        moment = at(row)
    except Reject:
        return np.nan
    return (moment - EPOCH).total_seconds() / DAY_S if moment else np.nan


def types_of(mapping: TableMapping, header: Header) -> Callable[[Sequence[str]], str]:
    """What a row says that happened: the words of the mapping, else the cell in snake case."""
    rule = mapping.type
    place = header.find(rule.column or rule.name) if rule else None
    if rule is None or place is None:
        constant = snake(rule.name) if rule else ""
        return lambda _: constant
    names = {folded(value): type_ for value, type_ in rule.names.items()}

    def of(row: Sequence[str]) -> str:
        value = row[place].strip()
        return names.get(folded(value)) or snake(value)

    return of


def outcomes_of(
    rule: TableOutcome, header: Header, what: Callable[[Sequence[str]], str]
) -> Callable[[Sequence[str]], bool]:
    """Whether a row is the outcome."""
    if rule.type:
        wanted = snake(rule.type)
        return lambda row: what(row) == wanted
    place, values = header.find(rule.column), values_of(rule.equals)
    assert place is not None
    return lambda row: matches(row[place], values)
