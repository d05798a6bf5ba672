"""Imports a file of leads, events or suppressions, here or through another ingest."""

import asyncio
import gc
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from services.ingest.importing.facts import Facts, facts_of
from services.ingest.importing.guess import guess, written
from services.ingest.importing.mapping_file import MappingFile
from services.ingest.importing.opening import examine, reading_of
from services.ingest.importing.remote import RemoteIngest
from services.ingest.importing.rows import Rows
from services.ingest.importing.run import (
    Batch,
    BrokerSink,
    DryRun,
    Import,
    ImportReport,
    Pipeline,
    RefusedRow,
    Sink,
    noted_at_its_end,
)
from services.ingest.importing.table import Table
from services.ingest.normalise import Normaliser
from services.ops.commands.status import read as read_status
from services.ops.embedded.state import embeds_broker
from services.shared import installation
from services.shared.clock import Clock
from services.shared.db import open_engine
from services.shared.errors import Reject
from services.shared.messaging.kafka import Publisher
from services.shared.people.audit import command_line, record
from services.shared.playbook.loading import load
from services.shared.settings import Settings

ROWS_TO_GUESS_FROM = 200
# records that may wait in the in-memory broker, which drops what it has no room for
MAX_LAG = 20_000
LAG_POLL_S = 0.5
# rows make objects that die with their batch; looking for cycles among them costs an eighth
GC_THRESHOLD = (50_000, 20, 50)

Progress = Callable[[ImportReport, int], None]


class Job(NamedTuple):
    """What is to be imported; `report` holds what the import says that it is, `rejects` is a file
    for rejected rows.
    """

    file: Path
    written: MappingFile
    report: ImportReport
    rejects: Path | None


def guessed_mapping(file: Path, settings: Settings) -> str:
    """The YAML of the mapping that the file's columns suggest. Raises Reject."""
    with closing(_opened(file)) as table:
        skipped = table.skippable
    with closing(_opened(file, skip_lines=skipped)) as table:
        rows = [row.cells for row in islice(table.rows(), ROWS_TO_GUESS_FROM) if not row.reject]
    types = facts_of(load(settings.playbook)).types
    found = guess(table.header, rows, file.name, types)
    return written(found | ({"skip_lines": skipped} if skipped else {}))


async def import_here(job: Job, settings: Settings, progress: Progress) -> ImportReport:
    """Through the same normaliser as ingest, straight to the broker. Raises Reject where the
    database was made with another pepper, for then nobody would know the consents again.
    """
    publisher = Publisher(settings)
    sink: Sink = DryRun() if job.report.dry_run else BrokerSink(publisher)
    if not job.report.dry_run and embeds_broker(settings.kafka_bootstrap):
        sink = Paced(sink, settings)
    try:
        report = await _import(job, facts_of(load(settings.playbook)), sink, settings, progress)
        if not report.dry_run:
            await noted_at_its_end(partial(_record, job, settings, report.counts()))
        return report
    finally:
        await publisher.close()


async def import_through(job: Job, url: str, key: str, progress: Progress) -> ImportReport:
    """By way of another ingest, whose playbook counts."""
    declared = job.report.as_, job.report.days, job.file.name
    async with RemoteIngest(url, key, *declared) as ingest:
        if job.report.dry_run:
            return await _import(job, await ingest.facts(), DryRun(), None, progress)
        report = await _import(job, await ingest.facts(), ingest, None, progress)
        await noted_at_its_end(partial(ingest.end, report))
        return report


async def _import(
    job: Job, facts: Facts, sink: Sink, settings: Settings | None, progress: Progress
) -> ImportReport:
    pepper = settings.pepper.get_secret_value().encode() if settings else b""
    clock = Clock.parse(settings.clock if settings else "")
    mapping, cleaner = job.written.mapping, facts.cleaner()
    normaliser = Normaliser(cleaner, pepper, facts.sales(), frozenset(facts.own_crm_fields))
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    with ExitStack() as stack:
        table = _opened(job.file, **reading_of(mapping))
        stack.callback(table.close)
        Rows(job.written, table.header, facts)
        survey = await examine(table, job.file, mapping)
        rows = Rows(job.written, table.header, facts, survey.manners(), clock.now())
        if settings and not job.report.dry_run:
            await installation.check_at_once(settings)
            await _record(job, settings)
        rejects = (
            stack.enter_context(job.rejects.open("w", encoding="utf-8-sig", newline=""))
            if job.rejects
            else None
        )
        pipeline = Pipeline(
            table, rows, normaliser, cleaner, sink, clock.now(), notes=rows.notes() | survey.notes()
        )
        return await Import(pipeline, job.report, rejects, progress).run()


async def _record(job: Job, settings: Settings, counts: Mapping[str, int] | None = None) -> None:
    """Says in the audit log that the import begins, or with its `counts` that it has ended."""
    engine = open_engine(settings)
    details = {"as": job.report.as_, "days": job.report.days, **(counts or {})}
    try:
        async with engine.begin() as connection:
            await record(connection, command_line(), "import", f"file {job.file.name}", details)
    finally:
        await engine.dispose()


class Paced:
    """A sink that waits where the in-memory broker would drop what the scorer has not read yet."""

    encodes = False

    def __init__(self, sink: Sink, settings: Settings) -> None:
        self._sink, self._settings = sink, settings

    async def put(self, batch: Batch) -> list[RefusedRow]:
        """Waits until there is room."""
        # the lag is known by asking only
        while (await read_status(self._settings)).lag["scorer"] > MAX_LAG:  # noqa: ASYNC110
            await asyncio.sleep(LAG_POLL_S)
        return await self._sink.put(batch)


def _opened(file: Path, **reading: Any) -> Table:
    """The rows of a file. Raises Reject where it cannot be read."""
    try:
        return Table(file, **reading)
    except OSError as error:
        raise Reject(
            f"cannot be read: {error.strerror}",
            where=file.name,
            remedy="name a CSV file or a spreadsheet",
        ) from None
