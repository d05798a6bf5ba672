"""Announced stage changes and requests become decisions, one a program, in one transaction a
batch.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.decided import record
from services.nurture.rules.answers import (
    STAGE_CHANGED,
    answers_to_requests,
    answers_to_stage,
    is_step_forward,
)
from services.nurture.rules.enrolment import Enrolment
from services.nurture.rules.grounds import Rules
from services.nurture.rules.lead import Lead
from services.nurture.rules.time_zones import is_unreadable
from services.nurture.store import tracking
from services.nurture.store.consents import ConsentStore
from services.nurture.store.enrolments import EnrolmentStore, ProgramKey
from services.nurture.store.leads import DoneContent, LeadStore
from services.nurture.store.outcomes import OutcomeStore, Progressed
from services.nurture.store.receivers import ReceiverStore
from services.nurture.store.snapshots import LeadKey, uuids
from services.nurture.store.touches import Decision, TouchStore
from services.nurture.touch_events import handed_over
from services.shared.clock import Clock
from services.shared.contracts.consent import DELIVERY
from services.shared.contracts.events import (
    CONSENTS,
    ChangeEvent,
    ConsentEvent,
    Snapshot,
    decode_change,
    decode_consent,
)
from services.shared.errors import Reject
from services.shared.messaging import outbox
from services.shared.messaging.kafka import Record
from services.shared.playbook.sections import UNKNOWN
from services.shared.telemetry import TIME_ZONES_UNREADABLE


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
            uuids([event.data.lead, *event.data.merged])
            return event
        except ValueError as error:
            raise Reject(f"not readable: {error}", where=record.topic) from error

    async def apply(
        self, connection: AsyncConnection, decoded: Sequence[ChangeEvent | ConsentEvent]
    ) -> int:
        """Consents first, then what is known of leads, then decisions; returns how many of them,
        and of steps of hand-offs, are to be published.
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
        steps = [step for event in changes if (step := handed_over(event))]
        await outbox.enqueue(connection, "nurture", steps)
        return await self._decide(connection, leads, changes, ids, now) + len(steps)

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
        in_programs: dict[str, dict[str, Enrolment]] = defaultdict(dict)  # by lead and program
        for one in enrolments.values():
            in_programs[one.lead][one.program] = one
        for event in undecided:
            key = _key(event, ids)
            lead = known.get(key) or Lead(key.lead, event.data.snapshot or Snapshot(stage=UNKNOWN))
            if is_unreadable(lead.snapshot.traits):
                TIME_ZONES_UNREADABLE.inc()
            elapsed_ms = (time.time() - event.postedat) * 1000 if event.postedat else None
            if event.type == STAGE_CHANGED:
                answers = answers_to_stage(self._rules, event, lead, now, in_programs[lead.id])
                touches = [answer.touch for answer in answers]
                for begun in (answer.enrolment for answer in answers):
                    if begun:
                        in_programs[begun.lead][begun.program] = begun
                        new_enrolments[ProgramKey(begun.lead, begun.program)] = begun
            else:
                touches = answers_to_requests(self._rules, event, lead, now)
            decisions += [Decision(touch, elapsed_ms) for touch in touches]
        new = await record(connection, decisions)
        await store.keep(
            (one for one in new_enrolments.values() if one.last_touch in new),
            self._rules.playbook.hash,
        )
        return len(new)

    def _progress(self, changes: Sequence[ChangeEvent], ids: Mapping[str, str]) -> list[Progressed]:
        """The steps forward that leads took by their own acts."""
        stages = self._rules.playbook.stages
        return [
            Progressed(ids[change.lead], change.product, change.cause_at)
            for event in changes
            if event.type == STAGE_CHANGED
            and (change := event.data).cause_at
            and is_step_forward(stages, change)
        ]

    async def apply_apart(
        self, connection: AsyncConnection, decoded: ChangeEvent | ConsentEvent, error: Exception
    ) -> int:
        """Raises `error`: what fails alone here is at fault itself."""
        raise error


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
