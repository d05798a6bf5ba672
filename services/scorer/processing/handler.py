"""The heart of the scorer: a consumed batch becomes lead states, announcements and outgoing events
in one transaction.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.crm import outbox as crm_outbox
from services.scorer.history import History
from services.scorer.processing import batch as batches
from services.scorer.processing.announcements import (
    NO_EVIDENCE,
    Evidence,
    announcements_due,
    engaged,
    stage_changed,
)
from services.scorer.processing.decoding import from_interaction, from_touch
from services.scorer.processing.folding import exclude, fold
from services.scorer.records import IncomingEvent, LeadRow
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.shared.clock import from_us
from services.shared.contracts.events import INTERACTIONS, TouchEvent, decode_touch
from services.shared.errors import Reject
from services.shared.messaging import outbox
from services.shared.messaging.kafka import Outgoing, Record
from services.shared.playbook.sections import Crm
from services.shared.telemetry import EVENTS_APPLIED


class Decoded(NamedTuple):
    """One record: an event for the set, what became of a touch, or both."""

    event: IncomingEvent | None
    touch: TouchEvent | None = None


class Handler:
    """Applies batches; knows no Kafka and never commits. `crm` are the rules of write-back, None
    where there is none.
    """

    def __init__(self, scoring: Scoring, crm: Crm | None = None) -> None:
        self.scoring, self.crm = scoring, crm

    def decode(self, record: Record) -> Decoded:
        """Reads one record. Raises Reject for what can never be applied."""
        if record.topic == INTERACTIONS:
            return Decoded(from_interaction(record.value, self.scoring.cleaner))
        try:
            touch = decode_touch(record.value)
            uuid.UUID(touch.data.id), uuid.UUID(touch.data.lead)
        except ValueError as error:
            raise Reject(f"not a touch event: {error}", where=record.topic) from error
        return Decoded(from_touch(touch, self.scoring.cleaner), touch)

    async def apply(self, connection: AsyncConnection, decoded: Sequence[Decoded]) -> int:
        """Applies a batch inside the caller's transaction; returns how many records it left in the
        outbox.
        """
        events = [record.event for record in decoded if record.event]
        touches = [record.touch for record in decoded if record.touch]
        left = await self._apply_events(connection, events) if events else 0
        if touches:
            await Store(connection).keep_touches(touches)
        return left

    async def _apply_events(
        self, connection: AsyncConnection, events: Sequence[IncomingEvent]
    ) -> int:
        """1 what is new, 2 whose it is, 3 fold, 4 write and announce."""
        store = Store(connection)
        new = await batches.distinct(store, events)
        if not new.events:
            return 0
        batch = await batches.assigned(connection, self.scoring, new)
        await fold(self.scoring, History(connection, self.scoring.fold.declared), batch)
        for lead in batch.leads.values():
            exclude(self.scoring, lead)
            lead.version += 1
        outgoing = await self._announce_batch(store, batch)
        await self.put_out(connection, batch.leads, outgoing)
        EVENTS_APPLIED.inc(len(new.events))
        return len(outgoing)

    async def _announce_batch(self, store: Store, batch: batches.Batch) -> list[Outgoing]:
        merged = batch.merged
        evidence = {
            lead: Evidence(
                events=batch.events.get(lead, []),
                late=lead in batch.late,
                merged=merged.get(lead, []),
                moved=lead in batch.refold,
                identified=lead in batch.identified,
            )
            for lead in batch.leads
        }
        now = self.scoring.clock.now_us()
        outgoing = await self.announce(store, batch.leads, evidence, now)
        for lead in batch.leads.values():
            outgoing += engaged(self.scoring, lead, evidence[lead.id], from_us(now))
        await store.write([*batch.leads.values()], self.scoring.playbook.fold_hash)
        return outgoing

    async def announce(
        self,
        store: Store,
        leads: Mapping[uuid.UUID, LeadRow],
        evidence: Mapping[uuid.UUID, Evidence],
        now: int,
    ) -> list[Outgoing]:
        """Views the leads from `now` (µs) and stores the announcements that are due.

        Returns what others are told, each lead's in order; the leads are still to be written.
        """
        settlement = announcements_due(self.scoring, [*leads.values()], now, evidence)
        announcements = await store.announce(
            leads, settlement.changes, from_us(now), self.scoring.playbook.fold_hash
        )
        changed = {
            (announcement.lead_id, announcement.product): stage_changed(
                self.scoring,
                leads[announcement.lead_id],
                announcement,
                evidence.get(announcement.lead_id, NO_EVIDENCE),
            )
            for announcement in announcements
        }
        outgoing = list(settlement.merged)
        for lead in leads.values():
            for product in lead.states:
                events = (part.get((lead.id, product)) for part in (settlement.qualified, changed))
                outgoing += [event for event in events if event]
        return outgoing

    async def put_out(
        self,
        connection: AsyncConnection,
        leads: Mapping[uuid.UUID, LeadRow],
        outgoing: Sequence[Outgoing],
    ) -> None:
        """Leaves events in the outbox, and leads that a CRM is to hear of in the CRM's."""
        await outbox.enqueue(connection, "scorer", outgoing)
        if self.crm:
            await crm_outbox.enqueue(connection, self.crm, leads.values())
