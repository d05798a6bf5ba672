"""Simulated salespeople: they answer hand-offs soon, late, or not at all."""

import asyncio
import random
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import aiohttp

from services.ops.simulation.readback import QueryClient
from services.shared.clock import Clock

LOOK_S = 0.25  # between two looks at the list
SOON, LATE = 0.7, 0.15  # shares of hand-offs that are answered so; the others are not
SOON_DAYS, LATE_DAYS = (0.05, 1.5), (2.0, 8.0)
TRUSTED = ("accept", "return", "disqualify")
SHARES = (0.6, 0.25, 0.15)
BACK_AFTER_DAYS = 30


class Reaction(NamedTuple):
    """What a salesperson says to one hand-off, and when; None where nobody ever does."""

    answer: str
    at: datetime | None


def reaction(seed: int, handoff: str, opened_at: datetime) -> Reaction:
    """What becomes of a hand-off, drawn from its id."""
    rng = random.Random(f"{seed}/sales/{handoff}")
    drawn, (answer,) = rng.random(), rng.choices(TRUSTED, SHARES)
    if drawn >= SOON + LATE:
        return Reaction(answer, None)
    days = rng.uniform(*(SOON_DAYS if drawn < SOON else LATE_DAYS))
    return Reaction(answer, opened_at + timedelta(days=days))


class Salespeople:
    """Those who work through the list of open hand-offs of one system."""

    def __init__(self, query: QueryClient, clock: Clock, seed: int) -> None:
        self._query, self._clock, self._seed = query, clock, seed

    async def run(self) -> None:
        """Answers until cancelled."""
        while True:
            try:
                for handoff in await self._query.handoffs("open"):
                    await self._answer(handoff)
            except (aiohttp.ClientError, TimeoutError):
                pass  # a service is being started again
            await asyncio.sleep(LOOK_S)

    async def _answer(self, handoff: dict[str, Any]) -> None:
        now = self._clock.now()
        opened_at = datetime.fromisoformat(handoff["opened_at"])
        answer, at = reaction(self._seed, handoff["id"], opened_at)
        if at is None or now < at:
            return
        said = {"by": handoff["owner"] or "sales@demo.example"}
        if answer == "disqualify":
            said["reason"] = "no_budget"
        elif answer == "return":
            back = (now + timedelta(days=BACK_AFTER_DAYS)).date()
            said |= {"reason": "bad_timing", "until": back.isoformat()}
        await self._query.answer_handoff(handoff["id"], answer, said)
