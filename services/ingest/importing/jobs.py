"""Files that people upload to the page: on disk for an hour, mapped, tried and imported one after
the other.
"""

import asyncio
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import structlog
import yaml

from services.ingest.importing.facts import Facts
from services.ingest.importing.guess import guess, written
from services.ingest.importing.header import Header
from services.ingest.importing.mapping_file import MappingFile, load
from services.ingest.importing.opening import (
    answered,
    encoding_questions,
    examine,
    reading_of,
)
from services.ingest.importing.questions import Question, Uncertain
from services.ingest.importing.rows import Rows
from services.ingest.importing.run import (
    BrokerSink,
    DryRun,
    Import,
    ImportReport,
    Pipeline,
    Sink,
    noted_at_its_end,
)
from services.ingest.importing.table import Table
from services.ingest.normalise import Normaliser
from services.shared.clock import Clock
from services.shared.errors import Reject, Retry
from services.shared.messaging.kafka import Publisher
from services.shared.people.audit import Actor
from services.shared.runtime import Heartbeat

log = structlog.get_logger()
MAX_BYTES = 256 * 1024 * 1024  # of a file
MAX_FILES = 20
KEPT_S = 3600.0  # since its last use
SAMPLE_ROWS = 200  # from which a mapping is guessed
CHECK_S = 5.0
DEFAULT_KEY = "default"
TABLE, REJECTED = "table.csv", "rejected.csv"


