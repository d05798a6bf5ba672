"""When each source last spoke, and what became of it: counted in memory, written down every
second.
"""

from collections import defaultdict
from collections.abc import Iterable

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest.sources.contract import About, Source
from services.shared.contracts.events import encode_bytes
from services.shared.db import is_transient
from services.shared.errors import Retry
from services.shared.runtime import Heartbeat, refresh_every_second


class Count(msgspec.Struct):
    """What a source said since it was last written down."""

    accepted: int = 0
    refused: int = 0
    last_refusal: str = ""


class Heard:
    """The log book of the doors; people read it in `ripeline sources` and on the page."""

    def __init__(self, engine: AsyncEngine, sources: Iterable[Source], public_url: str) -> None:
        self._engine = engine
        self._about = {source.door: described(source, public_url) for source in sources}
        self._counts: defaultdict[str, Count] = defaultdict(Count)
        self._registered = False

    def note(self, door: str, accepted: int, refused: int = 0, last_refusal: str = "") -> None:
        """Counts one request; `last_refusal` is the kind of a problem, never what somebody
        wrote.
        """
        count = self._counts[door]
        count.accepted += accepted
        count.refused += refused
        count.last_refusal = last_refusal or count.last_refusal

    async def refresh(self, heartbeat: Heartbeat) -> None:
        """Writes down what is new every second."""
        await refresh_every_second(self.write, heartbeat, "heard_waits")

    async def write(self) -> None:
        """Writes down what is new. Raises Retry while the database is away; nothing is forgotten
        then.
        """
        counts = {
            door: msgspec.structs.replace(count)
            for door, count in self._counts.items()
            if door in self._about
        }
        if self._registered and not counts:
            return
        try:
            async with self._engine.begin() as connection:
                if not self._registered:
                    await connection.execute(
                        text("UPDATE access.source SET served = false WHERE name <> ALL(:names)"),
                        {"names": list(self._about)},
                    )
                    await connection.execute(
                        text(
                            "INSERT INTO access.source (name, about) VALUES (:name, "
                            "CAST(:about AS jsonb)) "
                            "ON CONFLICT (name) DO UPDATE SET about = excluded.about, served = true"
                        ),
                        [
                            {"name": name, "about": about}
                            for name, about in sorted(self._about.items())
                        ],
                    )
                for door, count in sorted(counts.items()):
                    await connection.execute(
                        text(
                            "UPDATE access.source SET last_heard_at = clock_timestamp(), "
                            "accepted = accepted + :accepted, "
                            "first_heard_at = CASE WHEN :accepted > 0 THEN "
                            "coalesce(first_heard_at, clock_timestamp()) "
                            "ELSE first_heard_at END, refused = refused + :refused, "
                            "last_refusal = coalesce(nullif(:last_refusal, ''), last_refusal) "
                            "WHERE name = :door"
                        ),
                        {"door": door, **msgspec.structs.asdict(count)},
                    )
        except Exception as error:
            if is_transient(error):
                raise Retry("the database is away") from error
            raise
        self._registered = True
        for door, count in counts.items():
            rest = self._counts[door]
            rest.accepted -= count.accepted
            rest.refused -= count.refused
            if not (rest.accepted or rest.refused):
                del self._counts[door]


def described(source: Source, public_url: str) -> str:
    """What people are told of a source, as JSON; keys are left to be filled in by who shows it."""
    base = public_url.rstrip("/")
    address = base + source.paths[0] if source.paths else ""

    def filled(words: str) -> str:
        return words.replace("{address}", address).replace("{base}", base)

    about = source.about or About(source.door, [])
    return encode_bytes({
        "title": about.title,
        "address": address,
        "signs": source.verify is not None,
        "steps": [filled(step) for step in about.steps],
        "snippet": filled(about.snippet),
    }).decode()  # fmt: skip
