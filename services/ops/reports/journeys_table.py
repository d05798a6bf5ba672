"""Reads a table of leads or of their events into journeys: beginning, source, cost and outcome."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from services.ingest.importing import times
from services.ingest.importing.cells import matches, number, text_reader, values_of
from services.ingest.importing.header import Header
from services.ingest.importing.mapping import Value
from services.ingest.importing.mapping_file import MappingFile
from services.ingest.importing.opening import opened
from services.ops.learning.mapping import TableMapping
from services.ops.learning.rows import (
    FAR_TIME,
    ZONE,
    Progress,
    days_of,
    manners_of,
    outcomes_of,
    plausible,
    rows_of,
    types_of,
)
from services.scorer.reports.journeys import UNKNOWN_SOURCE, Journeys
from services.shared.errors import Reject


@dataclass
class _Lead:
    began: float
    reached: float = np.nan
    source: str = ""
    source_at: float = np.inf
    cost: float = np.nan


class _Row(NamedTuple):
    """What a row says; times in days, `reached` is NaN where it is no outcome or has no time."""

    who: str
    at: float
    reached: float
    is_outcome: bool
    source: str
    cost: str


@dataclass
class JourneyTable:
    """The journeys of a table, and what was passed over."""

    journeys: Journeys
    skipped: Counter[str] = field(default_factory=Counter)


def read(
    path: Path, written: MappingFile, progress: Progress, *, with_source: bool = False
) -> JourneyTable:
    """Reads the table. Raises Reject for what has no times or no source, InvalidFile for a mapping
    that names a column which is not there.
    """
    mapping = written.mapping
    assert isinstance(mapping, TableMapping)
    _check(mapping, with_source=with_source)
    manners = manners_of(path, written, needed=True)
    with opened(path, written) as table:
        rows = _Rows(mapping, table.header, manners)
        for row in rows_of(table, progress):
            rows.add(row)
    return rows.journeys()


def _check(mapping: TableMapping, *, with_source: bool) -> None:
    lacks = ""
    if not mapping.time or not mapping.time.column:
        lacks, where = "when each lead began", "time"
    elif mapping.kind == "leads" and not (mapping.outcome.time and mapping.outcome.time.column):
        lacks, where = "when the outcome came", "outcome.time"
    elif with_source and mapping.source is None:
        lacks, where = "which source each lead has", "source"
    if lacks:
        raise Reject(
            f"the mapping does not say {lacks}",
            where=where,
            remedy=f"name the column: `{where}: COLUMN`, as docs/reports.md shows",
        )


class _Rows:
    """Takes rows and makes journeys of them."""

    def __init__(self, mapping: TableMapping, header: Header, manners: times.Manners) -> None:
        self._kind, self._header = mapping.kind, header
        self._at = times.reader(mapping.time, header, ZONE, manners)
        self._key = header.find(mapping.key) if mapping.key else None
        self._source, self._cost = self._text(mapping.source), self._text(mapping.cost)
        if mapping.kind == "events":
            what = types_of(mapping, header)
            self._is_outcome = outcomes_of(mapping.outcome, header, what)
        else:
            place, wanted = header.find(mapping.outcome.column), values_of(mapping.outcome.equals)
            assert place is not None
            self._is_outcome = lambda row: matches(row[place], wanted)
            self._reached = times.reader(mapping.outcome.time, header, ZONE, manners)
        self._rows: list[_Row] = []
        self._leads: dict[str, _Lead] = {}
        self._skipped: Counter[str] = Counter()

    def _text(self, value: Value | None) -> Callable[[list[str]], str]:
        if value is None:
            return lambda _: ""
        if value.constant:
            return lambda _: value.constant
        return text_reader(value.column or value.text, self._header)

    def add(self, row: list[str] | Reject) -> None:
        """Takes a row, or counts why not."""
        if isinstance(row, Reject):
            self._skipped[row.title] += 1
            return
        who = row[self._key].strip() if self._key is not None else str(len(self._rows))
        at = days_of(self._at, row)
        if not who or np.isnan(at):
            self._skipped["row without a lead" if not who else "row without a readable time"] += 1
            return
        is_outcome = self._is_outcome(row)
        reached = np.nan
        if is_outcome:
            reached = at if self._kind == "events" else days_of(self._reached, row)
        self._rows.append(_Row(who, at, reached, is_outcome, self._source(row), self._cost(row)))

    def _event(self, row: _Row) -> None:
        lead = self._leads.setdefault(row.who, _Lead(row.at))
        lead.began = min(lead.began, row.at)
        lead.reached = float(np.fmin(lead.reached, row.reached))
        self._add_source(lead, row)

    def _one_row(self, row: _Row) -> None:
        if row.who in self._leads:
            self._skipped["another row of a lead that has one"] += 1
        elif row.is_outcome and np.isnan(row.reached):
            self._skipped["outcome without a readable time"] += 1
        elif row.is_outcome and row.reached < row.at:
            self._skipped["outcome before the lead began"] += 1
        else:
            lead = self._leads[row.who] = _Lead(row.at, row.reached)
            self._add_source(lead, row)

    def _add_source(self, lead: _Lead, row: _Row) -> None:
        if row.source and row.at < lead.source_at:
            lead.source, lead.source_at = row.source, row.at
        if row.cost:
            try:
                lead.cost = float(np.nansum([lead.cost, number(row.cost)]))
            except Reject:
                self._skipped["cost is not a number (the row counts without it)"] += 1

    def _near(self) -> list[_Row]:
        """The rows whose times are near all others."""
        began, reached = (np.array([each[place] for each in self._rows]) for place in (1, 2))
        known = ~np.isnan(reached)
        kept = plausible(np.concatenate([began, reached[known]]))
        near = kept[: len(began)]
        near[known] &= kept[len(began) :]
        self._skipped[FAR_TIME] += int((~near).sum())
        return list(compress(self._rows, near))

    def journeys(self) -> JourneyTable:
        """All that was taken. Raises Reject where that is nothing."""
        rows = self._near()
        for row in rows:
            if self._kind == "events":
                self._event(row)
            else:
                self._one_row(row)
        until = max((max(each.at, np.nan_to_num(each.reached)) for each in rows), default=0.0)
        leads = list(self._leads.values())
        if not leads:
            raise Reject(
                "the table has no rows that can be read",
                where="file",
                remedy="; ".join(f"{count} × {why}" for why, count in self._skipped.items())
                or "it has a header alone",
            )
        if all(np.isnan(lead.reached) for lead in leads):
            raise Reject(
                "the table has no outcomes",
                where="outcome",
                remedy="look at `outcome` in the mapping: no row has what it names",
            )
        names = sorted({lead.source or UNKNOWN_SOURCE for lead in leads})
        place = {name: number for number, name in enumerate(names)}
        found = Journeys(
            np.array([lead.began for lead in leads]),
            np.array([lead.reached for lead in leads]),
            np.array([place[lead.source or UNKNOWN_SOURCE] for lead in leads], np.int64),
            names,
            np.array([lead.cost for lead in leads]),
            until,
        )
        return JourneyTable(found, +self._skipped)
