"""Reviews leads without new events: those whose review day has come, for silence, those of which
something is still to be published, those folded under another playbook, and those that failed.
"""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scorer.failing import FailingLeads, is_of_one_lead
from services.scorer.history import History
from services.scorer.processing.announcements import Evidence, is_to_be_heard
from services.scorer.processing.folding import rebuild, refold_outdated
from services.scorer.processing.handler import Handler
from services.scorer.profile_parts import ProfileParts
from services.scorer.records import IncomingEvent, LeadRow
from services.scorer.store import Store
from services.shared.db import is_transient, sqlstate
from services.shared.messaging.kafka import Outgoing
from services.shared.runtime import Heartbeat

log = structlog.get_logger()
BATCH = 500
MENDED_AT_ONCE = 20
RETIRED_AT_ONCE = 5_000
REFOLD_CHECK_SECONDS = 60.0
PUT_OFF_SECONDS = 300.0
MOST_WAITING = 10_000  # new events in hand at once, of those that ask for something and of others
TOO_LONG = ("57014", "55P03")  # SQLSTATE: statement timeout, lock timeout


class Sweeper:
    """Takes only due leads; late, twice or never changes nothing but the delay."""

    def __init__(
        self, engine: AsyncEngine, handler: Handler, poll_seconds: float, wake: Callable[[], None]
    ) -> None:
        self._engine, self._handler, self._poll_seconds = engine, handler, poll_seconds
        self._wake = wake
        self._beat: Heartbeat = lambda: None
        self._checked = 0.0
        self._put_off: dict[uuid.UUID, float] = {}  # until when, on the monotonic clock

    async def run(self, heartbeat: Heartbeat) -> None:
        """Sweeps until cancelled."""
        self._beat = heartbeat
        while True:
            swept = [await self._tried(work) for work in (self._checked_refold, self.sweep)]
            await self._tried(self.mend)
            if max(swept) < BATCH:
                await asyncio.sleep(self._poll_seconds)

    async def _tried(self, work: Callable[[], Awaitable[int]]) -> int:
        """What the work returns; 0 where it hits a fault that passes, which holds up no other."""
        self._beat()
        try:
            return await work()
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("sweeper_waits", reason=type(error).__name__)
            return 0

    async def _checked_refold(self) -> int:
        """Refolds without a break while there is something to refold, else now and then."""
        if time.monotonic() - self._checked <= REFOLD_CHECK_SECONDS:
            return 0
        refolded = await self.refold()
        if not refolded:
            self._checked = time.monotonic()
        return refolded

    async def sweep(self) -> int:
        """One batch of leads whose review or publication is due; returns how many."""
        now = self._handler.scoring.clock.now_us()
        return await self._review(lambda store: store.due(now, BATCH))

    async def refold(self) -> int:
        """One batch of leads whose state was made under another playbook or model; goes on where it
        was left.
        """
        playbook = self._handler.scoring.playbook
        retired = RETIRED_AT_ONCE
        while retired == RETIRED_AT_ONCE:
            self._beat()
            async with self._engine.begin() as connection:
                retired = await Store(connection).retire_products(
                    playbook.products, RETIRED_AT_ONCE
                )
        return await self._review(
            lambda store: store.outdated(playbook.fold_hash, playbook.products, BATCH)
        )

    async def mend(self) -> int:
        """Makes failing leads again from their events, each in a transaction of its own, where
        their next attempt has come; returns how many were tried.
        """
        for tried in range(MENDED_AT_ONCE):
            async with self._engine.begin() as connection:
                lead = await FailingLeads(connection).take_due()
            if lead is None:
                return tried
            await self._mend_alone(lead)
        return MENDED_AT_ONCE

    async def _review(self, choose: Callable[[Store], Awaitable[list[uuid.UUID]]]) -> int:
        """Reviews the chosen leads, those alone that nobody else has locked; returns how many
        states were chosen.
        """
        async with self._engine.connect() as connection:
            chosen = await choose(Store(connection))
        now = time.monotonic()
        self._put_off = {lead: until for lead, until in self._put_off.items() if until > now}
        if leads := sorted(set(chosen) - self._put_off.keys()):
            await self._review_apart(leads)
        return len(chosen)

    async def _review_apart(self, chosen: list[uuid.UUID]) -> None:
        """Reviews leads in one transaction; where one of them fails, by halves. One that fails
        alone is made again from its events, or marked as failing; one that takes too long alone
        is put off, unmarked, as the database may be slow.
        """
        self._beat()
        try:
            await self._commit(lambda connection: self._reviewed(connection, chosen))
        except Exception as error:
            is_slow = sqlstate(error) in TOO_LONG
            if not is_slow and not is_of_one_lead(error):
                raise
            if len(chosen) == 1 and is_slow:
                self._put_off[chosen[0]] = time.monotonic() + PUT_OFF_SECONDS
                log.warning("review_put_off", lead_id=str(chosen[0]), reason=type(error).__name__)
                return None
            if len(chosen) == 1:
                return await self._mend_alone(chosen[0])
            middle = len(chosen) // 2
            await self._review_apart(chosen[:middle])
            await self._review_apart(chosen[middle:])

    async def _mend_alone(self, lead: uuid.UUID) -> None:
        self._beat()
        try:
            await self._commit(lambda connection: self._mended(connection, lead))
        except Exception as error:
            if not is_of_one_lead(error):
                raise
            async with self._engine.begin() as connection:
                await FailingLeads(connection).mark(lead, "sweeper", error)

    async def _commit(self, work: Callable[[AsyncConnection], Awaitable[list[Outgoing]]]) -> None:
        async with self._engine.begin() as connection:
            outgoing = await work(connection)
        if outgoing:
            self._wake()

    async def _reviewed(
        self, connection: AsyncConnection, chosen: list[uuid.UUID]
    ) -> list[Outgoing]:
        leads = await _load(Store(connection), set(chosen))
        due = {lead.id: lead for lead in leads.values() if lead.states}
        scoring = self._handler.scoring
        declared = scoring.fold.declared
        history = History(connection, declared, ProfileParts(connection, declared))
        refolded = await refold_outdated(scoring, history, [*due.values()])
        evidence = {lead: Evidence(refolded=True) for lead in refolded}
        return await self._handler.write(connection, due, evidence)

    async def _mended(self, connection: AsyncConnection, lead_id: uuid.UUID) -> list[Outgoing]:
        """Makes one lead again from its events, and tells of those that were not folded yet, and of
        the leads that it took in.
        """
        store, scoring = Store(connection), self._handler.scoring
        leads = await _load(store, {lead_id})
        if not leads:  # another process has it, or it is no more
            return []
        declared = scoring.fold.declared
        history = History(connection, declared, ProfileParts(connection, declared))
        known = await history.known_of(lead_id)
        mark = await FailingLeads(connection).clear(lead_id)
        if not known.events:  # merged into another
            return []
        lead = leads[lead_id]
        rebuild(scoring, lead, known)
        waiting = mark.waiting_since if mark else None
        new = await self._waiting(store, lead_id, waiting) if waiting else []
        merged = await store.merged_into(lead_id) if mark else {}
        lead.was_engaged(*merged.values())
        evidence = Evidence(
            events=new, late=bool(new), identified=bool(new or merged), merged=[*merged]
        )
        return await self._handler.write(connection, leads, {lead_id: evidence})

    async def _waiting(self, store: Store, lead: uuid.UUID, since: datetime) -> list[IncomingEvent]:
        """The last events that were received since then; those that others must hear of have room
        of their own.
        """
        telling: deque[IncomingEvent] = deque(maxlen=MOST_WAITING)
        others: deque[IncomingEvent] = deque(maxlen=MOST_WAITING)
        async for event in store.received_since(lead, since):
            tells = is_to_be_heard(self._handler.scoring, event)
            (telling if tells else others).append(event)
        return [*telling, *others]


async def _load(store: Store, wanted: set[uuid.UUID]) -> dict[uuid.UUID, LeadRow]:
    """The leads that nobody else has locked, each a version on."""
    leads = await store.lock_free(wanted)
    states, identifiers = await store.states(leads), await store.identifiers(leads)
    for lead in leads.values():
        lead.states, lead.identifiers = states.get(lead.id, {}), identifiers.get(lead.id, [])
        lead.version += 1
    return leads
