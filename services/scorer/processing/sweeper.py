"""Looks at leads without new events: those whose review day has come, for silence, and those folded
under another playbook.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.crm import outbox as owed
from services.scorer.processing.announcements import Evidence, settle
from services.scorer.processing.handler import Handler
from services.scorer.records import lead_row
from services.scorer.store import Store
from services.shared.db import is_transient, rows
from services.shared.messaging import outbox
from services.shared.runtime import Heartbeat

log = structlog.get_logger()
BATCH = 500
RENEW_SECONDS = 60.0


class Sweeper:
    """Takes only due leads; late, twice or never changes nothing but the delay."""

    def __init__(
        self, engine: AsyncEngine, handler: Handler, poll_seconds: float, wake: Callable[[], None]
    ) -> None:
        self._engine, self._handler, self._poll_seconds = engine, handler, poll_seconds
        self._wake = wake

    async def run(self, heartbeat: Heartbeat) -> None:
        """Sweeps until cancelled."""
        looked = 0.0
        while True:
            heartbeat()
            swept = 0
            try:
                if time.monotonic() - looked > RENEW_SECONDS:
                    swept = await self.renew()
                    looked = looked if swept else time.monotonic()
                swept = max(swept, await self.sweep())
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("sweeper_waits", reason=type(error).__name__)
            if swept < BATCH:
                await asyncio.sleep(self._poll_seconds)

    async def sweep(self) -> int:
        """One batch of leads whose review is due; returns how many were looked at."""
        return await self._look_at(
            "SELECT lead_id FROM scorer.lead_state WHERE next_review_at <= :now ORDER BY "
            "next_review_at LIMIT :limit",
            now=self._handler.scoring.clock.now_us(),
        )

    async def renew(self) -> int:
        """One batch of leads whose state was made under another playbook or model; goes on where it
        was left.

        States of products that the playbook no longer has rest: their announcements' numbers must
        not be given again.
        """
        playbook = self._handler.scoring.playbook
        async with self._engine.begin() as connection:
            await connection.execute(
                text(
                    "UPDATE scorer.lead_state SET listed = false, next_review_at = NULL "
                    "WHERE product <> ALL(:products) AND (listed OR next_review_at IS NOT NULL)"
                ),
                {"products": playbook.products},
            )
        return await self._look_at(
            "SELECT lead_id FROM scorer.lead_state WHERE fold_hash <> :fold_hash AND product = "
            "ANY(:products) LIMIT :limit",
            fold_hash=playbook.fold_hash,
            products=playbook.products,
        )

    async def _look_at(self, choice: str, **values: Any) -> int:
        handler, now = self._handler, self._handler.scoring.clock.now_us()
        async with self._engine.begin() as connection:
            due = await rows(connection, choice, limit=BATCH, **values)
            if not due:
                return 0
            held = await rows(
                connection,
                "SELECT id, version, profile, provisional, excluded, engaged_at FROM scorer.lead "
                "WHERE id = ANY(:ids) ORDER BY id FOR UPDATE SKIP LOCKED",
                ids=list({row.lead_id for row in due}),
            )
            store = Store(connection)
            leads = [lead_row(row) for row in held]
            states = await store.states(lead.id for lead in leads)
            identifiers = await store.identifiers(lead.id for lead in leads)
            for lead in leads:
                lead.states, lead.identifiers = (
                    states.get(lead.id, {}),
                    identifiers.get(lead.id, []),
                )
                lead.version += 1
            leads = [lead for lead in leads if lead.states]
            renewed = await handler.renew(store, leads)
            evidence = {lead: Evidence(renewed=True) for lead in renewed}
            said, changes = settle(handler.scoring.fold, leads, now, evidence)
            await store.write(leads, handler.scoring.playbook.fold_hash)
            await store.announce(said)
            await outbox.enqueue(connection, "scorer", changes)
            if handler.crm:
                await owed.note(connection, handler.crm, leads)
        if changes:
            self._wake()
        return len(due)
