"""Rows of a table: cells, times in days, what happened, whether it was the outcome."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from services.ingest.importing import times
from services.ingest.importing.cells import folded, matches, values_of
from services.ingest.importing.header import Header
from services.ingest.importing.mapping_file import MappingFile
from services.ingest.importing.opening import opened
from services.ingest.importing.survey import Survey
from services.ingest.importing.table import Table
from services.ingest.importing.times import Manners
from services.ingest.sources.segment_calls import snake
from services.ops.learning.mapping import TableMapping, TableOutcome
from services.scorer.learning.histories import B, F
from services.shared.clock import EPOCH
from services.shared.errors import Reject

ZONE = "UTC"  # of times that name none, where the mapping does not say another
DAY_S = 86_400.0
FAR, LEAST_SPAN_DAYS = 10, 365.0  # spans of a table's times, from which on one is a slip of the pen
FAR_TIME = "row with a time far from all others"

Progress = Callable[[str, float], None]


def manners_of(path: Path, written: MappingFile, *, needed: bool) -> Manners:
    """How the columns of a table write their times, by all of its rows. Raises Reject where times
    are `needed` and no row says which is the day and which the month.
    """
    with opened(path, written) as table:
        survey = Survey(written.mapping, table.header)
        if survey.is_needed:
            for row in table.rows():
                if not row.reject:
                    survey.add(row.cells)
    if needed and (open_ := survey.questions()):
        raise Reject(open_[0].what, where="time", remedy=f"write `{open_[0].key}`, dmy or mdy")
    return survey.manners()


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


def plausible(days: F) -> B:
    """Which times (N, days) lie near the others: one slip (1890, 2999) would move the table's begin
    or end, by which all horizons are judged.
    """
    if not days.size:
        return np.ones(0, np.bool_)
    low, high = np.quantile(days, (0.05, 0.95))
    reach = FAR * max(high - low, LEAST_SPAN_DAYS)
    return (days >= low - reach) & (days <= high + reach)


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
