"""Reads a table with outcomes into arrays: histories of leads, or one row a lead."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from services.ingest.importing import times
from services.ingest.importing.cells import matches, values_of
from services.ingest.importing.header import Header
from services.ingest.importing.mapping_file import MappingFile
from services.ingest.importing.opening import opened
from services.ingest.importing.times import Manners
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
from services.scorer.learning.attributes import NOTHING, Column, column
from services.scorer.learning.histories import B, F, History, I
from services.scorer.learning.moments import Moments
from services.scorer.model.readings import word
from services.shared.errors import Reject

MOST_MARKS = 20  # the rest are one mark more
OTHER = "other"
LEAST_OUTCOMES = 10  # of each class
EARLY_OUTCOME = "lead without an event before its outcome"
MOST_SHOWN = 5  # of the values that a column has
# each lead's events: time in days, row, whether it is the outcome, type
Leads = dict[str, list[tuple[float, int, bool, str]]]


@dataclass
class EventTable:
    """Leads with their events; `until` is the last time in the table, in days.

    `traits` are columns over all rows, `rows[lead]` are the places of a lead's rows in them, in the
    order of its events; `accounts` are of the leads, '' where none is known.
    """

    keys: list[str]
    histories: list[History]
    marks: list[str]
    until: float
    traits: list[Column]
    rows: list[I]
    skipped: Counter[str]
    accounts: list[str] = field(default_factory=list)


@dataclass
class LeadTable:
    """One row a lead: its attributes and whether it had the outcome; `at` (N) is in days, NaN where
    the row has no time.
    """

    keys: list[str]
    columns: list[Column]
    outcome: B
    at: F
    skipped: Counter[str]
    accounts: list[str] = field(default_factory=list)


def read(path: Path, written: MappingFile, progress: Progress) -> EventTable | LeadTable:
    """Reads the table. Raises Reject for what cannot be learned from, InvalidFile for a mapping
    that names a column which is not there.
    """
    mapping = written.mapping
    assert isinstance(mapping, TableMapping)
    needed = mapping.kind == "events" or mapping.folds.by == "time"
    manners = manners_of(path, written, needed=needed)
    with opened(path, written) as table:
        rows = rows_of(table, progress)
        if mapping.kind == "events":
            return _events(mapping, table.header, rows, manners)
        return _leads(mapping, table.header, rows, manners)


def trait_columns(mapping: TableMapping, header: Header) -> list[tuple[str, int]]:
    """Names and places of the columns that are attributes."""
    if isinstance(mapping.traits, dict) and mapping.traits:
        named = ((name, header.find(of)) for name, of in mapping.traits.items())
        found = [(name, place) for name, place in named if place is not None]
    elif mapping.takes_all:
        used = {header.find(name) for name in _used(mapping) if name}
        used.add(mapping.account_in(header))
        found = [
            (name, place) for place, name in enumerate(header.names) if name and place not in used
        ]
    else:
        found = []
    dropped = {header.find(name) for name in mapping.drop}
    return [(name, place) for name, place in found if place not in dropped]


def _used(mapping: TableMapping) -> Iterator[str]:
    yield mapping.key
    yield mapping.outcome.column
    for time in (mapping.time, mapping.outcome.time):
        if time:
            yield time.column
    if mapping.type:
        yield mapping.type.column or mapping.type.name


def _leads(
    mapping: TableMapping, header: Header, rows: Iterator[list[str] | Reject], manners: Manners
) -> LeadTable:
    traits = trait_columns(mapping, header)
    key, at = (
        header.find(mapping.key) if mapping.key else None,
        times.reader(mapping.time, header, ZONE, manners),
    )
    place, wanted = header.find(mapping.outcome.column), values_of(mapping.outcome.equals)
    assert place is not None
    account = mapping.account_in(header)
    cells: list[list[str]] = [[] for _ in traits]
    keys: list[str] = []
    accounts: list[str] = []
    outcome: list[bool] = []
    moments: list[float] = []
    skipped: Counter[str] = Counter()
    values_seen: Counter[str] = Counter()
    for number, row in enumerate(rows, 1):
        if isinstance(row, Reject):
            skipped[row.title] += 1
            continue
        keys.append(row[key].strip() if key is not None else str(number))
        accounts.append("" if account is None else _account(row[account]))
        outcome.append(matches(row[place], wanted))
        values_seen[row[place].strip()] += 1
        moments.append(days_of(at, row))
        for values, (_, of) in zip(cells, traits, strict=True):
            values.append(row[of])
    columns = [column(name, values) for (name, _), values in zip(traits, cells, strict=True)]
    known = np.array(outcome, np.bool_)
    _check(len(known), int(known.sum()), mapping, skipped, values_seen)
    _check_times(mapping, np.isnan(moments), skipped)
    varied = _varied(columns, skipped)
    return LeadTable(keys, varied, known, np.array(moments), skipped, accounts)


def _check_times(mapping: TableMapping, missing: B, skipped: Counter[str]) -> None:
    """Counts rows without a time that is named. Raises Reject where all folds need is missing."""
    if not (mapping.time and mapping.time.column and missing.any()):
        return
    skipped["time that cannot be read, so that rows count in the table's order"] += int(
        missing.sum()
    )
    if mapping.folds.by == "time" and missing.all():
        raise Reject(
            f"no row has a time that can be read in {mapping.time.column!r}",
            where="time",
            remedy="name another column or its `format`; without `time` rows count in their order",
        )


def _varied(columns: list[Column], skipped: Counter[str]) -> list[Column]:
    """The columns in which rows differ. Raises Reject where there is none."""
    if not columns:
        raise Reject(
            "the table has no attributes",
            where="traits",
            remedy="write `traits: all`, or list columns; `drop` may have taken all of them out",
        )
    for each in columns:
        if (each.codes == each.codes[0]).all():
            skipped[f"column {each.name}, which says the same in every row"] += 1
    varied = [each for each in columns if (each.codes != each.codes[0]).any()]
    if not varied:
        raise Reject(
            "every column says the same in all rows",
            where="traits",
            remedy="bring columns in which the leads differ",
        )
    return varied


def _events(
    mapping: TableMapping, header: Header, rows: Iterator[list[str] | Reject], manners: Manners
) -> EventTable:
    traits = trait_columns(mapping, header)
    key = header.find(mapping.key)
    assert key is not None
    at, what = times.reader(mapping.time, header, ZONE, manners), types_of(mapping, header)
    is_outcome = outcomes_of(mapping.outcome, header, what)
    skipped: Counter[str] = Counter()
    leads: Leads = {}
    account, accounts = mapping.account_in(header), dict[str, str]()
    cells: list[list[str]] = [[] for _ in traits]
    number = 0
    for row in rows:
        if isinstance(row, Reject):
            skipped[row.title] += 1
            continue
        who, moment = row[key].strip(), days_of(at, row)
        if not who or np.isnan(moment):
            skipped["row without a lead" if not who else "row without a readable time"] += 1
            continue
        leads.setdefault(who, []).append((moment, number, is_outcome(row), what(row)))
        if account is not None and (name := _account(row[account])):
            accounts.setdefault(who, name)
        for values, (_, of) in zip(cells, traits, strict=True):
            values.append(row[of])
        number += 1
    columns = [column(name, values) for (name, _), values in zip(traits, cells, strict=True)]
    table = _histories(_plausible(leads, skipped), columns, skipped, mapping)
    table.accounts = [accounts.get(who, "") for who in table.keys]
    return table


def _plausible(leads: Leads, skipped: Counter[str]) -> Leads:
    """The leads with those of their events whose times are near all others."""
    every = np.array([event[0] for events in leads.values() for event in events])
    kept = plausible(every)
    if kept.all():
        return leads
    skipped[FAR_TIME] += int((~kept).sum())
    low, high = every[kept].min(), every[kept].max()
    near = {who: [e for e in events if low <= e[0] <= high] for who, events in leads.items()}
    return {who: events for who, events in near.items() if events}


def _histories(
    leads: Leads,
    columns: list[Column],
    skipped: Counter[str],
    mapping: TableMapping,
) -> EventTable:
    """Sorts each lead's events, and ends its history at its first outcome."""
    until = max((event[0] for events in leads.values() for event in events), default=0.0)
    counts = Counter(
        type_ for es in leads.values() for _, _, is_outcome, type_ in es if not is_outcome
    )
    marks = [mark for mark, _ in counts.most_common(MOST_MARKS)]
    code = {mark: number for number, mark in enumerate(marks)}
    table = EventTable(
        [], [], marks if len(counts) <= MOST_MARKS else [*marks, OTHER], until, columns, [], skipped
    )
    for who, events in sorted(leads.items()):
        events.sort(key=lambda event: event[:2])
        reached = next((moment for moment, _, is_outcome, _ in events if is_outcome), None)
        before = [e for e in events if not e[2] and (reached is None or e[0] < reached)]
        if not before:
            skipped[EARLY_OUTCOME] += 1
            continue
        table.keys.append(who)
        table.rows.append(np.array([e[1] for e in before], np.int64))
        table.histories.append(
            History(
                np.array([e[0] for e in before]),
                np.array([code.get(e[3], len(marks)) for e in before], np.int64),
                until if reached is None else reached,
                reached is not None,
            )
        )
    converted = sum(history.converted for history in table.histories)
    _check(len(table.histories), converted, mapping, skipped, counts)
    return table


