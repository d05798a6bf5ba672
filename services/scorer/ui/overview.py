"""What the page shows of many leads: the pipeline by stage, and what is new."""

import asyncio
import time

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.scoring import Scoring
from services.scorer.ui import activities
from services.scorer.ui.activities import Activity
from services.scorer.ui.lead_names import names_of
from services.scorer.ui.repository import PageRepository
from services.shared.playbook.sections import UNKNOWN

RECENT = 30
REST = 10  # times as long as a count took, the next one waits
WAIT_S = 0.005  # for a new count where there is one already


class StageCount(msgspec.Struct, frozen=True):
    """Listed leads of one stage, and their mean likelihood; None where nothing is left to
    predict.
    """

    stage: str
    leads: int = 0
    qualified: int = 0
    likelihood: float | None = None


class Overview:
    """Read access to all leads together."""

    def __init__(self, engine: AsyncEngine, scoring: Scoring) -> None:
        self._engine, self._playbook = engine, scoring.playbook
        self._next_count, self._pipeline = 0.0, dict[str, list[StageCount]]()
        self._counting: asyncio.Task[None] | None = None

    @property
    def stages(self) -> list[str]:
        """All stages that a lead may be in, the unknown one first."""
        return [UNKNOWN, *self._playbook.stages]

    async def pipeline(self) -> dict[str, list[StageCount]]:
        """Listed leads by product and stage. A count that takes long is taken seldom, and nobody
        but the first waits for it: the last one is shown until it is there.
        """
        if self._counting is None and time.monotonic() >= self._next_count:
            self._counting = asyncio.create_task(self._count())
        if counting := self._counting:
            await asyncio.wait({counting}, timeout=WAIT_S if self._pipeline else None)
            if counting.done():
                self._counting = None
                counting.result()
        return self._pipeline

    async def _count(self) -> None:
        began = time.monotonic()
        async with self._engine.connect() as connection:
            found = await PageRepository(connection).stages()
        counts = {
            (row.product, row.stage): StageCount(
                row.stage, row.leads, row.qualified, row.likelihood
            )
            for row in found
        }
        self._pipeline = {
            product: [counts.get((product, stage), StageCount(stage)) for stage in self.stages]
            for product in self._playbook.products
        }
        ended = time.monotonic()
        self._next_count = ended + REST * (ended - began)

    async def recent(self, limit: int = RECENT) -> list[Activity]:
        """The latest announcements and touches, newest first."""
        async with self._engine.connect() as connection:
            repository = PageRepository(connection)
            announcements = await repository.recent_announcements(limit)
            touches = await repository.recent_touches(limit)
        leads = {row.lead for row in announcements} | {row.lead for row in touches}
        names = await names_of(self._engine, leads)
        library = self._playbook.content_by_id
        found = [
            *(activities.of_announcement(row, names.get(row.lead, "")) for row in announcements),
            *(activities.of_touch(row, library, names.get(row.lead, "")) for row in touches),
        ]
        newest_first = sorted(
            found, key=lambda activity: (activity.at, activity.kind == "touch"), reverse=True
        )
        return newest_first[:limit]
