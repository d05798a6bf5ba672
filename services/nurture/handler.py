"""Announced stage changes and requests become decisions, one a program, in one transaction a
batch.
"""

import time
import uuid
from collections import ChainMap
from collections.abc import Mapping, MutableMapping, Sequence
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.decided import record, touch_of
from services.nurture.rules.decision import answer_request, decide
from services.nurture.rules.enrolment import Enrolment
from services.nurture.rules.grounds import Rules
from services.nurture.rules.lead import Lead, Trigger
from services.nurture.rules.steps import entered
from services.nurture.rules.time_zones import is_unreadable
from services.nurture.store import tracking
from services.nurture.store.consents import ConsentStore
from services.nurture.store.enrolments import EnrolmentStore, ProgramKey
from services.nurture.store.leads import DoneContent, LeadStore
from services.nurture.store.outcomes import OutcomeStore, Progressed
from services.nurture.store.receivers import ReceiverStore
from services.nurture.store.snapshots import LeadKey
from services.nurture.store.touches import Decision, TouchStore
from services.shared.clock import Clock
from services.shared.contracts.consent import DELIVERY
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
from services.shared.contracts.provenance import decode_provenance
from services.shared.errors import Reject
from services.shared.messaging.kafka import Record
from services.shared.playbook.programs import Program
from services.shared.playbook.sections import UNKNOWN
from services.shared.telemetry import TIME_ZONES_UNREADABLE

