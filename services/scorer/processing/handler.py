"""The heart of the scorer: a consumed batch becomes lead states, announcements and outgoing events
in one transaction.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.crm import outbox as crm_outbox
from services.scorer.failing import FailingLeads, is_of_one_lead
from services.scorer.handoffs.store import HandoffStore
from services.scorer.history import History
from services.scorer.processing import batch as batches
from services.scorer.processing import trials
from services.scorer.processing.announcements import (
    NO_EVIDENCE,
    Evidence,
    announcements_due,
    check,
    engaged,
    stage_changed,
)
from services.scorer.processing.candidates import Before, known_before, to_be_examined
from services.scorer.processing.decoding import from_interaction, from_touch
from services.scorer.processing.folding import exclude, fold, rebuild
from services.scorer.profile_parts import ProfileParts
from services.scorer.records import Announcement, IncomingEvent, LeadRow
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.scorer.touch_results import Moved, TouchResults
from services.shared.clock import from_us
from services.shared.contracts.events import (
    INTERACTIONS,
    OWN_ACTS,
    TouchEvent,
    decode_touch,
    is_forward,
    is_handoff_step,
)
from services.shared.errors import Reject
from services.shared.messaging import outbox
from services.shared.messaging.kafka import Outgoing, Record
from services.shared.playbook.sections import Crm
from services.shared.telemetry import EVENTS_APPLIED

# what is told of a touch and is none of its states
OUTSIDE_TIMELINES = frozenset({"touch.answered.v1", "touch.exported.v1"})
NOTHING_BEFORE: Mapping[uuid.UUID, Before] = {}


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
        if is_handoff_step(record.value):
            return Decoded(None)
        try:
            touch = decode_touch(record.value)
            uuid.UUID(touch.data.id), uuid.UUID(touch.data.lead)
        except ValueError as error:
            raise Reject(f"not a touch event: {error}", where=record.topic) from error
        state = None if touch.type in OUTSIDE_TIMELINES else touch
        return Decoded(from_touch(touch, self.scoring.cleaner), state)

    async def apply(self, connection: AsyncConnection, decoded: Sequence[Decoded]) -> int:
        """Applies a batch inside the caller's transaction; returns how many records it left in the
        outbox.
        """
        events = [record.event for record in decoded if record.event]
        touches = [record.touch for record in decoded if record.touch]
        if tests := [event for event in events if event.provenance.test]:
            await trials.attempt(connection, tests, self._apply_events)
            events = [event for event in events if not event.provenance.test]
        left = await self._apply_events(connection, events) if events else 0
        await self._keep_touches(connection, touches, events)
        return left

    async def _keep_touches(
        self,
        connection: AsyncConnection,
        touches: Sequence[TouchEvent],
        events: Sequence[IncomingEvent],
    ) -> None:
        """What became of touches, and what answers them."""
        if touches:
            await Store(connection).keep_touches(touches)
        await TouchResults(connection, self.scoring.playbook.stages).keep(touches, events)

    async def _apply_events(
        self, connection: AsyncConnection, events: Sequence[IncomingEvent]
    ) -> int:
        """1 what is new, 2 whose it is, 3 fold, 4 write and announce."""
        store = Store(connection)
        new = await batches.distinct(store, events)
        if not new.events:
            return 0
        batch = await batches.assigned(connection, self.scoring, new)
        await self._leave_failing(connection, batch)
        left = await self._change(connection, batch)
        EVENTS_APPLIED.inc(len(new.events))
        return left

    async def _change(self, connection: AsyncConnection, batch: batches.Batch) -> int:
        """Folds the batch's events, writes its leads, and puts out what is told of them."""
        now, declared = self.scoring.clock.now_us(), self.scoring.fold.declared
        before = known_before(batch.leads.values(), batch.events, now)
        await fold(self.scoring, History(connection, declared, self._parts(connection)), batch)
        for lead in batch.leads.values():
            exclude(self.scoring, lead)
            lead.version += 1
        return len(await self.write(connection, batch.leads, _evidence(batch), before))

    # -- leads that fail --------------------------------------------------------------------------

    async def _leave_failing(self, connection: AsyncConnection, batch: batches.Batch) -> None:
        """Leaves marked leads as they are; their new events are stored, and folded with the rest
        once the lead is mended.
        """
        failing = FailingLeads(connection)
        marked = await failing.among({*batch.leads, *batch.merged_away})
        for old in sorted(marked & batch.merged_away.keys()):
            into = batch.merged_away[old]
            batch.joined.pop(into, None)  # it lacks what has waited
            if await failing.pass_on(old, into):
                marked.add(into)
        marked &= batch.leads.keys()
        if marked:
            await self._parts(connection).drop(marked)
        waiting = {lead: _first(batch.events[lead]) for lead in marked if lead in batch.events}
        if waiting:
            await failing.keep_waiting(waiting)
        for lead in marked & set(batch.merged):
            row, store = batch.leads[lead], Store(connection)
            if row.created:
                await store.write([LeadRow(lead, created=True)], "")
            await store.keep_announced(lead, row.announced)
        batch.leave(marked)

    async def apply_apart(
        self, connection: AsyncConnection, decoded: Decoded, error: Exception
    ) -> int:
        """Applies one record that fails by `error` where a lead is at fault: what is stored of
        it, or its other events. The lead is made again from its events, or marked as failing, and
        the event is stored all the same. Raises `error` where the record itself is at fault.
        """
        if decoded.event is None or decoded.event.provenance.test or not is_of_one_lead(error):
            raise error
        store = Store(connection)
        new = await batches.distinct(store, [decoded.event])
        batch = await batches.assigned(connection, self.scoring, new)
        await self._leave_failing(connection, batch)
        uids = {event.uid for event in new.events}
        history = History(connection, self.scoring.fold.declared)
        sound = [await self._is_sound(history, lead, uids) for lead in batch.leads.values()]
        if all(sound):
            raise error
        left = 0
        for lead in [*batch.leads]:
            left += await self._change_alone(connection, batch, lead)
        touches = [decoded.touch] if decoded.touch else []
        await self._keep_touches(connection, touches, [decoded.event])
        return left

    async def _is_sound(self, history: History, lead: LeadRow, uids: set[str]) -> bool:
        """Whether what is stored of a lead can be read, and its events but for `uids` folded."""
        if lead.unreadable:
            return False
        now, product_states = self.scoring.clock.now_us(), lead.states.values()
        try:
            folds = [state.fold for state in product_states]
            if folds:
                self.scoring.fold.view(folds, [now] * len(folds), [0.0] * len(folds))
            again = LeadRow(lead.id, identifiers=lead.identifiers)
            rebuild(self.scoring, again, await history.known_of(lead.id, but_for=uids))
            check(self.scoring, again, now)
        except Exception as error:
            if not is_of_one_lead(error):
                raise
            return False
        return True

    async def _change_alone(
        self, connection: AsyncConnection, batch: batches.Batch, lead: uuid.UUID
    ) -> int:
        """Makes one lead of a batch again from all of its events, or marks it as failing."""
        events, row = batch.events.get(lead, []), batch.leads[lead]
        announced = row.announced
        apart = batches.Batch(
            {lead: events} if events else {},
            {lead: row},
            refold={lead},
            identified=batch.identified & {lead},
            merged_away={old: new for old, new in batch.merged_away.items() if new == lead},
        )
        try:
            async with connection.begin_nested():
                return await self._change(connection, apart)
        except Exception as error:
            if not is_of_one_lead(error):
                raise
            if row.created:
                await Store(connection).write([LeadRow(lead, created=True)], "")
            if lead in batch.merged:
                await Store(connection).keep_announced(lead, announced)
            await self._parts(connection).drop([lead])
            waiting = _first(events) if events else None
            await FailingLeads(connection).mark(lead, "consumer", error, waiting)
            return 0

    def _parts(self, connection: AsyncConnection) -> ProfileParts:
        return ProfileParts(connection, self.scoring.fold.declared)

    # -- announcing -------------------------------------------------------------------------------

    async def write(
        self,
        connection: AsyncConnection,
        leads: Mapping[uuid.UUID, LeadRow],
        evidence: Mapping[uuid.UUID, Evidence],
        before: Mapping[uuid.UUID, Before] = NOTHING_BEFORE,
    ) -> list[Outgoing]:
        """Writes folded leads with what is announced of them, and puts it out; returns it.
        `before` is what was known of each before its new events.
        """
        store, now = Store(connection), self.scoring.clock.now_us()
        outgoing = await self.announce(store, leads, evidence, now)
        for lead in leads.values():
            of_lead = evidence.get(lead.id, NO_EVIDENCE)
            outgoing += engaged(self.scoring, lead, of_lead, from_us(now))
        await store.write([*leads.values()], self.scoring.playbook.fold_hash)
        await outbox.enqueue(connection, "scorer", outgoing)
        if self.crm:
            await crm_outbox.enqueue(connection, self.crm, leads.values())
        due = to_be_examined(self.scoring, leads.values(), evidence, before, now)
        moments = {lead: from_us(now) + delay for lead, delay in due.items()}
        await HandoffStore(connection).examine_each(moments)
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
        await self._moved(store, announcements)
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

    async def _moved(self, store: Store, announcements: Sequence[Announcement]) -> None:
        """Notes the steps that leads took forward by their own acts."""
        stages = self.scoring.playbook.stages
        await TouchResults(store.connection, stages).moved(
            [
                Moved(each.lead_id, each.product, each.cause_at)
                for each in announcements
                if each.cause in OWN_ACTS and is_forward(stages, each.from_stage, each.stage)
            ]
        )


def _evidence(batch: batches.Batch) -> dict[uuid.UUID, Evidence]:
    merged = batch.merged
    return {
        lead: Evidence(
            events=batch.events.get(lead, []),
            late=lead in batch.late,
            merged=merged.get(lead, []),
            moved=lead in batch.refold,
            identified=lead in batch.identified,
        )
        for lead in batch.leads
    }


def _first(events: Iterable[IncomingEvent]) -> datetime:
    """When the first of these events was received."""
    return min(event.received_at for event in events)
