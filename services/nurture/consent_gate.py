"""Nothing is sent past a refusal that waits to be read from `lead.consents`, nor past what waits on
`lead.changes`, by which nurture knows whom a refusal names, nor past what the scorer had still to
read when a refusal came: a link may be among it that makes the refusal somebody else's too.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.nurture.spool_gate import SpoolGate
from services.nurture.store.consents import ConsentStore
from services.shared.contracts.events import CHANGES, CONSENTS, INTERACTIONS
from services.shared.db import rows
from services.shared.errors import Retry
from services.shared.messaging.kafka import EndOffsets, Log
from services.shared.messaging.progress import lost_records
from services.shared.messaging.published import published

log = structlog.get_logger()
WAIT_SECONDS = 2.0
POLL_SECONDS = 0.05
TOPICS = [CONSENTS, CHANGES]
Offsets = Mapping[Log, int]


class ConsentGate:
    """Open when all that is on the topics by now has been applied, and no consent is lost that
    nobody has answered for.
    """

    def __init__(self, engine: AsyncEngine, ends: EndOffsets) -> None:
        self._engine, self._ends = engine, ends
        self.waits_for = ""  # why it was not open when it was so last
        self._linked: uuid.UUID | None = None  # the last refusal that `refusals_are_linked` has
        self._ahead: tuple[uuid.UUID | None, Offsets] = (None, {})  # of a refusal, of the scorer

    async def is_open(self, wait_s: float = WAIT_SECONDS) -> bool:
        """Waits up to `wait_s` for the reading to reach where the topics end now; False where it
        does not, or where nobody can tell.
        """
        if not await self._is_read(TOPICS, time.monotonic() + wait_s):
            return False
        if lost := await self.lost():
            self.waits_for = lost
            log.error("consent_gate_waits", reason=lost)
        return not lost

    async def refusals_are_linked(self, spools: SpoolGate, wait_s: float = WAIT_SECONDS) -> bool:
        """Whether it is known whom all refusals that were read name: the scorer has published what
        it makes of all events that were accepted before them. Waits for it up to `wait_s`.

        An event that was accepted before a refusal was read lies in a spool or on its topic. So
        where no spool holds any, the topic's end is beyond it.
        """
        give_up = time.monotonic() + wait_s
        async with self._engine.connect() as connection:
            mark = await ConsentStore(connection).last_refusal()
            if mark == self._linked:
                return True
            if not await spools.is_open(connection):
                return False
        ahead = await self._interactions_before(mark)
        if ahead is None:
            return False
        if not await _reached(ahead, self._published, give_up):
            self._wait("the scorer has still to read what came before a refusal")
            return False
        if not await self._is_read([CHANGES], give_up):
            return False
        self._linked = mark
        return True

    async def _interactions_before(self, mark: uuid.UUID | None) -> Offsets | None:
        """Where each log of interactions ended when the refusal was met first; None while nobody
        can tell. What was on an earlier incarnation of the topic nobody will read.
        """
        ends = await self._ends_of([INTERACTIONS])
        if ends is None:
            return None
        noted = self._ahead[1] if self._ahead[0] == mark else {}
        self._ahead = mark, {of: noted.get(of, end) for of, end in ends.items()}
        return self._ahead[1]

    async def _is_read(self, topics: Sequence[str], give_up: float) -> bool:
        """Whether the reading reaches, in time, where these topics end now."""
        ends = await self._ends_of(topics)
        if ends is None:
            return False
        # an incarnation that nobody has begun to read is unread, however short
        if await _reached(ends, self._read, give_up, unknown=-1):
            return True
        self._wait("consents or changes lag")
        return False

    async def _ends_of(self, topics: Sequence[str]) -> Offsets | None:
        try:
            return await self._ends.of(topics)
        except Retry as error:
            self._wait(str(error))
            return None

    async def _read(self) -> Offsets:
        async with self._engine.connect() as connection:
            return await _progress(connection)

    async def _published(self) -> Offsets:
        async with self._engine.connect() as connection:
            return await published(connection, "scorer", INTERACTIONS)

    async def lost(self) -> str:
        """What is said where consents are lost that nobody has answered for, or ''."""
        async with self._engine.connect() as connection:
            lost = (await lost_records(connection, "nurture")).get(CONSENTS, 0)
        return f"{lost} consents were lost unread; see `ripeline gaps`" if lost else ""

    def _wait(self, reason: str) -> None:
        self.waits_for = reason
        log.warning("consent_gate_waits", reason=reason)


async def _reached(
    ends: Offsets, read: Callable[[], Awaitable[Offsets]], give_up: float, unknown: int = 0
) -> bool:
    """Whether what `read` returns comes up to these ends before the moment `give_up`."""
    while True:
        known = await read()
        if all(known.get(of, unknown) >= end for of, end in ends.items()):
            return True
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(POLL_SECONDS)


async def _progress(connection: AsyncConnection) -> Offsets:
    """How far nurture has read its topics."""
    found = await rows(
        connection,
        "SELECT topic, topic_id, partition, next_offset FROM nurture.progress "
        "WHERE topic = ANY(:topics)",
        topics=TOPICS,
    )
    return {Log(*row[:3]): row.next_offset for row in found}
