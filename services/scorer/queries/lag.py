"""Whether events wait that are not applied yet: where the log of interactions ends, and how far it
has been read.
"""

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.contracts.events import INTERACTIONS
from services.shared.errors import Retry
from services.shared.messaging.kafka import EndOffsets
from services.shared.messaging.progress import Progress


class Lag:
    """Asks the broker and the database, once for all who want to know at the same time."""

    def __init__(self, engine: AsyncEngine, ends: EndOffsets) -> None:
        self._progress, self._ends = Progress(engine, "scorer"), ends
        self._asking: asyncio.Task[bool] | None = None
        self._next: asyncio.Task[bool] | None = None

    async def is_behind(self) -> bool:
        """Whether an event that was accepted before this call waits; False where the broker does
        not say so.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._ask_after(self._asking))
        return await asyncio.shield(self._next)

    async def close(self) -> None:
        """Closes the connection to the broker."""
        await self._ends.close()

    async def _ask_after(self, before: asyncio.Task[bool] | None) -> bool:
        if before:
            await asyncio.wait([before])
        self._asking, self._next = self._next, None  # who comes from here on asks again
        try:
            ends = await self._ends.of([INTERACTIONS])
            known = await self._progress.read([INTERACTIONS])
        except Retry:
            return False
        return any(end > (known[of].next_offset if of in known else 0) for of, end in ends.items())
