"""Files that people have brought to the page: on disk for an hour, mapped, tried and imported one
after the other.
"""

import asyncio
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import structlog
import yaml

from services.ingest.importing.facts import Facts
from services.ingest.importing.guess import guess, written
from services.ingest.importing.mapping import Header, Written, load
from services.ingest.importing.rows import Rows
from services.ingest.importing.run import Broker, Import, Nowhere, Report
from services.ingest.importing.table import Table
from services.ingest.normalise import Normaliser
from services.shared.clock import Clock
from services.shared.errors import Reject, Retry
from services.shared.http.keys import ApiKey
from services.shared.messaging.kafka import Publisher
from services.shared.runtime import Heartbeat

log = structlog.get_logger()
MAX_BYTES = 256 * 1024 * 1024
MAX_FILES = 20
KEPT_S = 3600.0
LOOKED_AT = 200  # rows
TABLE, REJECTED = "table.csv", "rejected.csv"


class Job:
    """A dry run or an import under way: its report so far, and how it ended."""

    def __init__(self, report: Report, total: int) -> None:
        self.report, self.total, self.done = report, max(total, 1), 0
        self.ended, self.problem = False, ""
        self.task: asyncio.Task[None] | None = None

    @property
    def percent(self) -> int:
        """How much of the file has been read."""
        return min(100 * self.done // self.total, 100)


class Brought:
    """One file: its columns with examples, the mapping as it stands, and what has been done with
    it.
    """

    def __init__(self, folder: Path, name: str, key: ApiKey) -> None:
        self.id, self.folder, self.name, self.key = folder.name, folder, name, key
        self.at = time.monotonic()
        self.header, self.rows, self.shape = Header([]), list[list[str]](), ""
        self.text = ""
        self.job: Job | None = None

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

    def look(self, facts: Facts) -> None:
        """Reads the beginning, and guesses what the columns mean. Raises Reject where it is no
        table.
        """
        table = Table(self.table)
        try:
            self.header, self.shape = (
                table.header,
                f"{table.encoding}, delimiter {table.delimiter!r}",
            )
            self.rows = [row.cells for row in islice(table.rows(), LOOKED_AT) if not row.reject]
        finally:
            table.close()
        self.text = written(guess(self.header, self.rows, self.name, facts.types))


class Desk:
    """Keeps the files below `folder`, which belongs to this process alone."""

    def __init__(
        self, folder: Path, facts: Facts, pepper: bytes, publisher: Publisher, clock: Clock
    ) -> None:
        self.folder, self.facts = folder, facts
        self._cleaner = facts.cleaner()
        self._normaliser = Normaliser(self._cleaner, pepper, facts.sales(), frozenset(facts.ours))
        self._publisher, self._clock = publisher, clock
        self._files: dict[str, Brought] = {}
        self._turn = asyncio.Lock()

    def place(self, name: str, key: ApiKey) -> Brought:
        """Room for a new file. Raises Reject `too-many`."""
        if len(self._files) >= MAX_FILES:
            raise Reject(
                f"{MAX_FILES} files are here already",
                remedy="remove one, or wait an hour",
                kind="too-many",
            )
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(mode=0o700, parents=True)
        brought = Brought(folder, name, key)
        self._files[brought.id] = brought
        return brought

    def find(self, number: str, key: ApiKey) -> Brought:
        """A file that was brought with this key. Raises Reject `not-found`."""
        brought = self._files.get(number)
        if not brought or brought.key.id != key.id:
            raise Reject(
                "this file is not here",
                remedy="bring it again; files are kept for an hour",
                kind="not-found",
            )
        return brought

    def of(self, key: ApiKey) -> Iterator[Brought]:
        """Everything that was brought with this key, newest first."""
        return (one for one in reversed(self._files.values()) if one.key.id == key.id)

    def start(self, brought: Brought, report: Report) -> None:
        """Begins a dry run or an import. Raises `InvalidFile` or Reject where the mapping does not
        fit, or one is under way.
        """
        if brought.job and not brought.job.ended:
            raise Reject("it is under way already", remedy="wait until it has ended")
        plan = load(brought.text, "the mapping")
        Rows(plan, brought.header, self.facts)
        brought.job = Job(report, brought.table.stat().st_size)
        brought.job.task = asyncio.create_task(self._run(brought, brought.job, plan))

    async def _run(self, brought: Brought, job: Job, plan: Written) -> None:
        def progress(_: Report, done: int) -> None:
            job.done = done

        try:
            async with self._turn:
                brought.at = time.monotonic()
                table = Table(brought.table, plan.mapping.encoding, plan.mapping.delimiter)
                try:
                    with brought.rejected.open("w", encoding="utf-8-sig", newline="") as rejects:
                        await Import(
                            table, Rows(plan, table.header, self.facts), self._normaliser,
                            self._cleaner,
                            Nowhere() if job.report.dry_run else Broker(self._publisher),
                            report=job.report, now=self._clock.now(), key=brought.key.name,
                            rejects=rejects, progress=progress,
                        ).run()  # fmt: skip
                finally:
                    table.close()
        except (Reject, Retry, OSError) as error:
            job.problem = f"{error}. What was sent stays; start it again, nothing counts twice"
        except Exception as error:
            job.problem = "an error of ours; look into the log"
            log.error("import_failed", exc_info=error)
        finally:
            job.ended = True
            brought.at = time.monotonic()

    def remove(self, brought: Brought) -> None:
        """Forgets a file."""
        if brought.job and brought.job.task:
            brought.job.task.cancel()
        self._files.pop(brought.id, None)
        shutil.rmtree(brought.folder, ignore_errors=True)

    async def tidy(self, heartbeat: Heartbeat) -> None:
        """Removes what has rested for an hour, at first what an earlier process left."""
        with suppress(OSError):
            shutil.rmtree(self.folder)
        while True:
            heartbeat()
            for brought in list(self._files.values()):
                busy = brought.job and not brought.job.ended
                if not busy and time.monotonic() - brought.at > KEPT_S:
                    self.remove(brought)
            await asyncio.sleep(5)

    async def close(self) -> None:
        """Ends what is under way, and removes everything."""
        for brought in list(self._files.values()):
            self.remove(brought)
