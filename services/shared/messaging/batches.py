"""Applies batches of records, one transaction each, in which the progress is kept. What a record
is at fault for is found by halves and becomes a dead letter; what the surroundings are at fault for
is waited out.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.shared.db import is_away, is_data_fault, is_transient, sqlstate
from services.shared.errors import Reject, Retry
from services.shared.messaging.kafka import NOTHING, Log, Polled, Record, TopicPartition
from services.shared.messaging.progress import (
    DeadLetter,
    ProgressMoved,
    Schema,
    add_dead_letter,
    save_progress,
)
from services.shared.runtime import Heartbeat, fault_point, retry_with_backoff
from services.shared.telemetry import BATCH_SECONDS, BATCHES_WAITING, DEAD_LETTERS

log = structlog.get_logger()
# so many records fail, and none of their topic does not, of any partition and key: the fault is not
# theirs
HOPELESS = 8
TIMED_OUT, TWICE = "57014", "21000"  # SQLSTATEs that a batch may bring about by its size or its mix
D = TypeVar("D")


class Handler(Protocol[D]):
    """What a service does with records; decoding is pure and apart from the transaction."""

    def decode(self, record: Record) -> D:
        """Reads one record; raises Reject for what can never be applied."""
        ...

    async def apply(self, connection: AsyncConnection, decoded: Sequence[D]) -> int:
        """Applies a batch in the caller's transaction; returns how many records it put into the
        outbox.
        """
        ...

    async def apply_apart(self, connection: AsyncConnection, decoded: D, error: Exception) -> int:
        """Applies a single record that fails by `error`, where what is stored is at fault; raises
        `error` where the record or anything else is. Returns as `apply` does.
        """
        ...


class Failure(NamedTuple):
    """A record that failed alone, its error, and whether others of its topic had none before."""

    record: Record
    error: Exception
    is_after_others: bool = False

    @property
    def is_its_own(self) -> bool:
        """Whether the error says by itself that the record is at fault."""
        return isinstance(self.error, Reject) or is_data_fault(self.error)

    def letter(self) -> DeadLetter:
        """The record as a dead letter; logs why."""
        log.error("record_failed", offset=self.record.offset, exc_info=self.error)
        return DeadLetter(self.record, f"{type(self.error).__name__}: {self.error}")


@dataclass
class Batch(Generic[D]):
    """Records on their way through one transaction; `put` counts those that it put into the outbox.

    Where the transaction failed, all but `failures` and `untried` is applied, and `sound` are the
    topics of which something is; the progress is not stored yet.
    """

    records: list[Record]
    decoded: list[tuple[Record, D]]
    rejected: list[DeadLetter]
    put: int = 0
    is_divided: bool = False
    failures: list[Failure] = field(default_factory=list)
    untried: list[Record] = field(default_factory=list)
    sound: set[str] = field(default_factory=set)

    def is_hopeless(self, topic: str) -> bool:
        """Whether everything of a topic fails that was tried, and that is enough to tell."""
        failed = sum(failure.record.topic == topic for failure in self.failures)
        return failed >= HOPELESS and topic not in self.sound


class Batches(Generic[D]):
    """The transactions of a consumer. `problem` is why the last attempt failed, and '' after one
    that did not.
    """

    def __init__(self, engine: AsyncEngine, handler: Handler[D], schema: Schema) -> None:
        self._engine, self._handler = engine, handler
        self._schema: Schema = schema
        self.problem = ""

    async def apply(self, records: list[Record], polled: Polled, heartbeat: Heartbeat) -> Batch[D]:
        """Applies records and stores the progress; or, where some of them fail, applies the others
        and leaves the rest to `finish`. Waits for the surroundings.
        """
        began = time.perf_counter()
        batch = self._decode(records)
        values = [value for _, value in batch.decoded]

        async def all_at_once(fresh: bool) -> int:
            return await self._commit(values, batch.rejected, records, polled, fresh=fresh)

        try:
            batch.put = await self._waiting(all_at_once, heartbeat, count=len(values))
            batch.sound = _topics(batch.decoded)
        except _Failed:
            batch.is_divided = True
        if batch.is_divided and batch.decoded:
            await self._divide(batch, batch.decoded, heartbeat)
            await self._probe(batch, heartbeat)
        BATCH_SECONDS.labels(self._schema).observe(time.perf_counter() - began)
        return batch

    async def finish(
        self, batches: Sequence[Batch[D]], polled: Polled, heartbeat: Heartbeat
    ) -> dict[TopicPartition, int]:
        """Buries what is at fault in divided batches and stores their progress; returns where to
        read on in partitions whose records have to wait.

        PostgreSQL says of single records when they are at fault. Any other error is a record's
        fault only where others of its topic, polled with it, have none, and it fails once more
        after them; else the fault is ours or the surroundings'.
        """
        sound = {topic for batch in batches for topic in batch.sound}
        held: dict[TopicPartition, int] = {}
        for batch in batches:
            if batch.is_divided:
                held |= await self._finish(batch, sound, polled, heartbeat)
        return held

    async def _finish(
        self, batch: Batch[D], sound: set[str], polled: Polled, heartbeat: Heartbeat
    ) -> dict[TopicPartition, int]:
        batch.sound |= sound
        await self._divide_untried(batch, heartbeat)
        letters, waiting = list(batch.rejected), list(batch.untried)
        for failure in batch.failures:
            if failure.record.topic in sound:
                again = await self._tried_again(batch, failure, heartbeat)
                letters += [again.letter()] if again else []
            elif failure.is_its_own and not batch.is_hopeless(failure.record.topic):
                letters.append(failure.letter())
            else:
                waiting.append(failure.record)
        held: dict[TopicPartition, int] = {}
        for record in waiting:
            part = _partition(record)
            held[part] = min(record.offset, held.get(part, record.offset))
        passed = [r for r in batch.records if r.offset < held.get(_partition(r), r.offset + 1)]
        buried = [letter for letter in letters if letter.record in passed]

        async def the_rest(fresh: bool) -> int:
            return await self._commit([], buried, passed, polled, fresh=fresh)

        await self._waiting(the_rest, heartbeat)
        if held:
            self._note("error of ours", batch.failures[0].error)
        return held

    async def _probe(self, batch: Batch[D], heartbeat: Heartbeat) -> None:
        """Tries one untried record of each partition, then of each key, until one is applied of
        every topic; then the rest of these topics.
        """
        untried = set(batch.untried)
        pairs = [pair for pair in batch.decoded if pair[0] in untried]
        parts: dict[TopicPartition, tuple[Record, D]] = {}
        keys: dict[tuple[TopicPartition, bytes | None], tuple[Record, D]] = {}
        for pair in pairs:
            part = _partition(pair[0])
            parts.setdefault(part, pair)
            keys.setdefault((part, pair[0].key), pair)
        for record, value in dict([*parts.values(), *keys.values()]).items():
            if record.topic not in batch.sound and await self._is_applied(batch, value, heartbeat):
                batch.sound.add(record.topic)
                batch.untried.remove(record)
        await self._divide_untried(batch, heartbeat)

    async def _is_applied(self, batch: Batch[D], value: D, heartbeat: Heartbeat) -> bool:
        """Applies a single record, where it does not fail."""

        async def alone(fresh: bool) -> int:
            return await self._commit([value], [], [], NOTHING, fresh=fresh)

        try:
            batch.put += await self._waiting(alone, heartbeat, again=False)
        except _Failed:
            return False
        return True

    async def _divide_untried(self, batch: Batch[D], heartbeat: Heartbeat) -> None:
        """Applies what is untried of topics of which something is applied."""
        untried = {record for record in batch.untried if record.topic in batch.sound}
        batch.untried = [record for record in batch.untried if record not in untried]
        if untried:
            pairs = [pair for pair in batch.decoded if pair[0] in untried]
            await self._divide(batch, pairs, heartbeat)

    async def _tried_again(
        self, batch: Batch[D], failure: Failure, heartbeat: Heartbeat
    ) -> Failure | None:
        """The failure of a record that failed again, after others did not."""
        if failure.is_its_own and failure.is_after_others:
            return failure
        alone: Batch[D] = Batch([], [], [])
        of_record = [pair for pair in batch.decoded if pair[0] is failure.record]
        await self._divide(alone, of_record, heartbeat)
        batch.put += alone.put
        return alone.failures[0] if alone.failures else None

    def _decode(self, records: list[Record]) -> Batch[D]:
        decoded: list[tuple[Record, D]] = []
        rejected: list[DeadLetter] = []
        for record in records:
            try:
                decoded.append((record, self._handler.decode(record)))
            except Reject as error:
                rejected.append(DeadLetter(record, str(error)))
            except MemoryError:
                raise
            except Exception as error:
                rejected.append(Failure(record, error).letter())
        return Batch(records, decoded, rejected)

    async def _divide(
        self, batch: Batch[D], decoded: list[tuple[Record, D]], heartbeat: Heartbeat
    ) -> None:
        """Applies these records of the batch, by halves around those that fail alone."""
        hopeless = {topic for topic in _topics(decoded) if batch.is_hopeless(topic)}
        batch.untried += [record for record, _ in decoded if record.topic in hopeless]
        decoded = [pair for pair in decoded if pair[0].topic not in hopeless]
        if not decoded:
            return
        values = [value for _, value in decoded]

        async def these(fresh: bool) -> int:
            return await self._commit(values, [], [], NOTHING, fresh=fresh)

        try:
            batch.put += await self._waiting(
                these, heartbeat, again=len(decoded) == 1, count=len(decoded)
            )
            batch.sound |= _topics(decoded)
            return
        except _Failed as failed:
            if len(decoded) == 1:
                put = await self._apart(values[0], failed.error, heartbeat)
                if put is None:
                    record = decoded[0][0]
                    is_after = record.topic in batch.sound
                    batch.failures.append(Failure(record, failed.error, is_after))
                batch.put += put or 0
                return
        middle = len(decoded) // 2
        await self._divide(batch, decoded[:middle], heartbeat)
        await self._divide(batch, decoded[middle:], heartbeat)

    async def _apart(self, value: D, error: Exception, heartbeat: Heartbeat) -> int | None:
        """Applies a single record that failed by `error`; None where it fails again."""

        async def alone(fresh: bool) -> int:
            async with self._engine.connect() as connection:
                if fresh:
                    await connection.invalidate()
                async with connection.begin():
                    return await self._handler.apply_apart(connection, value, error)

        try:
            return await self._waiting(alone, heartbeat, again=False)
        except _Failed:
            return None

    async def _waiting(
        self,
        transaction: Callable[[bool], Awaitable[int]],
        heartbeat: Heartbeat,
        *,
        again: bool = True,
        count: int = 1,
    ) -> int:
        """What a transaction of `count` records returns, once the surroundings let it through.
        Raises _Failed where they do not seem to be at fault, also `again` on a fresh connection,
        whose statements and types are none that it remembers; or where fewer may get through.
        """

        fresh = False

        async def attempt() -> int:
            nonlocal fresh
            heartbeat()
            try:
                put = await self._attempt(transaction, fresh=fresh, count=count)
            except _Failed as failed:
                if fresh or not again or sqlstate(failed.error) == TIMED_OUT:
                    raise
                fresh = True
                return await attempt()
            except Retry as error:
                fresh = error.__cause__ is not None and not is_away(error.__cause__)
                raise
            self.problem = ""
            return put

        return await retry_with_backoff(attempt, "batch", heartbeat)

    async def _attempt(
        self, transaction: Callable[[bool], Awaitable[int]], *, fresh: bool, count: int
    ) -> int:
        try:
            return await transaction(fresh)
        except ProgressMoved:
            raise
        except Retry as error:
            self._note("database", error)
            raise
        except Exception as error:
            state = sqlstate(error)
            if state == TWICE or (state == TIMED_OUT and count > 1):
                raise _Failed(error) from None
            if not is_transient(error) and not isinstance(error, MemoryError):
                raise _Failed(error) from None
            reason = self._note("database", error)
            raise Retry(reason) from error

    async def _commit(
        self,
        values: list[D],
        letters: list[DeadLetter],
        passed: Sequence[Record],
        polled: Polled,
        *,
        fresh: bool,
    ) -> int:
        """One transaction: dead letters, what the handler makes of the values, and the progress
        over the records that are passed.
        """
        async with self._engine.connect() as connection:
            if fresh:
                await connection.invalidate()
            async with connection.begin():
                for letter in letters:
                    await add_dead_letter(connection, self._schema, letter)
                put = await self._handler.apply(connection, values) if values else 0
                if passed:
                    offsets = next_offsets(passed)
                    await save_progress(
                        connection, self._schema, offsets, polled.starts, polled.ends
                    )
                fault_point("before_commit")
        for letter in letters:
            topic, partition, offset, *_ = letter.record
            log.error("dead_letter", topic=topic, partition=partition, offset=offset)
        DEAD_LETTERS.labels(self._schema).inc(len(letters))
        return put

    def _note(self, kind: str, error: Exception) -> str:
        """Counts, and shows as the problem, that records wait; returns the reason."""
        BATCHES_WAITING.labels(self._schema, kind).inc()
        state = sqlstate(error)
        what = str(error) if isinstance(error, Retry) else f"{type(error).__name__} {state}".strip()
        self.problem = f"records wait: {kind}, {what}"
        if kind != "database":
            log.error("records_wait", kind=kind, exc_info=error)
        return self.problem


class _Failed(Exception):
    """Something fails for which the surroundings do not seem to be at fault."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def next_offsets(records: Sequence[Record]) -> dict[Log, int]:
    """The offset behind the records of each log."""
    last: dict[tuple[str, int], Record] = {}
    for record in records:
        part = record.topic, record.partition
        if part not in last or last[part].offset < record.offset:
            last[part] = record
    return {record.log: record.offset + 1 for record in last.values()}


def _topics(decoded: Sequence[tuple[Record, D]]) -> set[str]:
    return {record.topic for record, _ in decoded}


def _partition(record: Record) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)
