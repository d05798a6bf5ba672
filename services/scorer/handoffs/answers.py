"""How people answer a hand-off: checked, written with its history, and put out as the event that
it is, in one transaction.
"""

import uuid
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, cast

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scorer.handoffs.records import STATUS_OF, Answer, Handoff, Step
from services.scorer.handoffs.rules import Noted, answer, next_look
from services.scorer.handoffs.store import HandoffStore
from services.scorer.handoffs.working_time import WorkingTime
from services.scorer.queries.repository import LeadRepository, UnknownLead
from services.scorer.queries.sales_status import record_of, with_identifier
from services.scorer.records import UnreadableLead, unpack_profile
from services.scorer.scoring import Scoring
from services.shared.contracts import sales
from services.shared.contracts.event_types import EventType
from services.shared.contracts.events import INTERACTIONS, Interaction, event_uid, keyed_hash
from services.shared.contracts.preferences import read_day
from services.shared.db import value
from services.shared.errors import Reject
from services.shared.messaging import outbox
from services.shared.messaging.kafka import Outgoing
from services.shared.people.audit import Action, Actor, record
from services.shared.runtime import fault_point

UNDO_FOR = timedelta(minutes=10)
AFTER = timedelta(microseconds=1)  # the last word counts, so none has the time of the one before
MOST_FOLLOWED = 20  # hand-offs, each in the place of the one before


class Details(msgspec.Struct, frozen=True):
    """What comes with an answer: who, why (a reason of the playbook), until which day, a note."""

    by: str = ""
    reason: str = ""
    until: str = ""
    note: str = ""


class _Before(msgspec.Struct, frozen=True):
    """What undoing an answer restores: when somebody first responded, and sales' last word."""

    responded_at: datetime | None = None
    again_on: date | None = None
    note: str = ""
    status: str = ""
    reason: str = ""
    until: str = ""


