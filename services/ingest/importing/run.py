"""An import from the first row to the report: batches through the normaliser to the broker, or to a
remote ingest.
"""

import asyncio
import csv
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple, Protocol, TextIO

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from services.ingest.importing.lead_count import LeadCounter
from services.ingest.importing.rows import Rows
from services.ingest.importing.table import Row, Table
from services.ingest.normalise import Normaliser, Receipt
from services.ingest.sources import imports
from services.ingest.sources.contract import Refused, Remark
from services.ingest.sources.imports import declared
from services.ingest.sources.remarks import plain, sentence
from services.shared.contracts.events import encode_bytes
from services.shared.contracts.identity import Cleaner, Identifier
from services.shared.contracts.provenance import HISTORY
from services.shared.errors import Reject, Retry
from services.shared.messaging.kafka import Outgoing, Publisher
from services.shared.spreadsheet import inert

log = structlog.get_logger()
SOURCE = imports.SOURCE.name
BATCH = 1_000  # rows
SLICE = 250  # rows after which other tasks have their turn
CONCURRENT = 3  # batches under way
NOTE_S = 10.0  # how long the audit log's line of the end is tried
RETRY_S = 60.0  # how long a batch is retried while the broker, or a remote ingest, is away
MAX_REASONS, MAX_EXAMPLES = 100, 20  # in the report
OTHER, OTHER_REMARKS = "other reasons", "other remarks"

Progress = Callable[["ImportReport", int], None]


class RejectedExample(NamedTuple):
    """A rejected row in the report: its line in the file, what is wrong, how to mend it."""

    line: int
    what: str
    remedy: str


