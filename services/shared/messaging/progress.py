"""How far a service has read each log, which the database alone knows; what it could never apply,
and what the broker deleted before it was read.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.shared.db import is_transient, rows
from services.shared.errors import Retry
from services.shared.messaging.kafka import Extent, Log, Record
from services.shared.telemetry import RECORDS_LOST

log = structlog.get_logger()
Schema = Literal["scorer", "nurture"]
UNTOLD = UUID(int=0)  # of progress that an earlier release kept by the topic's name alone
REASON_CHARACTERS = 2_000  # of a dead letter's reason that are kept


class DeadLetter(NamedTuple):
    """A record that can never be applied, and why."""

    record: Record
    reason: str


class Stored(NamedTuple):
    """How far a log has been read, and the furthest end that the broker has named of it. Of two
    incarnations of a topic the one with the greater `number` began later.
    """

    next_offset: int
    end: int
    number: int


class Gap(NamedTuple):
    """Records that cannot be read any more, from `first` to before `end`. `why` is `deleted` (the
    broker kept them no longer), `recreated` (their topic was deleted or the broker wiped; there may
    have been more of them) or `truncated` (the broker lost the end of its log; all of it had been
    read).
    """

    log: Log
    first: int
    end: int
    why: Literal["deleted", "recreated", "truncated"]


class ProgressMoved(Exception):
    """The database knows less progress than we read on from: it was restored from a backup, say."""


class Progress:
    """The ledger of a service: `Ledger` of its subscription."""

    def __init__(self, engine: AsyncEngine, schema: Schema) -> None:
        self._engine, self._schema = engine, schema

    async def read(self, topics: Iterable[str]) -> dict[Log, Stored]:
        """What is stored of all incarnations of the topics. Raises Retry while the database is
        away.
        """
        try:
            async with self._engine.connect() as connection:
                found = await rows(
                    connection,
                    f"SELECT topic, topic_id, partition, next_offset, log_end, number "
                    f"FROM {self._schema}.progress WHERE topic = ANY(:topics)",
                    topics=list(topics),
                )
        except Exception as error:
            if is_transient(error):
                raise Retry(f"the database is away: {type(error).__name__}") from error
            raise
        return {Log(*row[:3]): Stored(*row[3:]) for row in found}

    async def check(self, read_to: Mapping[Log, int]) -> None:
        """Raises Retry where the database knows less than was read of these logs: it was restored
        from a backup, say. A database that is away says nothing about it.
        """
        try:
            known = await self.read({of.topic for of in read_to})
        except Retry:
            return
        for of, at in read_to.items():
            if of not in known or known[of].next_offset < at:
                raise Retry(f"{of.topic} {of.partition}: the database knows less than was read")

    async def place(
        self, known: Mapping[Log, Stored], extents: Mapping[Log, Extent]
    ) -> dict[Log, int]:
        """Where to go on in each log; stores it, and every gap, so that both are known before the
        first record is read. Raises Retry while the database is away.
        """
        starts, gaps = placed(known, extents)
        if not extents:
            return starts
        try:
            async with self._engine.begin() as connection:
                for gap in gaps:
                    if gap.why == "truncated":
                        await _truncate(connection, self._schema, gap, known[gap.log].next_offset)
                ends = {of: extent.end for of, extent in extents.items()}
                starts = await _advance(connection, self._schema, starts, ends)
                new = await add_gaps(connection, self._schema, gaps)
        except Exception as error:
            if is_transient(error):
                raise Retry(f"the database is away: {type(error).__name__}") from error
            raise
        for gap in new:
            topic, topic_id, partition = gap.log
            log.error(
                "records_lost" if gap.end > gap.first else "records_perhaps_lost",
                why=gap.why, topic=topic, topic_id=str(topic_id),
                partition=partition, first=gap.first, end=gap.end,
            )  # fmt: skip
            RECORDS_LOST.labels(self._schema, topic).inc(gap.end - gap.first)
        return starts


def placed(
    known: Mapping[Log, Stored], extents: Mapping[Log, Extent]
) -> tuple[dict[Log, int], list[Gap]]:
    """Where to go on in each log that the broker has, and what cannot be read any more. What was
    read before topics had ids is read again, as far as the broker has it.
    """
    starts: dict[Log, int] = {}
    gaps: list[Gap] = []
    for of, (begin, end) in extents.items():
        at = known[of].next_offset if of in known else 0
        before = known.get(of._replace(topic_id=UNTOLD)) if of not in known else None
        if before and before.next_offset >= begin:
            at = begin
        if at < begin:
            gaps.append(Gap(of, at, begin, "deleted"))
        elif at > end:
            gaps.append(Gap(of, end, end, "truncated"))
        starts[of] = min(max(at, begin), end)
    current = {of.topic: of.topic_id for of in extents}
    for topic, topic_id in current.items():
        gaps += _of_earlier(known, topic, topic_id)
    return starts, gaps


def _of_earlier(known: Mapping[Log, Stored], topic: str, topic_id: UUID) -> Iterable[Gap]:
    """What was unread of the incarnations of a topic before this one."""
    of_topic = {
        of: stored for of, stored in known.items() if of.topic == topic and of.topic_id != UNTOLD
    }
    began = min((s.number for of, s in of_topic.items() if of.topic_id == topic_id), default=None)
    for of, stored in of_topic.items():
        if of.topic_id != topic_id and (began is None or stored.number < began):
            end = max(stored.end, stored.next_offset)
            yield Gap(of, stored.next_offset, end, "recreated")


async def add_gaps(connection: AsyncConnection, schema: Schema, gaps: Sequence[Gap]) -> list[Gap]:
    """Stores gaps; returns those that were not known yet."""
    new = []
    for gap in gaps:
        added = await rows(
            connection,
            f"INSERT INTO {schema}.gap (topic, topic_id, partition, first, log_end, why) "
            "VALUES (:topic, :topic_id, :partition, :first, :end, :why) "
            "ON CONFLICT DO NOTHING RETURNING topic",
            **gap.log._asdict(), first=gap.first, end=gap.end, why=gap.why,
        )  # fmt: skip
        new += [gap] if added else []
    return new


async def lost_records(connection: AsyncConnection, schema: Schema) -> dict[str, int]:
    """How many records of each topic were lost unread, at least, where nobody has accepted it yet;
    0 where there may have been some.
    """
    found = await rows(
        connection,
        f"SELECT topic, sum(log_end - first)::bigint AS lost FROM {schema}.gap "
        "WHERE accepted_at IS NULL AND why <> 'truncated' GROUP BY topic",
    )
    return {row.topic: row.lost for row in found}


async def add_dead_letter(connection: AsyncConnection, schema: Schema, letter: DeadLetter) -> None:
    """Keeps a dead letter with its raw bytes; the same record again changes nothing. Of the reason,
    what PostgreSQL takes no text with is left out.
    """
    reason = letter.reason.replace("\0", "").encode(errors="replace").decode()
    await connection.execute(
        text(
            f"INSERT INTO {schema}.dead_letter "
            '(topic, topic_id, partition, "offset", key, value, reason) VALUES '
            "(:topic, :topic_id, :partition, :offset, :key, :value, :reason) ON CONFLICT DO NOTHING"
        ),
        {**letter.record._asdict(), "reason": reason[:REASON_CHARACTERS]},
    )


async def save_progress(
    connection: AsyncConnection,
    schema: Schema,
    offsets: Mapping[Log, int],
    starts: Mapping[Log, int],
    ends: Mapping[Log, int],
) -> None:
    """Writes the next offset of each log; an earlier one changes nothing. Raises ProgressMoved
    where the database knows less than the start from which a log was read on.
    """
    found = await _upserted(connection, schema, offsets, ends)
    for of, (before, _) in found.items():
        start = starts.get(of)
        if start is not None and (before is None or before < start):
            raise ProgressMoved(f"{of.topic} {of.partition}: at {before}, read from {start}")


async def _advance(
    connection: AsyncConnection, schema: Schema, starts: Mapping[Log, int], ends: Mapping[Log, int]
) -> dict[Log, int]:
    """Stores where to go on; returns where it is, as another process may have come further."""
    return {of: at for of, (_, at) in (await _upserted(connection, schema, starts, ends)).items()}


async def _upserted(
    connection: AsyncConnection, schema: Schema, offsets: Mapping[Log, int], ends: Mapping[Log, int]
) -> dict[Log, tuple[int | None, int]]:
    """Moves logs on to these offsets; returns where each was before, and where it is."""
    logs = sorted(offsets)  # all processes lock the rows in one order
    found = await connection.execute(
        text(
            f"INSERT INTO {schema}.progress AS known "
            "(topic, topic_id, partition, next_offset, log_end) SELECT * FROM unnest("
            "CAST(:topics AS text[]), CAST(:ids AS uuid[]), CAST(:parts AS int[]), "
            "CAST(:offsets AS bigint[]), CAST(:ends AS bigint[])) "
            "ON CONFLICT (topic, topic_id, partition) DO UPDATE SET "
            "next_offset = greatest(known.next_offset, excluded.next_offset), "
            "log_end = greatest(known.log_end, excluded.log_end) "
            "RETURNING topic, topic_id, partition, old.next_offset, new.next_offset"
        ),
        {
            "topics": [of.topic for of in logs],
            "ids": [of.topic_id for of in logs],
            "parts": [of.partition for of in logs],
            "offsets": [offsets[of] for of in logs],
            "ends": [ends.get(of, 0) for of in logs],
        },
    )
    return {Log(*row[:3]): (row[3], row[4]) for row in found}


async def _truncate(connection: AsyncConnection, schema: Schema, gap: Gap, was: int) -> None:
    """Goes back to the end of a log that lost its own, unless another process has done so."""
    await connection.execute(
        text(
            f"UPDATE {schema}.progress SET next_offset = :end, log_end = :end "
            "WHERE (topic, topic_id, partition) = (:topic, :topic_id, :partition) "
            "AND next_offset = :was"
        ),
        {**gap.log._asdict(), "end": gap.end, "was": was},
    )
