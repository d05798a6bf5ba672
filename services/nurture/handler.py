"""Announced stage changes and requests become decisions, one a program, in one transaction a
batch.
"""

import time
import uuid
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture import touch_events
from services.nurture.rules.decision import Send, answer_request, decide
from services.nurture.rules.grounds import Rules, Withhold
from services.nurture.rules.lead import Lead, Trigger
from services.nurture.rules.time_zones import is_unreadable
from services.nurture.store.consents import ConsentStore
from services.nurture.store.leads import LeadStore, SeenContent
from services.nurture.store.snapshots import LeadKey
from services.nurture.store.touches import Decision, TouchStore
from services.shared.clock import Clock
from services.shared.contracts.events import (
    CONSENTS,
    ChangeEvent,
    ConsentEvent,
    Snapshot,
    Touch,
    decode_change,
    decode_consent,
    derived,
)
from services.shared.contracts.provenance import decode_provenance, encode_provenance
from services.shared.errors import Reject
from services.shared.messaging import outbox
from services.shared.messaging.kafka import Record
from services.shared.playbook.programs import Program
from services.shared.playbook.sections import UNKNOWN
from services.shared.telemetry import DECISION_SECONDS, TIME_ZONES_UNREADABLE, TOUCHES_DECIDED

STAGE_CHANGED = "lead.stage_changed.v1"


class Handler:
    """Applies batches of changes and consents; knows no Kafka and never commits."""

    def __init__(self, rules: Rules, clock: Clock, pepper: bytes) -> None:
        self._rules, self._clock, self._pepper = rules, clock, pepper

    def decode(self, record: Record) -> ChangeEvent | ConsentEvent:
        """Reads one record. Raises Reject for what can never be applied."""
        try:
            if record.topic == CONSENTS:
                return decode_consent(record.value)
            event = decode_change(record.value)
            for lead in (event.data.lead, *event.data.merged):
                uuid.UUID(lead)
            return event
        except ValueError as error:
            raise Reject(f"not readable: {error}", where=record.topic) from error

    async def apply(
        self, connection: AsyncConnection, decoded: Sequence[ChangeEvent | ConsentEvent]
    ) -> int:
        """Consents first, then what is known of leads, then decisions; returns the number of new
        ones.
        """
        if consents := [event for event in decoded if isinstance(event, ConsentEvent)]:
            store = ConsentStore(connection)
            await store.keep(await store.new(consents))
        changes = [event for event in decoded if isinstance(event, ChangeEvent)]
        if not changes:
            return 0
        leads = LeadStore(connection, self._pepper, self._rules.library.request_programs)
        ids = await _keep(leads, changes)
        await leads.lock(ids.values())  # those that are new too
        undecided = await _undecided(TouchStore(connection), changes)
        if not undecided:
            return 0
        now = self._clock.now()
        known = await leads.leads((_key(event, ids) for event in undecided), now)
        decisions: list[Decision] = []
        for event in undecided:
            key = _key(event, ids)
            lead = known.get(key) or Lead(key.lead, event.data.snapshot or Snapshot(stage=UNKNOWN))
            decisions += self._decisions(event, lead, now)
        return await _record(connection, decisions)

    async def apply_apart(
        self, connection: AsyncConnection, decoded: ChangeEvent | ConsentEvent, error: Exception
    ) -> int:
        """Raises `error`: what fails alone here is at fault itself."""
        raise error

    def _decisions(self, event: ChangeEvent, lead: Lead, now: datetime) -> list[Decision]:
        if is_unreadable(lead.snapshot.traits):
            TIME_ZONES_UNREADABLE.inc()
        elapsed_ms = (time.time() - event.postedat) * 1000 if event.postedat else None
        decide_on = self._stage_touches if event.type == STAGE_CHANGED else self._requested_touches
        return [Decision(touch, elapsed_ms) for touch in decide_on(event, lead, now)]

    def _stage_touches(self, event: ChangeEvent, lead: Lead, now: datetime) -> list[Touch]:
        """A touch for each program that answers; where none does, one that says so."""
        change = event.data
        trigger = Trigger(
            change.stage,
            change.product,
            change.cause_at or event.time,
            decode_provenance(change.imported),
        )
        programs: list[Program | None] = [*self._rules.library.programs(lead, trigger)]
        return [
            _touch(
                event.id, lead, trigger, program,
                decide(self._rules, lead, trigger, program, now), now,
            )
            for program in programs or [None]
        ]  # fmt: skip

    def _requested_touches(self, event: ChangeEvent, lead: Lead, now: datetime) -> list[Touch]:
        """A touch for each thing that the lead asked for; a request is answered once a program."""
        change = event.data
        return [
            _touch(
                derived(request.uid, "request"), lead,
                Trigger(change.stage, change.product, request.at,
                        decode_provenance(request.imported)),
                item.program, answer_request(self._rules, lead, request, item, now), now,
                is_requested=True,
            )
            for request in change.requests
            for item in self._rules.library.requested(request, change.product)
        ]  # fmt: skip