class HandoffAnswers:
    """Answers hand-offs."""

    def __init__(self, engine: AsyncEngine, scoring: Scoring, pepper: bytes) -> None:
        self._engine, self._scoring, self._pepper = engine, scoring, pepper
        playbook = scoring.playbook
        self._section = playbook.handoff
        self._working = WorkingTime.of(playbook.handoff, playbook.company.timezone)

    @property
    def reasons(self) -> Sequence[str]:
        """Why a lead may be rejected or given back."""
        own, known = self._section.own_reasons, self._scoring.playbook.sales.disqualify_reasons
        return list(dict.fromkeys([*own, *known]))

    async def answer(
        self, handoff_id: uuid.UUID, given: Answer, details: Details, actor: Actor
    ) -> Handoff:
        """Answers a hand-off; the same answer again changes nothing. Raises Reject `not-found`,
        `conflict` for one that contradicts an earlier answer or comes after the end, or `invalid`.
        """
        now = self._scoring.clock.now()
        reason, until = self._reason(given, details.reason), self._until(details.until, now)
        async with self._engine.begin() as connection:
            store = HandoffStore(connection)
            handoff = await _locked(store, handoff_id, now)
            if _is_same(handoff, given, reason, until):
                return handoff
            _check_open(handoff, handoff_id, now)
            before = await self._before(connection, handoff)
            status = STATUS_OF[given]
            kept = until if given != "meeting" else None
            answer(handoff, status, now, details.by, reason, kept, details.note)
            handoff.answer, handoff.before_answer = given, before
            handoff.undo_until = now + UNDO_FOR
            handoff.meeting_on = until if given == "meeting" else handoff.meeting_on
            reported = cast(sales.SalesStatus, status)  # an answer's statuses are those of sales
            fact = _fact(handoff, sales.TYPE_OF[reported], given, details, reason, until)
            handoff.answer_event = uuid.UUID(event_uid(sales.scope_of(fact.type), fact.id))
            what: Step = "meeting" if given == "meeting" else status  # type: ignore[assignment]
            noted = Noted(handoff, what, now, details.by, reason, until, details.note)
            await self._keep(connection, actor, noted, fact)
        return handoff

    async def not_reached(self, handoff_id: uuid.UUID, details: Details, actor: Actor) -> Handoff:
        """Notes that the lead was called in vain, and on which day it is called again: without one
        on the next working day. Raises Reject as `answer`.
        """
        now = self._scoring.clock.now()
        again = self._until(details.until, now) or self._working.after_days(now, 1).date()
        async with self._engine.begin() as connection:
            handoff = await _locked(HandoffStore(connection), handoff_id, now)
            _check_open(handoff, handoff_id, now)
            if handoff.again_on == again and details.note in ("", handoff.note):
                return handoff
            handoff.before_answer, handoff.undo_until = _packed(handoff), now + UNDO_FOR
            handoff.again_on, handoff.responded_at = again, handoff.responded_at or now
            handoff.note, handoff.answer = details.note or handoff.note, "not_reached"
            handoff.next_at = next_look(handoff)
            fact = _fact(handoff, EventType.CALL_ATTEMPTED.value, "not_reached", details, "", again)
            noted = Noted(handoff, "not_reached", now, details.by, "", again, details.note)
            await self._keep(connection, actor, noted, fact)
        return handoff

    async def note(self, handoff_id: uuid.UUID, details: Details, actor: Actor) -> Handoff:
        """Adds a note, whatever the status; the same one again changes nothing."""
        if not details.note:
            raise Reject("there is no note", where="body.note", remedy="write one")
        now = self._scoring.clock.now()
        async with self._engine.begin() as connection:
            handoff = await _locked(HandoffStore(connection), handoff_id, now)
            if handoff.note != details.note:
                handoff.note = details.note
                noted = Noted(handoff, "noted", now, details.by, note=details.note)
                await self._keep(connection, actor, noted)
        return handoff

    async def undo(self, handoff_id: uuid.UUID, details: Details, actor: Actor) -> Handoff:
        """Takes the last answer back, within ten minutes; again it changes nothing. Raises Reject
        `conflict` where there is none, or it is older.
        """
        now = self._scoring.clock.now()
        async with self._engine.begin() as connection:
            store = HandoffStore(connection)
            handoff = await _locked(store, handoff_id, now)
            steps = await store.steps(handoff.id)
            if steps and steps[-1].what == "undone":
                return handoff
            answered = next((each.at for each in reversed(steps) if each.what in UNDOABLE), None)
            if answered is None or handoff.undo_until is None or now > handoff.undo_until:
                raise Reject(
                    "it is too late to undo" if handoff.answer else "there is nothing to undo",
                    where="path.handoff_id",
                    remedy="an answer can be taken back for ten minutes; after that report the "
                    "lead's status",
                    kind="conflict",
                )
            fact = self._taken_back(handoff)
            self._restore(handoff)
            at = max(now, answered + AFTER)
            await self._keep(connection, actor, Noted(handoff, "undone", at, details.by), fact)
        return handoff

    def _taken_back(self, handoff: Handoff) -> Interaction | None:
        """The event by which sales' word before the answer counts again; calls stay made."""
        if handoff.answer == "not_reached" or handoff.answer_event is None:
            return None
        before = msgspec.json.decode(handoff.before_answer or "{}", type=_Before)
        restored = {
            sales.UNDONE: handoff.answer_event.hex, "status": before.status,
            "reason": before.reason, "until": before.until, "handoff": str(handoff.id),
        }  # fmt: skip
        properties = dict(sorted((name, given) for name, given in restored.items() if given))
        id_ = f"handoff:{handoff.id}:undo:{handoff.steps}"
        return Interaction(id=id_, type=EventType.SALES_UNDONE.value, properties=properties)

    def _restore(self, handoff: Handoff) -> None:
        before = msgspec.json.decode(handoff.before_answer or "{}", type=_Before)
        handoff.status, handoff.answer = "open", ""
        handoff.before_answer, handoff.undo_until = "", None
        handoff.answered_at, handoff.answered_by = None, ""
        handoff.reason, handoff.until, handoff.meeting_on = "", None, None
        handoff.responded_at, handoff.again_on = before.responded_at, before.again_on
        handoff.note = before.note
        handoff.next_at = next_look(handoff)

    # -- checks -----------------------------------------------------------------------------------

    def _reason(self, given: Answer, reason: str) -> str:
        """As the playbook writes it. Raises Reject for one that it does not have."""
        if given == "disqualify":
            listed = self._scoring.playbook.sales.disqualify_reasons
            properties = {"reason": reason}
            type_ = sales.TYPE_OF["disqualified"]
            found = sales.checked_properties(type_, properties, listed, "body.reason")
            return str(found["reason"])
        return sales.listed(reason, self.reasons, "body.reason") if reason else ""

    def _until(self, text: str, now: datetime) -> date | None:
        """A day that is to come. Raises Reject."""
        if not text:
            return None
        try:
            until = read_day(text)
        except Reject as error:
            raise Reject(error.title, where="body.until", remedy=error.remedy) from error
        today = now.astimezone(self._working.zone).date()
        if until is None or until < today:
            raise Reject(
                f"{text[:40]!r} is not a day to come",
                where="body.until",
                remedy=f"name a day from {today.isoformat()} on",
            )
        return until

    # -- writing ----------------------------------------------------------------------------------

    async def _before(self, connection: AsyncConnection, handoff: Handoff) -> str:
        packed = await value(
            connection, "SELECT profile FROM scorer.lead WHERE id = :id", id=handoff.lead_id
        )
        products = self._scoring.playbook.products
        try:
            last = unpack_profile(packed).sales_of(handoff.product, products) if packed else None
        except UnreadableLead:  # its rows are made again from its events
            last = None
        if last is None:
            return _packed(handoff)
        return _packed(handoff, status=last.status, reason=last.reason, until=last.until)

    async def _keep(
        self,
        connection: AsyncConnection,
        actor: Actor,
        noted: Noted,
        fact: Interaction | None = None,
    ) -> None:
        """Writes a hand-off with its step and who did it, and puts the event out that the step
        is.
        """
        store = HandoffStore(connection)
        await store.note([noted])
        noted.handoff.unpublished += 1
        await store.write([noted.handoff])
        if fact:
            outgoing = await self._outgoing(connection, noted.handoff, fact, noted.at)
            await outbox.enqueue(connection, "scorer", [outgoing])
        action: Action = "note" if noted.what == "noted" else "answer"
        known = {"what": noted.what, "reason": noted.reason}
        chosen = {name: given for name, given in known.items() if given}
        await record(connection, actor, action, f"handoff {noted.handoff.id}", chosen)
        fault_point("before_answer_is_kept")

    async def _outgoing(
        self, connection: AsyncConnection, handoff: Handoff, fact: Interaction, at: datetime
    ) -> Outgoing:
        try:
            strongest = await LeadRepository(connection).strongest_identifier(handoff.lead_id)
        except UnknownLead as error:
            remedy = "wait until an event names the person again"
            raise Reject(
                error.title, where="path.handoff_id", remedy=remedy, kind="not-found"
            ) from error
        fact = with_identifier(fact, strongest)
        _, encoded = record_of(fact, at, at)
        key = keyed_hash(self._pepper, self._scoring.cleaner.strongest(fact))
        return Outgoing(INTERACTIONS, key, encoded)


