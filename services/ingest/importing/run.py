"""An import from the first row to the report: batches through the normaliser to the broker, or to a
distant ingest.
"""

import asyncio
import csv
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple, Protocol, TextIO

import msgspec

from services.ingest.importing.lead_count import People
from services.ingest.importing.rows import Rows
from services.ingest.importing.table import Row, Table
from services.ingest.normalise import Normaliser, Receipt
from services.ingest.sources.contract import Refused
from services.ingest.sources.imports import declared
from services.shared.contracts.events import encode_bytes
from services.shared.contracts.identity import Cleaner, Identifier
from services.shared.contracts.provenance import HISTORY
from services.shared.errors import Reject, Retry
from services.shared.messaging.kafka import Outgoing, Publisher

DOOR = "import"
BATCH = 1_000  # rows
SLICE = 250  # rows between which others have their turn
AT_ONCE = 3  # batches under way
PATIENCE_S = 60.0  # while the broker, or a distant ingest, is away
MAX_REASONS = 100
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with which spreadsheets begin to compute
OTHER = "other reasons"

Progress = Callable[["Report", int], None]


class Report(msgspec.Struct):
    """What became of the rows; `as` and `days` say what the import was taken for, `events` how many
    were sent.
    """

    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    leads: int = 0
    reasons: dict[str, int] = {}
    events: int = 0
    as_: str = msgspec.field(default=HISTORY, name="as")
    days: int = 0
    dry_run: bool = False
    first: list[tuple[int, str, str]] = []

    def as_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        return {name: value for name, value in msgspec.to_builtins(self).items() if name != "first"}


class Taken(NamedTuple):
    """A row that the normaliser took: its items as they are sent on, and who it is about."""

    row: Row
    items: Sequence[bytes]
    who: list[Identifier]


class Batch(NamedTuple):
    """Rows that were taken, and their records."""

    taken: list[Taken]
    records: list[Outgoing]


class Sink(Protocol):
    """Where batches go; returns rows that were refused there. Raises Retry, or Reject where all
    else would fail alike.
    """

    encodes: bool

    async def put(self, batch: Batch) -> list[tuple[Row, Reject]]: ...


class Nowhere:
    """A dry run."""

    encodes = False

    async def put(self, batch: Batch) -> list[tuple[Row, Reject]]:
        """Sends nothing."""
        return []


class Broker:
    """The topics themselves."""

    encodes = False

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def put(self, batch: Batch) -> list[tuple[Row, Reject]]:
        """Returns once every record is acknowledged."""
        await self._publisher.publish(batch.records)
        return []


class Rejects:
    """Writes rejected rows as they were, with line, reason and remedy before them; no cell computes
    anything.
    """

    def __init__(self, file: TextIO | None, names: Sequence[str]) -> None:
        self._writer = csv.writer(file) if file else None
        self.put(["line", "reason", "remedy", *names])

    def put(self, cells: Sequence[str]) -> None:
        """Writes a line."""
        if self._writer:
            self._writer.writerow(
                [f"'{cell}" if cell.startswith(FORMULA) else cell for cell in cells]
            )


class Import:
    """One file on its way."""

    def __init__(
        self, table: Table, rows: Rows, normaliser: Normaliser, cleaner: Cleaner, sink: Sink, *,
        report: Report, now: datetime, key: str = "default",
        rejects: TextIO | None = None, progress: Progress = lambda report, done: None,
    ) -> None:  # fmt: skip
        self._table, self._rows, self._normaliser, self._cleaner, self._sink = (
            table,
            rows,
            normaliser,
            cleaner,
            sink,
        )
        self._rejects = Rejects(rejects, table.header.names)
        self._progress, self._now, self._door = progress, now, f"{DOOR}:{key}"
        self._provenance = declared(report.as_, report.days)
        self._reasons: Counter[str] = Counter()
        self._people = People()
        self.report = report

    async def run(self) -> Report:
        """Reads, sends and counts. Raises Retry where a dependency stays away, Reject where it
        refuses everything.
        """
        under_way: deque[asyncio.Task[None]] = deque()
        rows = self._table.rows()
        try:
            while batch := await self._next(rows):
                if len(under_way) >= AT_ONCE:
                    await under_way.popleft()
                under_way.append(asyncio.create_task(self._deliver(batch)))
                self._tell(self._table.done)
            while under_way:
                await under_way.popleft()
            self.report.leads = self._people.count()
            self._tell(self._table.bytes)
            return self.report
        finally:
            for task in under_way:
                task.cancel()
                with suppress(asyncio.CancelledError, Retry, Reject):
                    await task
            self._people.close()

    def _tell(self, done: int) -> None:
        self.report.reasons = dict(self._reasons.most_common())
        self._progress(self.report, done)

    async def _next(self, rows: Iterator[Row]) -> Batch | None:
        """The next rows that the normaliser takes; None at the end."""
        receipt = Receipt(
            self._door, self._now, time.time(), many=False, provenance=self._provenance
        )
        taken: list[Taken] = []
        seen = 0
        for _ in range(BATCH // SLICE):
            for row in islice(rows, SLICE):
                seen += 1
                if one := self._take(row, receipt):
                    taken.append(one)
            await asyncio.sleep(0)
        self.report.rows += seen
        return Batch(taken, receipt.records) if seen else None

    def _take(self, row: Row, receipt: Receipt) -> Taken | None:
        """The row as records in the receipt, all of them or none."""
        items = Refused(None, row.reject) if row.reject else self._rows.read(row.cells)
        if isinstance(items, Refused):
            self._refuse(row, items.reject)
            return None
        encoded = [encode_bytes(item) for item in items] if self._sink.encodes else ()
        records, ids = len(receipt.records), len(receipt.ids)
        self._normaliser.take(items, receipt)
        if receipt.refused:
            self._refuse(row, receipt.refused[0][2])
            receipt.refused.clear()
            del receipt.records[records:], receipt.ids[ids:]
            return None
        return Taken(row, encoded or [b""] * len(items), self._cleaner.identifiers(items[0]))

    async def _deliver(self, batch: Batch) -> None:
        refused = await _patiently(self._sink, batch)
        lost = {id(row) for row, _ in refused}
        for row, reject in {id(row): (row, reject) for row, reject in refused}.values():
            self._refuse(row, reject)
        good = [taken for taken in batch.taken if id(taken.row) not in lost]
        self.report.accepted += len(good)
        self.report.events += sum(len(taken.items) for taken in good)
        self._people.add(taken.who for taken in good)

    def _refuse(self, row: Row, reject: Reject) -> None:
        report, reason = self.report, reject.title
        report.rejected += 1
        self._reasons[
            reason if reason in self._reasons or len(self._reasons) < MAX_REASONS else OTHER
        ] += 1
        if len(report.first) < 20:
            report.first.append((row.line, str(reject), reject.remedy))
        self._rejects.put([str(row.line), reason, reject.remedy, *row.cells])


async def _patiently(sink: Sink, batch: Batch) -> list[tuple[Row, Reject]]:
    """Repeats while the sink is away, for a minute; what arrived twice counts once."""
    wait, give_up = 0.5, time.monotonic() + PATIENCE_S
    while True:
        try:
            return await sink.put(batch)
        except Retry:
            if time.monotonic() + wait > give_up:
                raise
            await asyncio.sleep(wait)
            wait = min(wait * 2, 8)
