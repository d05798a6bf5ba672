"""When each source last posted, and what became of it: counted in memory, stored every second."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.ingest.sources.contract import Remark, SetupGuide, Source
from services.shared.contracts.events import encode_bytes
from services.shared.db import is_transient, rows
from services.shared.errors import Retry
from services.shared.runtime import Heartbeat, refresh_every_second

MAX_REMARKS_A_SECOND = 200  # different ones kept in memory
MAX_REMARKS_STORED = 100  # different ones of a source


class Counts(msgspec.Struct):
    """What came from a source since its counts were last stored."""

    accepted: int = 0
    refused: int = 0
    last_refusal: str = ""


class SourceGuide(msgspec.Struct, frozen=True):
    """How a source is connected at an installation: its set-up guide with the addresses filled in;
    keys are left to be filled in by who shows it.
    """

    title: str
    address: str
    signs: bool
    steps: list[str]
    snippet: str


class SourceStatistics:
    """Counts by source; people read them in `ripeline sources` and on the page."""

    def __init__(self, engine: AsyncEngine, sources: Iterable[Source], public_url: str) -> None:
        self._engine = engine
        self._guides = {source.name: source_guide(source, public_url) for source in sources}
        self._counts: defaultdict[str, Counts] = defaultdict(Counts)
        self._remarks: Counter[tuple[str, Remark]] = Counter()
        self._are_sources_stored = False

    def count(self, source: str, accepted: int, refused: int = 0, last_refusal: str = "") -> None:
        """Counts one request; `last_refusal` is the kind of a problem, never what somebody
        wrote.
        """
        counts = self._counts[source]
        counts.accepted += accepted
        counts.refused += refused
        counts.last_refusal = last_refusal or counts.last_refusal

    def count_remarks(self, source: str, remarks: Iterable[Remark]) -> None:
        """Counts remarks on accepted items; of many different ones in a second the rest are
        counted by their kind.
        """
        for remark in remarks:
            key = source, remark
            if key not in self._remarks and len(self._remarks) >= MAX_REMARKS_A_SECOND:
                key = source, Remark(remark.kind, "")
            self._remarks[key] += 1

    async def refresh(self, heartbeat: Heartbeat) -> None:
        """Stores what is new every second."""
        await refresh_every_second(self.store, heartbeat, "source_statistics_wait")

    async def store(self) -> None:
        """Stores what is new. Raises Retry while the database is away; the counts are kept then."""
        counts = {
            source: msgspec.structs.replace(counted)
            for source, counted in self._counts.items()
            if source in self._guides
        }
        remarks = {key: seen for key, seen in self._remarks.items() if key[0] in self._guides}
        if self._are_sources_stored and not counts and not remarks:
            return
        try:
            async with self._engine.begin() as connection:
                if not self._are_sources_stored:
                    await _store_sources(connection, self._guides)
                for source, counted in sorted(counts.items()):
                    await _add_counts(connection, source, counted)
                if remarks:
                    await _add_remarks(connection, remarks)
        except Exception as error:
            if is_transient(error):
                raise Retry("the database is away") from error
            raise
        self._are_sources_stored = True
        self._subtract(counts)
        self._remarks.subtract(remarks)
        self._remarks = +self._remarks

    def _subtract(self, stored: dict[str, Counts]) -> None:
        """Takes off what was stored; more may have been counted meanwhile."""
        for source, counted in stored.items():
            rest = self._counts[source]
            rest.accepted -= counted.accepted
            rest.refused -= counted.refused
            if not (rest.accepted or rest.refused):
                del self._counts[source]


async def _store_sources(connection: AsyncConnection, guides: dict[str, SourceGuide]) -> None:
    await connection.execute(
        text("UPDATE access.source SET served = false WHERE name <> ALL(:names)"),
        {"names": list(guides)},
    )
    await connection.execute(
        text(
            "INSERT INTO access.source (name, about) VALUES (:name, CAST(:about AS jsonb)) "
            "ON CONFLICT (name) DO UPDATE SET about = excluded.about, served = true"
        ),
        [
            {"name": name, "about": encode_bytes(guide).decode()}
            for name, guide in sorted(guides.items())
        ],
    )


async def _add_counts(connection: AsyncConnection, source: str, counts: Counts) -> None:
    await connection.execute(
        text(
            "UPDATE access.source SET last_heard_at = clock_timestamp(), "
            "accepted = accepted + :accepted, first_heard_at = CASE WHEN :accepted > 0 "
            "THEN coalesce(first_heard_at, clock_timestamp()) ELSE first_heard_at END, "
            "refused = refused + :refused, "
            "last_refusal = coalesce(nullif(:last_refusal, ''), last_refusal) WHERE name = :source"
        ),
        {"source": source, **msgspec.structs.asdict(counts)},
    )


async def _add_remarks(
    connection: AsyncConnection, remarks: Mapping[tuple[str, Remark], int]
) -> None:
    """Counts remarks; a source has a bounded number of different ones, and what is more is counted
    by its kind.
    """
    found = await rows(
        connection,
        "SELECT source, kind, field, text FROM access.source_remark WHERE source = ANY(:sources)",
        sources=list({source for source, _ in remarks}),
    )
    known: defaultdict[str, set[tuple[str, str, str]]] = defaultdict(set)
    for source, *key in found:
        known[source].add((key[0], key[1], key[2]))
    seen: Counter[tuple[str, str, str, str]] = Counter()
    nearest: dict[tuple[str, str, str, str], str] = {}
    for (source, remark), count in sorted(remarks.items()):
        key = remark[:3]
        if key not in known[source] and len(known[source]) >= MAX_REMARKS_STORED:
            key, remark = (remark.kind, "", ""), Remark(remark.kind, "")
        known[source].add(key)
        seen[source, *key] += count
        nearest[source, *key] = remark.nearest
    columns = ("source", "kind", "field", "text")
    await connection.execute(
        text(
            "INSERT INTO access.source_remark AS r (source, kind, field, text, nearest, seen) "
            "VALUES (:source, :kind, :field, :text, :nearest, :seen) "
            "ON CONFLICT (source, kind, field, text) DO UPDATE SET seen = r.seen + excluded.seen, "
            "nearest = excluded.nearest, last_at = clock_timestamp()"
        ),
        [
            dict(zip(columns, key, strict=True)) | {"nearest": nearest[key], "seen": count}
            for key, count in sorted(seen.items())
        ],
    )


def source_guide(source: Source, public_url: str) -> SourceGuide:
    """How a source is connected where ingest is reached at `public_url`."""
    base = public_url.rstrip("/")
    address = base + source.paths[0] if source.paths else ""

    def filled(words: str) -> str:
        return words.replace("{address}", address).replace("{base}", base)

    setup = source.setup or SetupGuide(source.name, [])
    steps = [filled(step) for step in setup.steps]
    signs = source.verify is not None
    return SourceGuide(setup.title, address, signs, steps, filled(setup.snippet))
