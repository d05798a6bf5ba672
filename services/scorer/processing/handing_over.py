"""Examines leads that may be handed over, and hand-offs whose clock has something to say; gives
hand-offs the room that there is in the week.
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scorer.failing import is_of_one_lead, report
from services.scorer.handoffs import capacity
from services.scorer.handoffs.records import Handoff
from services.scorer.handoffs.rules import Rules
from services.scorer.handoffs.store import HandoffStore
from services.scorer.processing.examination import Examination
from services.scorer.processing.handoff_steps import Steps
from services.scorer.scoring import Scoring
from services.shared.db import is_transient, value
from services.shared.runtime import Heartbeat, fault_point

log = structlog.get_logger()
BATCH = 50
PUT_OFF = timedelta(minutes=5)
ALLOCATE_S = 1.0
REST = timedelta(minutes=1)  # of the clock, after nobody could be given room
ALLOCATION = 0x68616E64  # the advisory lock under which room in the week is given


class Examiner:
    """Takes what is due; late, twice or never changes nothing but the delay. `wake` is called when
    there is something to publish, `page` is the address of our pages, '' for none.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        scoring: Scoring,
        poll_s: float,
        wake: Callable[[], None],
        *,
        webhook: bool = False,
        page: str = "",
    ) -> None:
        self._engine, self._scoring, self._poll_s, self._wake = engine, scoring, poll_s, wake
        self.rules = Rules.of(scoring.playbook)
        self._steps = Steps(scoring, self.rules, webhook=webhook, page=page)
        self._allocated = 0.0
        self._rests_until = scoring.clock.now()

    async def run(self, heartbeat: Heartbeat) -> None:
        """Examines until cancelled."""
        while True:
            heartbeat()
            examined = 0
            try:
                examined = await self.examine_due(heartbeat)
                if not examined and self._may_allocate():
                    await self._allocate_or_rest()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("handing_over_waits", reason=type(error).__name__)
            if examined < BATCH:
                await asyncio.sleep(self._poll_s)

    async def examine_due(self, heartbeat: Heartbeat = lambda: None) -> int:
        """Examines what is due, the longest due first, in one transaction; where that fails by the
        data of a lead, or takes longer than the database lets it, each in one of its own. Returns
        how many leads.
        """
        now = self._scoring.clock.now()
        async with self._engine.connect() as connection:
            due = await HandoffStore(connection).due_leads(now, BATCH)
        if not due:
            return 0
        self._rests_until = now
        try:
            return await self._commit(due, now)
        except Exception as error:
            if not is_of_one_lead(error) and (not is_transient(error) or len(due) == 1):
                raise
        done = 0
        for lead in due:
            heartbeat()
            done += await self._alone(lead, now)
        return done

    async def _alone(self, lead: uuid.UUID, now: datetime) -> int:
        """Examines one lead; one that fails by its own data is put off."""
        try:
            return await self._commit([lead], now)
        except Exception as error:
            if not is_of_one_lead(error):
                raise
            report(lead, "handing_over", type(error).__name__)
            async with self._engine.begin() as connection:
                await HandoffStore(connection).put_off(lead, now + PUT_OFF)
            return 1

    async def _commit(self, leads: list[uuid.UUID], now: datetime) -> int:
        async with self._engine.begin() as connection:
            done = await self._examination(connection, now).run(leads)
            fault_point("before_handoff_is_kept")
        fault_point("after_handoff_is_kept")
        self._wake()
        return done

    def _examination(self, connection: AsyncConnection, now: datetime) -> Examination:
        return Examination(connection, self._scoring, self.rules, self._steps, now)

    # -- room in the week -------------------------------------------------------------------------

    def _may_allocate(self) -> bool:
        is_early = time.monotonic() - self._allocated < ALLOCATE_S
        return not is_early and self._scoring.clock.now() >= self._rests_until

    async def _allocate_or_rest(self) -> None:
        """Gives room; after nobody could be given any, not again before somebody was examined or
        the rest is over.
        """
        if not await self.allocate():
            self._rests_until = self._scoring.clock.now() + REST
        self._allocated = time.monotonic()

    async def allocate(self) -> int:
        """Opens the best of those that wait for room; returns how many."""
        now = self._scoring.clock.now()
        async with self._engine.connect() as connection:
            waits = await value(
                connection, "SELECT EXISTS (SELECT 1 FROM scorer.handoff WHERE status = 'next')"
            )
        if not waits:
            return 0
        async with self._engine.begin() as connection:
            await value(connection, f"SELECT pg_advisory_xact_lock({ALLOCATION})")
            store, section = HandoffStore(connection), self.rules.section
            week = capacity.week_of(now, self.rules.working.zone)
            left = capacity.room(section.capacity_per_week, await store.opened_since(week))
            examination, done = self._examination(connection, now), 0
            for handoff in await store.waiting_for_room() if left != 0 else []:
                if done == left:
                    break
                done += await self._is_opened(connection, examination, handoff)
            fault_point("before_room_is_given")
        if done:
            self._wake()
        return done

    async def _is_opened(
        self, connection: AsyncConnection, examination: Examination, handoff: Handoff
    ) -> bool:
        """Opens one of them; one that fails by the data of its lead holds up none of the others."""
        try:
            async with connection.begin_nested():
                return await examination.open(handoff)
        except Exception as error:
            if not is_of_one_lead(error):
                raise
            report(handoff.lead_id, "handing_over", type(error).__name__)
            return False
