"""The heart of nurture: announced stage changes become decisions, one a program, in one transaction
a batch.
"""

import time
import uuid
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.rules.choice import Chooser, Lead, Occasion, Send, Withhold
from services.nurture.store import Store
from services.shared.clock import Clock
from services.shared.contracts.events import (
    CONSENTS,
    TOUCHES,
    ChangeEvent,
    ConsentEvent,
    Snapshot,
    Touch,
    TouchEvent,
    decode_change,
    decode_consent,
    derived,
    encode,
)
from services.shared.contracts.provenance import decode_provenance
from services.shared.errors import Reject
from services.shared.messaging import outbox
from services.shared.messaging.kafka import Outgoing, Record
from services.shared.playbook.sections import UNKNOWN, Program
from services.shared.telemetry import DECISION_SECONDS, TOUCHES_DECIDED

ANNOUNCED = "lead.stage_changed.v1"


class Handler:
    """Applies batches of changes and permissions; knows no Kafka and never commits."""

    def __init__(self, chooser: Chooser, clock: Clock, pepper: bytes) -> None:
        self._chooser, self._clock, self._pepper = chooser, clock, pepper

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
        """Permissions first, then what is known of leads, then decisions."""
        store = Store(connection, self._pepper, self._chooser.service)
        if consents := [event for event in decoded if isinstance(event, ConsentEvent)]:
            await store.keep_consents(await store.unheard(consents))
        changes = [event for event in decoded if isinstance(event, ChangeEvent)]
        if not changes:
            return 0
        for event in changes:
            for old in event.data.merged:
                await store.merge(old, event.data.lead)
        living = await store.living(event.data.lead for event in changes)
        await store.keep_snapshots(
            [event.data for event in changes if living[event.data.lead] == event.data.lead]
        )
        await store.keep_seen(
            (living[e.data.lead], content) for e in changes for content in e.data.content
        )
        await store.lock(living.values())
        answered = await store.answered(event.id for event in changes if event.type == ANNOUNCED)
        asking = {
            e.id: e
            for e in changes
            if (e.type == ANNOUNCED and e.id not in answered) or e.data.requests
        }
        return await self._decide(connection, store, list(asking.values()), living) if asking else 0

    async def _decide(
        self,
        connection: AsyncConnection,
        store: Store,
        asking: list[ChangeEvent],
        living: dict[str, str],
    ) -> int:
        now = self._clock.now()
        known = await store.leads({(living[e.data.lead], e.data.product) for e in asking}, now)
        decisions: list[tuple[Touch, float | None]] = []
        for event in asking:
            lead_id = living[event.data.lead]
            lead = known.get((lead_id, event.data.product)) or Lead(
                lead_id, event.data.snapshot or Snapshot(stage=UNKNOWN)
            )
            waited = (time.time() - event.postedat) * 1000 if event.postedat else None
            made = (
                self._touches(event, lead, now)
                if event.type == ANNOUNCED
                else self._answers(event, lead, now)
            )
            decisions += [(touch, waited) for touch in made]
        new = await store.decide(decisions)
        fresh = [(touch, waited) for touch, waited in decisions if touch.id in new]
        for touch, waited in fresh:
            TOUCHES_DECIDED.labels(touch.status, touch.reason).inc()
            if waited is not None:
                DECISION_SECONDS.observe(waited / 1000)
        await outbox.enqueue(
            connection, "nurture", [told("touch.decided.v1", touch) for touch, _ in fresh]
        )
        return len(fresh)

    def _touches(self, event: ChangeEvent, lead: Lead, now: datetime) -> list[Touch]:
        """One decision for each program that answers; where none does, one that says so."""
        occasion = Occasion(
            event.data.stage,
            event.data.product,
            event.data.cause_at or event.time,
            decode_provenance(event.data.imported),
        )
        programs: list[Program | None] = [*self._chooser.programs(lead, occasion)]
        return [
            _touch(
                event.id,
                lead,
                occasion,
                program,
                self._chooser.decide(lead, occasion, program, now),
                now,
            )
            for program in programs or [None]
        ]

    def _answers(self, event: ChangeEvent, lead: Lead, now: datetime) -> list[Touch]:
        """What the lead asked for; a request is answered once a program."""
        occasion = Occasion(event.data.stage, event.data.product, event.time)
        return [
            _touch(derived(request.uid, "request"), lead, occasion, program, decision, now)
            for request in event.data.requests
            for program, content in self._chooser.answers(request, event.data.product)
            for decision in [self._chooser.answer(lead, request, program, content, now)]
        ]


def _touch(
    occasion_id: str,
    lead: Lead,
    occasion: Occasion,
    program: Program | None,
    decision: Send | Withhold,
    now: datetime,
) -> Touch:
    name, send = program.id if program else "", decision if isinstance(decision, Send) else None
    return Touch(
        id=derived(occasion_id, "touch", name),
        lead=lead.id,
        product=occasion.product,
        announcement=occasion_id,
        program=name,
        stage=occasion.stage,
        content=send.content.id if send else "",
        channel=program.channel if program and send else "",
        status="due" if send else "withheld",
        reason=decision.reason,
        why=decision.why,
        propensity=send.propensity if send else None,
        decided_at=now,
        due_at=send.due_at if send else None,
    )


def told(kind: str, touch: Touch) -> Outgoing:
    """What others hear of a touch."""
    at = touch.sent_at if kind == "touch.sent.v1" else touch.decided_at
    if at is None:
        raise ValueError(f"a touch without its time: {touch.id}")
    event = TouchEvent(
        id=derived(touch.id, kind, touch.status),
        type=kind,
        time=at,
        data=touch,
        postedat=time.time(),
    )
    return Outgoing(TOUCHES, touch.lead, encode(event))