UNDOABLE = ("accepted", "rejected", "disqualified", "returned", "meeting", "not_reached")


def _packed(handoff: Handoff, **sales_word: Any) -> str:
    before = _Before(handoff.responded_at, handoff.again_on, handoff.note, **sales_word)
    return msgspec.json.encode(before).decode()


async def _locked(store: HandoffStore, handoff_id: uuid.UUID, now: datetime) -> Handoff:
    """A hand-off, or the one that has taken its place. Its lead is to be examined; both are locked
    in the order in which an examination locks them. Raises Reject `not-found`.
    """
    for _ in range(MOST_FOLLOWED):
        seen = await store.get(handoff_id)
        await store.examine_at([seen.lead_id], now)
        handoff = await store.get(handoff_id, lock=True)
        if handoff.superseded_by is None:
            break
        handoff_id = handoff.superseded_by
    if handoff.lead_id != seen.lead_id:
        await store.examine_at([handoff.lead_id], now)
    return handoff


def _is_same(handoff: Handoff, given: Answer, reason: str, until: date | None) -> bool:
    """Whether a hand-off has this answer already."""
    is_new = given == "meeting" and handoff.answer != "meeting"
    if handoff.status != STATUS_OF[given] or is_new:
        return False
    known = handoff.meeting_on if given == "meeting" else handoff.until
    return (not reason or reason == handoff.reason) and (until is None or until == known)


def _check_open(handoff: Handoff, asked: uuid.UUID, now: datetime) -> None:
    """Raises Reject `conflict` for what was answered, or whose time is over; it names the hand-off
    where that is not the one that was asked for.
    """
    is_over = handoff.expires_at is not None and now >= handoff.expires_at
    if handoff.status == "open" and not is_over:
        return
    remedy = "report what has changed since with POST /v1/leads/{id}/status"
    if handoff.status == "next":
        title = "the hand-off is not open yet"
        remedy = "wait until there is room in the week, or raise the playbook's capacity_per_week"
    elif handoff.status == "expired" or is_over:
        title = "the hand-off has expired, and the lead is back in nurture"
    else:
        who = f" by {handoff.answered_by}" if handoff.answered_by else ""
        title = f"the hand-off was {handoff.status}{who} already"
        if handoff.undo_until and now <= handoff.undo_until:
            remedy = "undo that answer first, or " + remedy
    if handoff.id != asked:
        title = f"hand-off {handoff.id} has taken its place: {title}"
    raise Reject(title, where="path.handoff_id", remedy=remedy, kind="conflict")


def _fact(
    handoff: Handoff,
    type_: str,
    given: str,
    details: Details,
    reason: str,
    until: date | None,
) -> Interaction:
    """The answer as the event that it is."""
    stated = {
        "handoff": str(handoff.id), "answer": given, "by": details.by, "reason": reason,
        "until": until.isoformat() if until and given != "meeting" else "", "note": details.note,
        "on": until.isoformat() if until and given == "meeting" else "",
    }  # fmt: skip
    properties = dict(sorted((name, value) for name, value in stated.items() if value))
    id_ = f"handoff:{handoff.id}:{given}:{handoff.steps}"
    return Interaction(id=id_, type=type_, properties=properties)
