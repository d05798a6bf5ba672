"""The library as people look at it: what it covers, which readers will soon have had all of it, and
single items as leads would get them.
"""

import asyncio
import uuid
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture import previews
from services.nurture.previews import Preview
from services.nurture.rules.comparison import Comparison, compare
from services.nurture.rules.exhaustion import Exhaustion, Segment
from services.nurture.rules.grounds import Rules
from services.nurture.store.leads import LeadStore
from services.nurture.store.outcomes import OutcomeStore
from services.nurture.store.readers import readers
from services.shared.clock import Clock
from services.shared.kept import Kept
from services.shared.people.audit import Actor
from services.shared.playbook.coverage import coverage
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings

DECLARED = {
    "id", "title", "stages", "personas", "products", "topic", "format", "distance", "language",
    "countries", "valid_until", "objective", "state",
}  # fmt: skip


class ContentLibrary:
    """The library of a running system."""

    def __init__(
        self, settings: Settings, engine: AsyncEngine, playbook: Playbook, clock: Clock
    ) -> None:
        self._settings, self._engine = settings, engine
        self._rules, self._clock = Rules.of(playbook, sink=settings.smtp_is_sink), clock
        self._found = Kept(self._find)

    async def report(self) -> dict[str, Any]:
        """The fields of `ripeline content --json`, and what the learned choice of programs brings;
        what is read of leads may be a while old.
        """
        segments, learned = await self._found.get()
        return covered(self._rules.playbook, self._clock.now()) | {
            "exhausted": [segment.report() for segment in segments],
            "learned": [one.report(program) for program, one in learned.items()],
        }

    async def _find(self) -> tuple[list[Segment], dict[str, Comparison]]:
        now = self._clock.now()
        learned = await comparisons(self._engine, self._rules.playbook, now)
        pepper = self._settings.pepper.get_secret_value().encode()
        return await exhausted(self._engine, self._rules, pepper, now), learned

    async def preview(self, item: str, lead: uuid.UUID, product: str = "") -> Preview:
        """As `previews.preview`."""
        return await previews.preview(self._engine, self._rules.playbook, item, lead, product)

    async def send_test(
        self, item: str, lead: uuid.UUID, product: str, recipient: str, actor: Actor
    ) -> Preview:
        """Sends what the lead would read to somebody else, and returns it."""
        shown = await self.preview(item, lead, product)
        await previews.send_test(
            self._settings, self._engine, self._rules.playbook, shown, recipient, self._clock.now(),
            actor,
        )  # fmt: skip
        return shown


def covered(playbook: Playbook, now: datetime) -> dict[str, Any]:
    """The matrix and the items, as JSON has them."""
    found = coverage(playbook, now.date())
    return found._asdict() | {
        "cells": [cell._asdict() for cell in found.cells],
        "gaps": [gap._asdict() for gap in found.gaps],
        "overload": [over._asdict() for over in found.overload],
        "ending": [
            ending._asdict() | {"valid_until": ending.valid_until.isoformat()}
            for ending in found.ending
        ],
        "items": [item.model_dump(mode="json", include=DECLARED) for item in playbook.content],
    }


async def exhausted(
    engine: AsyncEngine, rules: Rules, pepper: bytes, now: datetime
) -> list[Segment]:
    """The segments of all leads who may be written to; counted in a thread."""
    counted = Exhaustion(rules, now)
    async with engine.connect() as connection:
        leads = LeadStore(connection, pepper, rules.library.request_programs)
        async for part in readers(connection, leads, now):
            await connection.rollback()  # counting takes longer than a transaction may rest
            await asyncio.to_thread(counted.add, part)
    return await asyncio.to_thread(counted.segments)


async def comparisons(
    engine: AsyncEngine, playbook: Playbook, now: datetime
) -> dict[str, Comparison]:
    """What the learned choice has brought, by program, of those that learn."""
    async with engine.connect() as connection:
        store = OutcomeStore(connection)
        return {
            program.id: compare(await store.drawn(program.id, now))
            for program in playbook.programs
            if program.choice == "learned"
        }