class Job:
    """A dry run or an import under way: its report so far, and how it ended."""

    def __init__(
        self, report: ImportReport, total: int, ended: Callable[[], Awaitable[None]]
    ) -> None:
        self.report, self.total, self.done, self.has_ended = report, max(total, 1), 0, ended
        self.ended, self.problem = False, ""
        self.asks = False  # whether it ended because the file can be read in several ways
        self.task: asyncio.Task[None] | None = None

    @property
    def percent(self) -> int:
        """How much of the file has been read."""
        return min(100 * self.done // self.total, 100)


class UploadedFile:
    """One file: its columns with examples, the mapping as it stands, and what has been done with
    it.
    """

    def __init__(self, folder: Path, name: str, owner: Actor) -> None:
        self.id, self.folder, self.name, self.owner = folder.name, folder, name, owner
        self.used_at = time.monotonic()
        self.header, self.rows, self.shape = Header([]), list[list[str]](), ""
        self.text = ""
        self.reading: dict[str, Any] = {}
        self.questions: Sequence[Question] = ()
        self.job: Job | None = None

    @property
    def key_name(self) -> str:
        """The name under which its rows are known again: of the key, and for all people the name of
        an installation's first key, so that the file of two colleagues counts once.
        """
        return self.owner.name if self.owner.kind == "key" else DEFAULT_KEY

    @property
    def table(self) -> Path:
        """The file as it came."""
        return self.folder / TABLE

    @property
    def rejected(self) -> Path:
        """The rejected rows."""
        return self.folder / REJECTED

    @property
    def mapping(self) -> dict[str, Any]:
        """The mapping as plain data; empty where it cannot be read."""
        try:
            given = yaml.load(self.text, yaml.CBaseLoader)
        except yaml.YAMLError:
            return {}
        return given if isinstance(given, dict) else {}

    def read_sample(self, facts: Facts) -> None:
        """Reads the first rows, and guesses what the columns mean; lines before the header are left
        out. Raises Reject where it is no table.
        """
        if skipped := self.read({}):
            self.read({"skip_lines": skipped})
        self.text = written(guess(self.header, self.rows, self.name, facts.types) | self.reading)

    def read(self, reading: Mapping[str, Any]) -> int:
        """Reads the first rows as the mapping says that the file is read; returns how many lines
        seem to stand before the header. Raises Reject.
        """
        with closing(Table(self.table, **reading, folder=self.folder)) as table:
            skipped = table.skip_lines
            self.shape = ", ".join(
                [table.encoding]
                + ([f"delimiter {table.delimiter!r}"] if table.delimiter else [])
                + ([f"{skipped} lines before the header left out"] if skipped else [])
            )
            self.rows = [row.cells for row in islice(table.rows(), SAMPLE_ROWS) if not row.reject]
            self.questions = encoding_questions(table, self.table)
            self.header, self.reading = table.header, dict(reading)
            return table.skippable

    def answer(self, number: int, answer: str) -> str:
        """The mapping with a question answered. Raises Reject."""
        choices = self.questions[number].choices if number < len(self.questions) else []
        if answer not in (choice.answer for choice in choices):
            raise Reject("no such answer", remedy="choose one of those on the page")
        path = self.questions[number].path
        self.questions = [*self.questions[:number], *self.questions[number + 1 :]]
        return written(answered(self.mapping, path, answer))


class ImportJobs:
    """Keeps the files below `folder`, which belongs to this process alone."""

    def __init__(
        self, folder: Path, facts: Facts, pepper: bytes, publisher: Publisher, clock: Clock
    ) -> None:
        self.folder, self.facts = folder, facts
        self._cleaner = facts.cleaner()
        self._normaliser = Normaliser(
            self._cleaner, pepper, facts.sales(), frozenset(facts.own_crm_fields)
        )
        self._publisher, self._clock = publisher, clock
        self._files: dict[str, UploadedFile] = {}
        self._running = asyncio.Lock()

    def add(self, name: str, owner: Actor) -> UploadedFile:
        """Makes a folder for a new file. Raises Reject `too-many`."""
        if len(self._files) >= MAX_FILES:
            raise Reject(
                f"{MAX_FILES} files are here already",
                remedy="remove one, or wait an hour",
                kind="too-many",
            )
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(mode=0o700, parents=True)
        file = UploadedFile(folder, name, owner)
        self._files[file.id] = file
        return file

    def find(self, file_id: str, owner: Actor) -> UploadedFile:
        """A file that this person or key uploaded. Raises Reject `not-found`."""
        file = self._files.get(file_id)
        if not file or file.owner.id != owner.id:
            raise Reject(
                "this file is not here",
                remedy="upload it again; files are kept for an hour",
                kind="not-found",
            )
        return file

    def of(self, owner: Actor) -> Iterator[UploadedFile]:
        """Every file that this person or key uploaded, newest first."""
        return (file for file in reversed(self._files.values()) if file.owner.id == owner.id)

    def start(
        self, file: UploadedFile, report: ImportReport, ended: Callable[[], Awaitable[None]]
    ) -> None:
        """Begins a dry run or an import; `ended` is called once an import has. Raises like
        `checked`.
        """
        plan = self.checked(file)
        file.job = Job(report, file.table.stat().st_size, ended)
        file.job.task = asyncio.create_task(self._run(file, file.job, plan))

    def checked(self, file: UploadedFile) -> MappingFile:
        """The mapping of a file that can be imported. Raises `InvalidFile` where it does not fit,
        Reject where an import is under way.
        """
        if file.job and not file.job.ended:
            raise Reject("it is under way already", remedy="wait until it has ended")
        if file.questions:
            raise Uncertain(file.questions)
        plan = load(file.text, "the mapping")
        Rows(plan, file.header, self.facts)
        return plan

    async def _run(self, file: UploadedFile, job: Job, plan: MappingFile) -> None:
        try:
            async with self._running:
                file.used_at = time.monotonic()
                await self._import(file, job, plan)
        except Uncertain as uncertain:
            file.questions, job.asks = uncertain.questions, True
        except (Reject, Retry, OSError) as error:
            job.problem = f"{error}. What was sent stays; start it again, nothing counts twice"
        except Exception as error:
            job.problem = "an error of ours; look into the log"
            log.error("import_failed", exc_info=error)
        finally:
            job.ended = True
            file.used_at = time.monotonic()

    async def _import(self, file: UploadedFile, job: Job, plan: MappingFile) -> None:
        def progress(_: ImportReport, done: int) -> None:
            job.done = done

        sink: Sink = DryRun() if job.report.dry_run else BrokerSink(self._publisher)
        reading = reading_of(plan.mapping)
        opening = partial(Table, file.table, **reading, folder=file.folder)
        with closing(await asyncio.to_thread(opening)) as table:
            survey = await examine(table, file.table, plan.mapping)
            now = self._clock.now()
            rows = Rows(plan, table.header, self.facts, survey.manners(), now)
            with file.rejected.open("w", encoding="utf-8-sig", newline="") as rejects:
                pipeline = Pipeline(
                    table, rows, self._normaliser, self._cleaner, sink, now, file.key_name,
                    rows.notes() | survey.notes(),
                )  # fmt: skip
                await Import(pipeline, job.report, rejects, progress).run()
        if not job.report.dry_run:
            await noted_at_its_end(job.has_ended)

    def remove(self, file: UploadedFile) -> None:
        """Deletes a file; an import of it that runs is cancelled."""
        if file.job and file.job.task:
            file.job.task.cancel()
        self._files.pop(file.id, None)
        shutil.rmtree(file.folder, ignore_errors=True)

    async def delete_old(self, heartbeat: Heartbeat) -> None:
        """Deletes files unused for an hour, first those that an earlier process left."""
        with suppress(OSError):
            shutil.rmtree(self.folder)
        while True:
            heartbeat()
            for file in list(self._files.values()):
                busy = file.job and not file.job.ended
                if not busy and time.monotonic() - file.used_at > KEPT_S:
                    self.remove(file)
            await asyncio.sleep(CHECK_S)

    async def close(self) -> None:
        """Ends what is running, and deletes everything."""
        for file in list(self._files.values()):
            self.remove(file)