class ImportReport(msgspec.Struct):
    """What became of the rows: counts, reasons, the `first` rejected ones. `as` and `days` are what
    the import was declared as, `events` how many interactions were sent, `remarks` how many rows
    were taken otherwise than they are written.
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
    remarks: dict[str, int] = {}
    first: list[RejectedExample] = []

    def counts(self) -> dict[str, int]:
        """What the audit log says of it when it has ended."""
        return {"rows": self.rows, "accepted": self.accepted, "rejected": self.rejected}

    def as_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        del found["first"]
        if not self.remarks:
            del found["remarks"]
        return found


class AcceptedRow(NamedTuple):
    """A row that the normaliser accepted: its items as they are sent on, and its identifiers."""

    row: Row
    items: Sequence[bytes]
    identifiers: list[Identifier]


class RefusedRow(NamedTuple):
    """A row that was refused, and why."""

    row: Row
    reject: Reject


class Batch(NamedTuple):
    """Accepted rows, and their records."""

    accepted: list[AcceptedRow]
    records: list[Outgoing]


class Sink(Protocol):
    """Where batches go; returns rows that were refused there. Raises Retry, or Reject where all
    else would fail alike.
    """

    encodes: bool

    async def put(self, batch: Batch) -> list[RefusedRow]: ...


class DryRun:
    """A dry run."""

    encodes = False

    async def put(self, batch: Batch) -> list[RefusedRow]:
        """Sends nothing."""
        return []


class BrokerSink:
    """The topics themselves."""

    encodes = False

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def put(self, batch: Batch) -> list[RefusedRow]:
        """Returns once every record is acknowledged."""
        await self._publisher.publish(batch.records)
        return []


async def noted_at_its_end(note: Callable[[], Awaitable[None]]) -> None:
    """Notes that an import has ended; that fails no import, for its rows are published."""
    give_up = time.monotonic() + NOTE_S
    while True:
        try:
            return await note()
        except (Retry, Reject, SQLAlchemyError, OSError) as error:
            if time.monotonic() >= give_up:
                log.warning("import_end_not_noted", reason=type(error).__name__)
                return None
        await asyncio.sleep(1)


class RejectedRows:
    """Writes rejected rows as they were, with line, reason and remedy before them; no cell is taken
    for a formula.
    """

    def __init__(self, file: TextIO | None, names: Sequence[str]) -> None:
        self._writer = csv.writer(file) if file else None
        self.put(["line", "reason", "remedy", *names])

    def put(self, cells: Sequence[str]) -> None:
        """Writes a line."""
        if self._writer:
            self._writer.writerow(map(inert, cells))


@dataclass(frozen=True)
class Pipeline:
    """What the rows of a file go through: reading, normalising, a sink; `key` names the API key
    under which they count, `notes` say what was decided of the file as a whole.
    """

    table: Table
    rows: Rows
    normaliser: Normaliser
    cleaner: Cleaner
    sink: Sink
    now: datetime
    key: str = "default"
    notes: Mapping[str, int] = field(default_factory=dict)


class Import:
    """One file on its way."""

    def __init__(
        self,
        pipeline: Pipeline,
        report: ImportReport,
        rejects: TextIO | None = None,
        progress: Progress = lambda report, done: None,
    ) -> None:
        self._pipeline, self._sink, self.report = pipeline, pipeline.sink, report
        self._rejects = RejectedRows(rejects, pipeline.table.header.names)
        self._progress, self._source = progress, f"{SOURCE}:{pipeline.key}"
        self._provenance = declared(report.as_, report.days)
        self._reasons: Counter[str] = Counter()
        self._remarks: Counter[str] = Counter()
        self._leads = LeadCounter()

    async def run(self) -> ImportReport:
        """Reads, sends and counts. Raises Retry where a dependency stays away, Reject where it
        refuses everything.
        """
        under_way: deque[asyncio.Task[None]] = deque()
        table = self._pipeline.table
        rows = table.rows()
        try:
            while batch := await self._next(rows):
                if len(under_way) >= CONCURRENT:
                    await under_way.popleft()
                under_way.append(asyncio.create_task(self._deliver(batch)))
                self._update(table.done)
            while under_way:
                await under_way.popleft()
            self.report.leads = self._leads.count()
            self._update(table.bytes)
            return self.report
        finally:
            for task in under_way:
                task.cancel()
                with suppress(asyncio.CancelledError, Retry, Reject):
                    await task
            self._leads.close()

    def _update(self, done: int) -> None:
        self.report.reasons = dict(self._reasons.most_common())
        notes = {**self._pipeline.notes, **self._pipeline.table.notes}
        self.report.remarks = notes | dict(self._remarks.most_common())
        self._progress(self.report, done)

    async def _next(self, rows: Iterator[Row]) -> Batch | None:
        """The next rows that the normaliser accepts; None at the end of the file."""
        receipt = Receipt(
            self._source, self._pipeline.now, time.time(), many=False, provenance=self._provenance
        )
        accepted: list[AcceptedRow] = []
        seen = 0
        for _ in range(BATCH // SLICE):
            for row in islice(rows, SLICE):
                seen += 1
                if taken := self._take(row, receipt):
                    accepted.append(taken)
            await asyncio.sleep(0)
        self.report.rows += seen
        return Batch(accepted, receipt.records) if seen else None

    def _take(self, row: Row, receipt: Receipt) -> AcceptedRow | None:
        """The row as records in the receipt, all of them or none."""
        items = Refused(None, row.reject) if row.reject else self._pipeline.rows.read(row.cells)
        if isinstance(items, Refused):
            self._refuse(row, items.reject)
            return None
        sent = [plain(item) for item in items]
        encoded = [encode_bytes(item) for item in sent] if self._sink.encodes else ()
        records, ids = len(receipt.records), len(receipt.ids)
        self._pipeline.normaliser.take(items, receipt)
        if receipt.refused:
            self._refuse(row, receipt.refused[0].reject)
            receipt.refused.clear()
            receipt.remarks.clear()
            del receipt.records[records:], receipt.ids[ids:]
            return None
        if receipt.remarks:
            self._remark({placed.remark for placed in receipt.remarks})
            receipt.remarks.clear()
        identifiers = self._pipeline.cleaner.identifiers(sent[0])
        return AcceptedRow(row, encoded or [b""] * len(sent), identifiers)

    def _remark(self, remarks: Iterable[Remark]) -> None:
        """Counts the remarks on a row, each once."""
        for text in {f"{remark.where.strip('/')}: {sentence(remark)}" for remark in remarks}:
            known = text in self._remarks or len(self._remarks) < MAX_REASONS
            self._remarks[text if known else OTHER_REMARKS] += 1

    async def _deliver(self, batch: Batch) -> None:
        refused = {id(row): (row, reject) for row, reject in await _with_retry(self._sink, batch)}
        for row, reject in refused.values():
            self._refuse(row, reject)
        good = [accepted for accepted in batch.accepted if id(accepted.row) not in refused]
        self.report.accepted += len(good)
        self.report.events += sum(len(accepted.items) for accepted in good)
        self._leads.add(accepted.identifiers for accepted in good)

    def _refuse(self, row: Row, reject: Reject) -> None:
        report, reason = self.report, reject.title
        report.rejected += 1
        self._reasons[
            reason if reason in self._reasons or len(self._reasons) < MAX_REASONS else OTHER
        ] += 1
        if len(report.first) < MAX_EXAMPLES:
            report.first.append(RejectedExample(row.line, str(reject), reject.remedy))
        self._rejects.put([str(row.line), reason, reject.remedy, *row.cells])


async def _with_retry(sink: Sink, batch: Batch) -> list[RefusedRow]:
    """Sends a batch, repeatedly for `RETRY_S` while the sink is away; repetitions count once."""
    wait, give_up = 0.5, time.monotonic() + RETRY_S
    while True:
        try:
            return await sink.put(batch)
        except Retry:
            if time.monotonic() + wait > give_up:
                raise
            await asyncio.sleep(wait)
            wait = min(wait * 2, 8)