STAGE_CHANGED = "lead.stage_changed.v1"
OWN_ACTS = frozenset({"event", "late_evidence"})  # causes of a change


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
            await self._keep_consents(connection, consents)
        changes = [event for event in decoded if isinstance(event, ChangeEvent)]
        if not changes:
            return 0
        leads = LeadStore(connection, self._pepper, self._rules.library.request_programs)
        ids = await _keep(leads, changes)
        await leads.lock(ids.values())  # those that are new too
        said = {
            LeadKey(ids[event.data.lead], event.data.product): event.data.snapshot
            for event in changes
            if event.data.snapshot and tracking.says_of_tracking(event.data.snapshot)
        }
        await tracking.keep_refused(connection, said, self._pepper)
        await OutcomeStore(connection).keep_progress(self._progress(changes, ids))
        now = self._clock.now()
        await EnrolmentStore(connection).call({*ids.values()}, now)
        return await self._decide(connection, leads, changes, ids, now)

    async def _keep_consents(
        self, connection: AsyncConnection, consents: Sequence[ConsentEvent]
    ) -> None:
        """Keeps permissions and refusals, and what they say of mails that came back."""
        store = ConsentStore(connection)
        words = [event for event in consents if event.data.purpose != DELIVERY]
        await store.keep(await store.new(words))
        await OutcomeStore(connection).keep_refusals([event.data for event in words])
        await ReceiverStore(connection).keep_reports([event.data for event in consents])
        concerned = await tracking.leads_of(connection, [event.data for event in words])
        await tracking.keep_refused(connection, concerned, self._pepper)

    async def _decide(
        self,
        connection: AsyncConnection,
        leads: LeadStore,
        changes: Sequence[ChangeEvent],
        ids: Mapping[str, str],
        now: datetime,
    ) -> int:
        """Decides what these changes ask for and is not decided yet; returns how much that is."""
        undecided = await _undecided(TouchStore(connection), changes)
        if not undecided:
            return 0
        known = await leads.leads(
            (_key(event, ids) for event in undecided), now, self._rules.account_of
        )
        store = EnrolmentStore(connection)
        enrolments = await store.of(ids[event.data.lead] for event in undecided)
        decisions: list[Decision] = []
        new_enrolments: dict[ProgramKey, Enrolment] = {}
        in_programs = ChainMap(new_enrolments, enrolments)
        for event in undecided:
            key = _key(event, ids)
            lead = known.get(key) or Lead(key.lead, event.data.snapshot or Snapshot(stage=UNKNOWN))
            if is_unreadable(lead.snapshot.traits):
                TIME_ZONES_UNREADABLE.inc()
            elapsed_ms = (time.time() - event.postedat) * 1000 if event.postedat else None
            if event.type == STAGE_CHANGED:
                touches = self._stage_touches(event, lead, now, in_programs)
            else:
                touches = self._requested_touches(event, lead, now)
            decisions += [Decision(touch, elapsed_ms) for touch in touches]
        new = await record(connection, decisions)
        await store.keep(
            (one for one in new_enrolments.values() if one.last_touch in new),
            self._rules.playbook.hash,
        )
        return len(new)

    def _progress(self, changes: Sequence[ChangeEvent], ids: Mapping[str, str]) -> list[Progressed]:
        """The steps forward that leads took by their own acts."""
        stages = {stage: place for place, stage in enumerate(self._rules.playbook.stages)}
        return [
            Progressed(ids[change.lead], change.product, change.cause_at)
            for event in changes
            if event.type == STAGE_CHANGED
            and (change := event.data).cause in OWN_ACTS
            and change.cause_at
            and stages.get(change.stage, -1) > stages.get(change.from_stage, len(stages))
        ]

    async def apply_apart(
        self, connection: AsyncConnection, decoded: ChangeEvent | ConsentEvent, error: Exception
    ) -> int:
        """Raises `error`: what fails alone here is at fault itself."""
        raise error

    def _stage_touches(
        self,
        event: ChangeEvent,
        lead: Lead,
        now: datetime,
        enrolments: MutableMapping[ProgramKey, Enrolment],
    ) -> list[Touch]:
        """A touch for each program that answers; where none does, one that says so. Adds who
        enters to the enrolments.
        """
        change, library = event.data, self._rules.library
        trigger = Trigger(
            change.stage,
            change.product,
            change.cause_at or event.time,
            decode_provenance(change.imported),
            persona=library.persona(lead.snapshot.traits).id,
        )
        programs: list[Program | None] = [*library.programs(lead, trigger)]
        touches = []
        for program in programs or [None]:
            key = ProgramKey(lead.id, program.id if program else "")
            touch_id = derived(event.id, "touch", key.program)
            known = enrolments.get(key)
            decision = decide(self._rules, lead, trigger, program, now, known, touch_id)
            touches.append(touch_of(touch_id, event.id, lead, trigger, program, decision, now))
            if program and (enters := entered(program, lead, touch_id, decision, now, known)):
                enrolments[key] = enters
        return touches

    def _requested_touches(self, event: ChangeEvent, lead: Lead, now: datetime) -> list[Touch]:
        """A touch for each thing that the lead asked for; a request is answered once a program."""
        change = event.data
        library = self._rules.library
        persona = library.persona(lead.snapshot.traits).id
        touches = []
        for request in change.requests:
            cause = derived(request.uid, "request")
            provenance = decode_provenance(request.imported)
            trigger = Trigger(change.stage, change.product, request.at, provenance, persona=persona)
            for item in library.requested(request, change.product):
                touch_id = derived(cause, "touch", item.program.id)
                decision = answer_request(self._rules, lead, request, item, now)
                touch = touch_of(touch_id, cause, lead, trigger, item.program, decision, now)
                touches.append(replace(touch, requested=True))
        return touches


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
    await store.keep_done(
        DoneContent(ids[event.data.lead], content, _last_act(event) or event.time)
        for event in changes
        for content in event.data.content
    )
    answers: dict[str, datetime] = {}
    for event in changes:
        if at := _last_act(event):
            lead = ids[event.data.lead]
            answers[lead] = max(at, answers.get(lead, at))
    await store.keep_answers(answers)
    return ids


def _last_act(event: ChangeEvent) -> datetime | None:
    """When its lead last did or said anything by itself."""
    snapshot = event.data.snapshot
    return Lead(event.data.lead, snapshot).last_answer_at if snapshot else None


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


def _key(event: ChangeEvent, ids: Mapping[str, str]) -> LeadKey:
    return LeadKey(ids[event.data.lead], event.data.product)