async def _keep(store: LeadStore, changes: Sequence[ChangeEvent]) -> dict[str, str]:
    """Merges leads, keeps snapshots and content seen; returns the id under which each lead goes
    on. Locks merges before rows, and rows before they are written, as whoever sends does.
    """
    merges = [(event.data.lead, *event.data.merged) for event in changes if event.data.merged]
    await store.lock_against_merges(
        (event.data.lead for event in changes), (lead for merge in merges for lead in merge)
    )
    for event in changes:
        for merged in event.data.merged:
            await store.merge(merged, event.data.lead)
    ids = await store.surviving(event.data.lead for event in changes)
    await store.lock(ids.values())
    await store.keep_addresses((event.data for event in changes), ids)
    await store.keep_snapshots(
        event.data for event in changes if ids[event.data.lead] == event.data.lead
    )
    await store.keep_seen(
        SeenContent(ids[event.data.lead], content)
        for event in changes
        for content in event.data.content
    )
    return ids


async def _undecided(store: TouchStore, changes: Sequence[ChangeEvent]) -> list[ChangeEvent]:
    """The changes that ask for a decision, each once."""
    announced = [event.id for event in changes if event.type == STAGE_CHANGED]
    decided = await store.decided(announced)
    by_id = {
        event.id: event
        for event in changes
        if (event.type == STAGE_CHANGED and event.id not in decided) or event.data.requests
    }
    return list(by_id.values())


async def _record(connection: AsyncConnection, decisions: Sequence[Decision]) -> int:
    """Adds decisions with their events; returns how many are new."""
    added = await TouchStore(connection).add(decisions)
    new = [decision for decision in decisions if decision.touch.id in added]
    for touch, elapsed_ms in new:
        TOUCHES_DECIDED.labels(touch.status, touch.reason).inc()
        if elapsed_ms is not None:
            DECISION_SECONDS.observe(elapsed_ms / 1000)
    await outbox.enqueue(
        connection, "nurture", [touch_events.decided(decision.touch) for decision in new]
    )
    return len(new)


def _key(event: ChangeEvent, ids: dict[str, str]) -> LeadKey:
    return LeadKey(ids[event.data.lead], event.data.product)


def _touch(
    cause_id: str,
    lead: Lead,
    trigger: Trigger,
    program: Program | None,
    decision: Send | Withhold,
    now: datetime,
    *,
    is_requested: bool = False,
) -> Touch:
    """The touch of a decision; its id is derived from its cause and program."""
    name, send = program.id if program else "", decision if isinstance(decision, Send) else None
    return Touch(
        id=derived(cause_id, "touch", name),
        lead=lead.id,
        product=trigger.product,
        announcement=cause_id,
        program=name,
        stage=trigger.stage,
        content=send.content.id if send else "",
        channel=program.channel if program and send else "",
        status="due" if send else "withheld",
        reason=decision.reason,
        why=decision.why,
        propensity=send.propensity if send else None,
        decided_at=now,
        cause_at=trigger.cause_at,
        imported=encode_provenance(trigger.imported),
        requested=is_requested,
        due_at=send.due_at if send else None,
    )