def _account(cell: str) -> str:
    """The name of an account; '' where none stands there."""
    return word(cell)


def traits_at(table: EventTable, leads: I, when: Moments) -> list[Column]:
    """Of every trait what the last row up to a moment says; `leads` are the places of those that
    `when` counts.
    """
    if not table.traits:
        return []
    columns, rows = [], np.concatenate(table.rows)
    sizes = np.array([len(each) for each in table.rows])
    begin = (np.cumsum(sizes) - sizes)[leads[when.lead]]
    for trait in table.traits:
        known = np.where(trait.filled[rows], np.arange(len(rows)), -1)
        last = np.maximum.accumulate(known)[begin + when.events - 1]
        places = np.where(last >= begin, rows[last], -1)
        codes = np.where(places >= 0, trait.codes[places], NOTHING)
        numbers = trait.numbers
        if numbers is not None:
            numbers = np.where(places >= 0, numbers[places], np.nan)
        columns.append(Column(trait.name, codes, trait.words, numbers))
    return columns


def _check(
    leads: int, outcomes: int, mapping: TableMapping, skipped: Counter[str], seen: Counter[str]
) -> None:
    """Raises Reject where there is too little of one class to hold some of it out; `seen` are the
    values, or the types of events, that the table has.
    """
    rule = mapping.outcome
    where = f"`type: {rule.type}`" if rule.type else f"`{rule.column}`"
    found = ", ".join(f"{value or 'nothing'} ({n})" for value, n in seen.most_common(MOST_SHOWN))
    least = min(outcomes, leads - outcomes)
    if not leads and not skipped[EARLY_OUTCOME]:
        reasons = ", ".join(f"{count} × {reason}" for reason, count in skipped.items())
        what = "the table has no rows that can be read" + (f": {reasons}" if reasons else "")
        remedy = "see the mapping's `lead` and `time`"
    elif not outcomes and skipped[EARLY_OUTCOME]:
        what = f"no lead has an event before its outcome ({skipped[EARLY_OUTCOME]} have one)"
        remedy = "look at the column of `time`: do its dates run backwards?"
    elif not outcomes:
        what = "the table has no outcomes"
        remedy = f"look at {where} in the mapping: no row has what it names; there are {found}"
    elif outcomes == leads:
        what = "every lead has the outcome"
        remedy = f"look at {where} in the mapping: it holds for each of the {leads} leads"
    elif least < LEAST_OUTCOMES:
        what = f"{outcomes} of {leads} leads have the outcome: too few to learn from and to judge"
        remedy = f"bring at least {LEAST_OUTCOMES} leads with it and {LEAST_OUTCOMES} without"
    else:
        return
    raise Reject(what, where="outcome" if leads or skipped else "file", remedy=remedy)
