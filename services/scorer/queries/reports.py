"""Reports on the live system: tables of counts, and the leads behind each of their numbers."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

import msgspec
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scorer.list_keys import DISQUALIFIED, WON
from services.scorer.queries import report_sources as sources
from services.scorer.queries.journeys import read_journeys
from services.scorer.queries.lift import read_lift, shares_of
from services.scorer.queries.report_sources import Source
from services.scorer.queries.responses import Time
from services.scorer.reports.effects_table import EFFECTS, effects_table
from services.scorer.reports.journeys import Journeys
from services.scorer.reports.made_or_born import MadeOrBorn, made_or_born
from services.scorer.reports.sources import DAYS, Equivalence, equivalence
from services.scorer.reports.tables import Cell, ReportTable, Row, of_touches
from services.scorer.scoring import Scoring
from services.shared.clock import from_us, rfc3339, to_us
from services.shared.db import rows
from services.shared.errors import Reject
from services.shared.http.paging import Cursors, Position
from services.shared.kept import Kept

ReportName = Literal["progression", "content", "handoffs", "holdout", "pool"]
REPORTS: tuple[ReportName, ...] = get_args(ReportName)
TITLES: Mapping[ReportName, str] = {
    "progression": "Progression",
    "content": "Content",
    "handoffs": "Hand-offs",
    "holdout": "Hold-out",
    "pool": "Pool",
}
MOST_ROWS = 5_000
# actions of the audit log by which people overrule what the system decides
OVERRIDES = ["pause", "assertion", "release", "hold", "skip", "send", "brake"]
MORE = f"Only the first {MOST_ROWS:,} rows are counted: choose a shorter time."
WORK_MEM = "64MB"  # of one sort or hash table: reports over a million rows need no disk then


class Window(NamedTuple):
    """From when and until when something counts; None for no limit."""

    since: datetime | None = None
    until: datetime | None = None


ALWAYS = Window()


class HoldoutNote(msgspec.Struct, frozen=True):
    """The permanent hold-out: its share, and the leads and accounts in it."""

    share: float
    leads: int
    accounts: int
    says: str


class Report(msgspec.Struct, frozen=True):
    """A report. Each count of a table opens its leads at `/v1/reports/{report}/leads`, with the
    table's name, the count's as `figure`, and the row's keys.
    """

    report: str
    title: str
    as_of: Time
    since: Time | None
    until: Time | None
    holdout: HoldoutNote
    says: list[str]
    tables: list[ReportTable]


class HoldoutReport(Report, frozen=True):
    """The report on the hold-out, with what nurturing causes: `lift` has the fields of `ripeline
    lift`, which docs/lift.md explains.
    """

    lift: dict[str, Any]


class Counted(msgspec.Struct, frozen=True):
    """One thing that a number counts: whose it is, and when it was."""

    lead: str
    at: Time
    id: str


class CountedResponse(msgspec.Struct, frozen=True):
    """What a number of a report counts, the latest first."""

    report: str
    table: str
    figure: str
    leads: list[Counted]
    next: str | None


class Asked(NamedTuple):
    """A number of a report: its table, its figure, and the keys of its row."""

    table: str
    figure: str
    keys: Mapping[str, str]


class ReportQueries:
    """Reads reports."""

    def __init__(self, engine: AsyncEngine, scoring: Scoring) -> None:
        self._engine, self._scoring = engine, scoring
        self._cursors = Cursors(scoring.pepper)
        self._journeys, self._lift = Kept(self._read_journeys), Kept(self._read_lift)
        playbook = scoring.playbook
        self._values = {
            "stages": playbook.stages, "outcome": playbook.model.outcome,
            **shares_of(playbook), "won": WON, "disqualified": DISQUALIFIED,
            "overrides": OVERRIDES,
        }  # fmt: skip
        self._sources: dict[ReportName, list[Source]] = {
            "progression": [sources.TOUCHES, sources.STEPS],
            "content": [sources.TOUCHES],
            "handoffs": [
                sources.HANDOFFS,
                sources.OWNERS,
                sources.SALES_ANSWERS,
                sources.QUERIES,
                sources.OVERRIDES,
            ],
            "holdout": [sources.ARMS],
            "pool": [sources.POOL, sources.OUTCOMES, sources.funnel(playbook)],
        }

    async def report(self, name: ReportName, window: Window = ALWAYS) -> Report:
        """A report as of now."""
        async with self._reading() as connection:
            holdout = await self._holdout(connection)
            return await self._report(connection, name, window, holdout)

    async def all(self) -> list[Report]:
        """Every report; that on the hold-out has the lift."""
        async with self._reading() as connection:
            holdout = await self._holdout(connection)
            found = [await self._report(connection, name, ALWAYS, holdout) for name in REPORTS]
        lift = await self.lift()
        return [_with_lift(each, lift) if each.report == "holdout" else each for each in found]

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        async with self._engine.connect() as connection:
            await connection.execute(text(f"SET LOCAL work_mem = '{WORK_MEM}'"))
            yield connection

    async def _report(
        self, connection: AsyncConnection, name: ReportName, window: Window, holdout: HoldoutNote
    ) -> Report:
        tables = [
            table
            for source in self._sources[name]
            for table in await self._tables(connection, name, source, window)
        ]
        return Report(
            report=name,
            title=TITLES[name],
            as_of=rfc3339(self._scoring.clock.now()),
            since=rfc3339(window.since) if window.since else None,
            until=rfc3339(window.until) if window.until else None,
            holdout=holdout,
            says=[*SAYS[name], *_found(name, tables)],
            tables=tables,
        )

    async def with_lift(self) -> HoldoutReport:
        """The report on the hold-out, with the lift."""
        return _with_lift(await self.report("holdout"), await self.lift())

    async def table(self, name: ReportName, table: str, window: Window = ALWAYS) -> ReportTable:
        """One table of a report. Raises Reject for one that it does not have."""
        known = {each: source for source in self._sources[name] for each in _names_of(name, source)}
        if name == "holdout" and table == EFFECTS:
            return effects_table(await self.lift())
        if table not in known:
            raise Reject(
                f"the report has no table {table!r}",
                where="table",
                remedy=f"use one of {', '.join(known)}",
            )
        async with self._reading() as connection:
            found = await self._tables(connection, name, known[table], window)
        return next(each for each in found if each.name == table)

    async def leads(
        self, name: ReportName, asked: Asked, window: Window, limit: int, cursor: str = ""
    ) -> CountedResponse:
        """What a number counts, the latest first. Raises Reject for a table, figure or key that the
        report does not have.
        """
        source = self._source(name, asked)
        values: dict[str, Any] = {f"key_{n}": value for n, value in enumerate(asked.keys.values())}
        where = [f"({source.figures[asked.figure][1]})", *_within(window)]
        where += [f"{key} = :key_{n}" for n, key in enumerate(asked.keys)]
        scope = f"{name} {asked.table} {asked.figure} {dict(asked.keys)} {window}"
        if cursor:
            position = self._cursors.decode(scope, cursor)
            where.append("(at, id) < (:last_at, CAST(:last_id AS uuid))")
            values |= {"last_at": from_us(int(position.value)), "last_id": uuid.UUID(position.id)}
        async with self._engine.connect() as connection:
            found = await rows(
                connection,
                f"SELECT lead_id, at, id FROM ({source.sql}) s WHERE {' AND '.join(where)} "
                f"ORDER BY at DESC, id DESC LIMIT {limit + 1:d}",
                **self._used(source.sql + " ".join(where), window),
                **values,
            )
        following = None
        if len(found) > limit:
            last = found[limit - 1]
            following = self._cursors.encode(scope, Position(to_us(last.at), str(last.id)))
        listed = [Counted(str(r.lead_id), rfc3339(r.at), str(r.id)) for r in found[:limit]]
        return CountedResponse(name, asked.table, asked.figure, listed, following)

    async def ages(self) -> MadeOrBorn:
        """Whether leads come ready or become so."""
        return await asyncio.to_thread(made_or_born, await self._journeys.get())

    async def worth(self, days: float = DAYS, reference: str = "") -> Equivalence:
        """What sources are worth, in leads of `reference`."""
        return await asyncio.to_thread(equivalence, await self._journeys.get(), days, reference)

    async def lift(self) -> dict[str, Any]:
        """What nurturing causes, as `ripeline lift` says it."""
        return await self._lift.get()

    async def _read_journeys(self) -> Journeys:
        outcome, now = self._scoring.playbook.model.outcome, self._scoring.clock.now_us()
        async with self._engine.connect() as connection:
            return await read_journeys(connection, outcome, now)

    async def _read_lift(self) -> dict[str, Any]:
        async with self._engine.connect() as connection:
            found = await read_lift(connection, self._scoring)
        return await asyncio.to_thread(found.whole, self._scoring.playbook.model.outcome)

    def _source(self, name: ReportName, asked: Asked) -> Source:
        tables = {
            table: source
            for source in self._sources[name]
            if source.figures
            for table in _names_of(name, source)
        }
        if asked.table not in tables:
            raise Reject(
                f"the report has no table {asked.table!r} whose numbers open",
                where="table",
                remedy=f"use one of {', '.join(tables)}",
            )
        source = tables[asked.table]
        if asked.figure not in source.figures:
            raise Reject(
                f"the table has no figure {asked.figure!r}",
                where="figure",
                remedy=f"use one of {', '.join(source.figures)}",
            )
        known = [column.name for column in source.keys]
        if unknown := next((key for key in asked.keys if key not in known), None):
            raise Reject(
                f"the table has no key {unknown!r}",
                where=unknown,
                remedy=f"use one of {', '.join(known)}",
            )
        return source

    async def _tables(
        self, connection: AsyncConnection, name: ReportName, source: Source, window: Window
    ) -> list[ReportTable]:
        counted = await self._count(connection, source, window)
        cut = [MORE] if len(counted) > MOST_ROWS else []
        counted = counted[:MOST_ROWS]
        if source is not sources.TOUCHES:
            return [ReportTable(source.name, source.title, sources.columns(source), counted, cut)]
        program, stage, content, channel = source.keys
        if name == "progression":
            keys = [program, stage, channel]
            tables = [of_touches("touches", "By program and stage", keys, counted)]
        else:
            tables = [
                of_touches("items", "By item", [content, channel], counted),
                of_touches("places", "By item and where it is sent", [*source.keys], counted),
            ]
        return [replace(each, notes=[*cut, *each.notes]) for each in tables]

    async def _count(
        self, connection: AsyncConnection, source: Source, window: Window
    ) -> list[Row]:
        keys = ", ".join(column.name for column in source.keys)
        figures = ", ".join(
            [f"count(*) FILTER (WHERE {c}) AS {n}" for n, (_, c) in source.figures.items()]
            + [f"{aggregate} AS {n}" for n, (_, aggregate) in source.numbers.items()]
        )
        where = " AND ".join(["true", *_within(window)])
        statement = (
            f"SELECT {keys}, {figures} FROM ({source.sql}) s WHERE {where} "
            f"GROUP BY {keys} ORDER BY {keys} LIMIT {MOST_ROWS + 1:d}"
        )
        found = await rows(connection, statement, **self._used(statement, window))
        return [{name: _cell(cell) for name, cell in row._mapping.items()} for row in found]

    def _used(self, statement: str, window: Window) -> dict[str, Any]:
        """The values that a statement names."""
        given = self._values | {
            "now": self._scoring.clock.now(), "since": window.since, "until": window.until,
        }  # fmt: skip
        return {name: value for name, value in given.items() if f":{name}" in statement}

    async def _holdout(self, connection: AsyncConnection) -> HoldoutNote:
        holdout = self._scoring.playbook.holdout
        share, calendar = holdout.share, holdout.calendar
        [found] = await rows(
            connection,
            "SELECT count(*) AS leads, count(DISTINCT account) AS accounts FROM scorer.lead "
            "WHERE draw < :share AND merged_into IS NULL AND NOT provisional AND excluded = ''",
            share=share,
        )
        says = (
            f"{share:.0%} of the accounts are held out for good and no program touches them "
            f"({found.leads} leads of {found.accounts} accounts)."
            if share
            else "No account is held out: what nurturing causes cannot be told."
        )
        if calendar.share:
            says += (
                f" {calendar.share:.0%} get the same content by the calendar, an item every "
                f"{calendar.days:g} days, so that what choosing adds can be told apart."
            )
        return HoldoutNote(share, found.leads, found.accounts, says)


def _with_lift(report: Report, lift: dict[str, Any]) -> HoldoutReport:
    fields = msgspec.structs.asdict(report)
    fields["tables"] = [*report.tables, effects_table(lift)]
    return HoldoutReport(**fields, lift=lift)


SAYS: Mapping[ReportName, list[str]] = {
    "progression": [
        "Moved forward: the lead took a step by an act of its own within 14 days after the touch. "
        "That it came after does not say that it came of it: see the hold-out."
    ],
    "content": [
        "Clicked by people: without clicks of machines, and those within 10 seconds of one."
    ],
    "handoffs": [
        "Answered at all: a person said anything. Hours count from the opening to that, on the "
        "clock, not in working hours."
    ],
    "holdout": [],
    "pool": [
        "In reach: listed leads that sales has not won or disqualified. A process that qualifies "
        "first would work on those whose fit, as known today, reaches the playbook's threshold."
    ],
}


def _found(name: ReportName, tables: Sequence[ReportTable]) -> list[str]:
    """What a report's numbers say in words."""
    if not any(table.rows for table in tables):
        return ["Nothing has been counted yet: this says nothing."]
    if name != "pool":
        return []
    pool, outcomes = ({row_name: _total(table, row_name) for row_name in ("in_reach", "outcomes",
                       "qualified", "let_go")} for table in tables[:2])  # fmt: skip
    said = [
        f"{pool['in_reach']} leads are in reach; qualifying first would keep {pool['qualified']} "
        f"and let {pool['let_go']} go."
    ]
    if outcomes["outcomes"]:
        said.append(
            f"Of {outcomes['outcomes']} leads with the outcome, {outcomes['let_go']} are of those "
            "that it would have let go."
        )
    else:
        said.append("No lead has the outcome yet: which rule is better says nothing yet.")
    return said


def _total(table: ReportTable, name: str) -> int:
    return sum(int(row.get(name) or 0) for row in table.rows)


def _names_of(name: ReportName, source: Source) -> Sequence[str]:
    """The tables that show a source."""
    if source is not sources.TOUCHES:
        return (source.name,)
    return ("touches",) if name == "progression" else ("items", "places")


def _within(window: Window) -> list[str]:
    limits = [("since", "at >= :since", window.since), ("until", "at < :until", window.until)]
    return [condition for _, condition, value in limits if value is not None]


def _cell(cell: Any) -> Cell:
    return round(cell, 4) if isinstance(cell, float) else cell
