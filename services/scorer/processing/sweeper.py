"""Reviews leads without new events: those whose review day has come, for silence, those of which
something is still to be published, and those folded under another playbook.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.history import History
from services.scorer.processing.announcements import NO_EVIDENCE, Evidence, engaged
from services.scorer.processing.folding import refold_outdated
from services.scorer.processing.handler import Handler
from services.scorer.records import LeadRow
from services.scorer.store import Store
from services.shared.clock import from_us
from services.shared.db import is_transient
from services.shared.runtime import Heartbeat

log = structlog.get_logger()
BATCH = 500
REFOLD_CHECK_SECONDS = 60.0


class Sweeper:
    """Takes only due leads; late, twice or never changes nothing but the delay."""

    def __init__(
        self, engine: AsyncEngine, handler: Handler, poll_seconds: float, wake: Callable[[], None]
    ) -> None:
        self._engine, self._handler, self._poll_seconds = engine, handler, poll_seconds
        self._wake = wake

    async def run(self, heartbeat: Heartbeat) -> None:
        """Sweeps until cancelled."""
        checked = 0.0
        while True:
            heartbeat()
            swept = 0
            try:
                if time.monotonic() - checked > REFOLD_CHECK_SECONDS:
                    swept = await self.refold()
                    checked = checked if swept else time.monotonic()
                swept = max(swept, await self.sweep())
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("sweeper_waits", reason=type(error).__name__)
            if swept < BATCH:
                await asyncio.sleep(self._poll_seconds)

    async def sweep(self) -> int:
        """One batch of leads whose review or publication is due; returns how many."""
        now = self._handler.scoring.clock.now_us()
        return await self._review(lambda store: store.due(now, BATCH))

    async def refold(self) -> int:
        """One batch of leads whose state was made under another playbook or model; goes on where it
        was left.
        """
        playbook = self._handler.scoring.playbook
        async with self._engine.begin() as connection:
            await Store(connection).retire_products(playbook.products)
        return await self._review(
            lambda store: store.outdated(playbook.fold_hash, playbook.products, BATCH)
        )

    async def _review(self, choose: Callable[[Store], Awaitable[list[uuid.UUID]]]) -> int:
        """Reviews the chosen leads, those alone that nobody else has locked; returns how many
        states were chosen.
        """
        handler, scoring = self._handler, self._handler.scoring
        async with self._engine.begin() as connection:
            store = Store(connection)
            chosen = await choose(store)
            if not chosen:
                return 0
            leads = await _load(store, set(chosen))
            history = History(connection, scoring.fold.declared)
            refolded = await refold_outdated(scoring, history, [*leads.values()])
            evidence = {lead: Evidence(refolded=True) for lead in refolded}
            now = scoring.clock.now_us()
            outgoing = await handler.announce(store, leads, evidence, now)
            for lead in leads.values():
                of_lead = evidence.get(lead.id, NO_EVIDENCE)
                outgoing += engaged(scoring, lead, of_lead, from_us(now))
            await store.write([*leads.values()], scoring.playbook.fold_hash)
            await handler.put_out(connection, leads, outgoing)
        if outgoing:
            self._wake()
        return len(chosen)


async def _load(store: Store, wanted: set[uuid.UUID]) -> dict[uuid.UUID, LeadRow]:
    """The leads that have states and that nobody else has locked, each a version on."""
    leads = await store.lock_free(wanted)
    states, identifiers = await store.states(leads), await store.identifiers(leads)
    for lead in leads.values():
        lead.states, lead.identifiers = states.get(lead.id, {}), identifiers.get(lead.id, [])
        lead.version += 1
    return {lead.id: lead for lead in leads.values() if lead.states}
