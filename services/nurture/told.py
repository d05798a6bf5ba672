"""What people are told of sending, from time to time: what is held, and how receivers stand."""

import time

from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.store import held
from services.nurture.store.held import Waiting
from services.nurture.store.receivers import ReceiverStore
from services.shared.clock import Clock
from services.shared.telemetry import RECEIVERS

HELD_S, RECEIVERS_S = 2.0, 15.0  # between two looks


class Told:
    """Writes it down where the page and the command line read it."""

    def __init__(self, engine: AsyncEngine, clock: Clock) -> None:
        self._engine, self._clock = engine, clock
        self._held_at, self._receivers_at = -HELD_S, -RECEIVERS_S  # by `time.monotonic()`
        self._known: list[Waiting] | None = None

    async def refresh(self) -> None:
        """Looks again where the last look was long ago."""
        now = time.monotonic()
        if now - self._held_at > HELD_S:
            self._held_at = now
            await self.held()
        if now - self._receivers_at > RECEIVERS_S:
            self._receivers_at = now
            await self.receivers()

    async def held(self) -> None:
        """What is due and does not go out."""
        async with self._engine.begin() as connection:
            due = await held.held(connection, self._clock.now())
            if due != self._known:
                await held.tell(connection, due)
        self._known = due

    async def receivers(self) -> None:
        """Which receivers have something against our mails."""
        async with self._engine.begin() as connection:
            verdicts = await ReceiverStore(connection).tell(self._clock.now())
        for state in ("warning", "stopped"):
            RECEIVERS.labels(state).set(sum(each.state == state for each in verdicts.values()))
