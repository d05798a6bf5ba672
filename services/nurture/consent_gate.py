"""Nothing is sent past a refusal that waits to be read from `lead.consents`, nor past what waits on
`lead.changes`, by which nurture knows whom a refusal names.
"""

import asyncio
import time

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.contracts.events import CHANGES, CONSENTS
from services.shared.db import rows
from services.shared.errors import Retry
from services.shared.messaging.kafka import EndOffsets, Log
from services.shared.messaging.progress import lost_records

log = structlog.get_logger()
WAIT_SECONDS = 2.0
POLL_SECONDS = 0.05
TOPICS = [CONSENTS, CHANGES]


class ConsentGate:
    """Open when all that is on the topics by now has been applied, and no consent is lost that
    nobody has answered for.
    """

    def __init__(self, engine: AsyncEngine, ends: EndOffsets) -> None:
        self._engine, self._ends = engine, ends
        self.waits_for = ""  # why it was not open when it was last asked, or ''

    async def is_open(self, wait_s: float = WAIT_SECONDS) -> bool:
        """Waits up to `wait_s` for the reading to reach where the topics end now; False where it
        does not, or where nobody can tell.
        """
        try:
            ends = await self._ends.of(TOPICS)
        except Retry as error:
            return self._wait(str(error))
        give_up = time.monotonic() + wait_s
        while not await self._is_reached(ends):
            if time.monotonic() > give_up:
                return self._wait("nurture has yet to read the last consents or changes")
            await asyncio.sleep(POLL_SECONDS)
        if lost := await self.lost():
            self.waits_for = lost
            log.error("consent_gate_waits", reason=lost)
            return False
        self.waits_for = ""
        return True

    def _wait(self, reason: str) -> bool:
        self.waits_for = reason
        log.warning("consent_gate_waits", reason=reason)
        return False

    async def _is_reached(self, ends: dict[Log, int]) -> bool:
        """Whether these incarnations of the topics are read to their ends."""
        async with self._engine.connect() as connection:
            found = await rows(
                connection,
                "SELECT topic, topic_id, partition, next_offset FROM nurture.progress "
                "WHERE topic = ANY(:topics)",
                topics=TOPICS,
            )
        applied = {Log(*row[:3]): row.next_offset for row in found}
        return all(applied.get(of, -1) >= end for of, end in ends.items())

    async def lost(self) -> str:
        """What is said where consents are lost that nobody has answered for, or ''."""
        async with self._engine.connect() as connection:
            lost = (await lost_records(connection, "nurture")).get(CONSENTS, 0)
        return f"{lost} consents were lost unread; see `ripeline gaps`" if lost else ""
