"""What goes out in the next days, as the leads would get it, and what people decide about it: held,
released, sent now, skipped.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.nurture import touch_events
from services.nurture.decided import record
from services.nurture.previews import as_the_lead_reads_it
from services.nurture.rules.answers import next_touch
from services.nurture.rules.decision import Send, recheck
from services.nurture.rules.enrolment import Enrolment
from services.nurture.rules.grounds import Rules, Withhold
from services.nurture.rules.lead import Lead
from services.nurture.rules.steps import Step, step
from services.nurture.store.enrolments import EnrolmentStore, ProgramKey
from services.nurture.store.leads import LeadStore
from services.nurture.store.planned import (
    Act,
    Action,
    Filter,
    Place,
    Planned,
    PlannedState,
    PlannedStore,
    PlannedTouch,
)
from services.nurture.store.snapshots import LeadKey
from services.nurture.store.touches import Decision, TouchStore
from services.shared.clock import Clock, rfc3339
from services.shared.contracts.events import Snapshot, Touch
from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.messaging import outbox
from services.shared.people import audit
from services.shared.people.audit import Actor
from services.shared.playbook.sections import UNKNOWN

log = structlog.get_logger()
DAYS = 7
TRIES = 3  # of a decision that a deadlock or a lost connection ended
SKIPPED = "skipped"
BECOMES: Mapping[Action, PlannedState] = {
    "hold": "held", "release": "planned", "send-now": "send-now", "skip": "skipped",
}  # fmt: skip
# which states each decision changes; one that it leads to stays as it is
CHANGES: Mapping[Action, frozenset[PlannedState]] = {
    "hold": frozenset({"planned"}),
    "release": frozenset({"held", "send-now"}),
    "send-now": frozenset({"planned"}),
    "skip": frozenset({"planned", "held"}),
}
AUDITED: Mapping[Action, audit.Action] = {
    "hold": "hold", "release": "release", "send-now": "send", "skip": "skip",
}  # fmt: skip
GONE = "`GET /v1/touches?lead=…` tells what became of it"


class Upcoming(NamedTuple):
    """A planned touch: as things stand, with what the lead would read. `against` is what speaks
    against it by now, '' where nothing does. One that is yet to be decided at its moment has no
    `decided_at`.
    """

    touch: Touch
    state: PlannedState
    against: str
    acts: Sequence[Act]
    lead: Lead
    title: str = ""
    subject: str = ""
    text: str = ""
    html: str = ""


class UpcomingPage(NamedTuple):
    """By moment; `next` is where the following page begins, None on the last one."""

    upcoming: list[Upcoming]
    next: Place | None


class PlannedTouches:
    """Reads and decides; `notify` is called when something may be due, or is to be published."""

    def __init__(
        self,
        engine: AsyncEngine,
        rules: Rules,
        clock: Clock,
        pepper: bytes,
        notify: Callable[[], None],
    ) -> None:
        self._engine, self._rules, self._clock = engine, rules, clock
        self._pepper, self._notify = pepper, notify

    async def page(
        self, wanted: Filter, after: Place | None, limit: int, days: int = DAYS
    ) -> UpcomingPage:
        """What goes out within so many days, as things stand."""
        now, span = self._clock.now(), timedelta(days=days)
        async with self._engine.connect() as connection:
            found = await PlannedStore(connection).page(
                wanted, now - span, now + span, after, limit
            )
            seen = await self._upcoming(connection, found.planned, now)
        shown = [
            one
            for one in seen
            if wanted.channel in ("", one.touch.channel)
            and (one.state != "planned" or (one.touch.due_at or now) < now + span)
        ]
        return UpcomingPage(await asyncio.to_thread(self._all_rendered, shown), found.next)

    async def one(self, id: uuid.UUID) -> Upcoming:
        """One of them, whatever has become of it. Raises Reject `not-found`."""
        now = self._clock.now()
        async with self._engine.connect() as connection:
            found = await PlannedStore(connection).one(id)
            seen = await self._upcoming(connection, [found], now) if found else []
        if not seen:
            raise _nothing_planned()
        return await asyncio.to_thread(self._rendered, seen[0])

    async def decide(
        self, touch: uuid.UUID, action: Action, by: str, reason: str, actor: Actor
    ) -> Upcoming:
        """Writes a decision, once however often it comes; returns what is planned after it. Raises
        Reject `not-found`, or `conflict` for what contradicts an earlier one or comes too late.
        """
        for tried in range(1, TRIES + 1):
            try:
                decided = await self._decide(touch, action, by, reason, actor)
                break
            except Exception as error:
                if not is_transient(error):
                    raise
                if tried == TRIES:
                    raise Retry("the database is away") from error
        self._notify()
        return self._rendered(decided)

    async def _decide(
        self, touch: uuid.UUID, action: Action, by: str, reason: str, actor: Actor
    ) -> Upcoming:
        now = self._clock.now()
        async with self._engine.begin() as connection:
            store = PlannedStore(connection)
            known = await store.locked(touch)
            if known is None:
                await self._make_touch(connection, touch, now, at_once=action == "send-now")
                known = await store.locked(touch)
            if known is None:
                raise _nothing_planned()
            if _is_new(known, action):
                await self._write(connection, known, action, Act(action, by, reason, now))
                await audit.record(connection, actor, AUDITED[action], f"touch {touch}")
                log.info("planned", action=action, touch_id=str(touch))
            after = await store.locked(touch)
            assert after
            planned = Planned(after.touch.due_at, touch, after, None)
            (upcoming,) = await self._upcoming(connection, [planned], now)
        return upcoming

    async def _write(
        self, connection: AsyncConnection, known: PlannedTouch, action: Action, act: Act
    ) -> None:
        store, touch = PlannedStore(connection), known.touch
        due_at = touch.due_at or act.at
        if action == "skip":
            await self._skip(connection, touch, act)
        elif action == "send-now":
            await store.set(touch.id, urged_at=act.at, due_at=min(due_at, act.at))
        else:
            await store.set(touch.id, held_at=act.at if action == "hold" else None, due_at=due_at)
        await store.add(touch.id, act)

    async def _skip(self, connection: AsyncConnection, touch: Touch, act: Act) -> None:
        """It is withheld for good, and its item is not chosen for the lead again; what the lead
        asks for itself it still gets.
        """
        why = f"{act.by} has skipped it" + (f": {act.reason}" if act.reason else "")
        skipped = replace(touch, status="withheld", reason=SKIPPED, why=why)
        await TouchStore(connection).update(skipped, was=["due"])
        await PlannedStore(connection).set(touch.id, due_at=touch.due_at or act.at)
        if not touch.requested:
            await LeadStore(connection, self._pepper, ()).keep_seen_of(touch.id)
        await EnrolmentStore(connection).call_after([touch.id], act.at)
        event = touch_events.decided(replace(skipped, decided_at=act.at))
        await outbox.enqueue(connection, "nurture", [event])

    async def _make_touch(
        self, connection: AsyncConnection, touch: uuid.UUID, now: datetime, *, at_once: bool
    ) -> None:
        """Decides the next touch of an enrolment, of this id, before its moment. Locks as the
        planner does. Raises Reject `conflict` where nothing is to be sent.
        """
        store = EnrolmentStore(connection)
        lead = await store.lead_of_next(touch)
        if lead is None:
            return
        leads = self._leads(connection)
        await leads.lock_against_merges([lead], ())
        await leads.lock([lead])
        enrolment = await store.lock_next(touch)
        if enrolment is None:  # decided meanwhile, or merged
            return
        key = LeadKey(enrolment.lead, enrolment.product)
        known = (await leads.leads([key], now, self._rules.account_of)).get(key)
        pending = await store.pending([enrolment.lead])
        is_pending = ProgramKey(enrolment.lead, enrolment.program) in pending
        done = step(
            self._rules, known or _unknown(enrolment), enrolment, now,
            is_pending=is_pending, paced=not at_once,
        )  # fmt: skip
        if done.upcoming is None or known is None:
            raise Reject(
                f"nothing is planned any more: {done.enrolment.why}", where="id",
                remedy="read /v1/planned again", kind="conflict",
            )  # fmt: skip
        made = self._touch(known, enrolment, done, now)
        await record(connection, [Decision(made, None)])
        await store.keep([enrolment.with_touch(made.why)], self._rules.playbook.hash)

    def _touch(self, lead: Lead, enrolment: Enrolment, done: Step, now: datetime) -> Touch:
        """The touch that a step leads to, whose moment may be yet to come."""
        assert done.upcoming
        touch = next_touch(self._rules, enrolment, done.upcoming, lead, now)
        at = done.enrolment.next_at or now
        return replace(touch, due_at=at, reason=done.enrolment.reason)

    async def _upcoming(
        self, connection: AsyncConnection, planned: Sequence[Planned], now: datetime
    ) -> list[Upcoming]:
        """As things stand; without those of whom nothing is to be sent by now."""
        store = PlannedStore(connection)
        acts = await store.acts(one.id for one in planned)
        keys = [
            LeadKey(of.lead, of.product)
            for one in planned
            if (of := one.touch.touch if one.touch else one.enrolment)
        ]
        leads = await self._leads(connection).leads(keys, now, self._rules.account_of)
        enrolments = await EnrolmentStore(connection).of(key.lead for key in keys)
        seen = []
        for one, key in zip(planned, keys, strict=True):
            lead = leads.get(key) or Lead(key.lead, Snapshot(stage=UNKNOWN, product=key.product))
            if one.touch:
                program = ProgramKey(key.lead, one.touch.touch.program)
                upcoming = self._of_touch(one.touch, lead, now, enrolments.get(program))
                seen.append(upcoming._replace(acts=acts.get(str(one.id), [])))
            elif one.enrolment and (next_one := self._of_enrolment(one.enrolment, lead, now)):
                seen.append(next_one)
        return seen

    def _of_touch(
        self, known: PlannedTouch, lead: Lead, now: datetime, enrolment: Enrolment | None
    ) -> Upcoming:
        """A touch as it would be checked at its moment."""
        touch = known.touch
        if touch.status != "due":
            return Upcoming(touch, known.state, "", (), lead)
        others = replace(lead, held=lead.held - {touch.content})
        moment = max(touch.due_at or now, now)
        checked = recheck(
            self._rules, others, touch, moment, enrolment,
            at_any_hour=known.state == "send-now" and touch.channel == "call",
        )  # fmt: skip
        if isinstance(checked, Withhold):
            return Upcoming(touch, known.state, checked.why, (), lead)
        by_now = replace(touch, content=checked.content.id, why=checked.why)
        if checked.due_at > moment:
            by_now = replace(by_now, due_at=checked.due_at, reason=checked.reason)
        return Upcoming(by_now, known.state, "", (), lead)

    def _of_enrolment(self, one: Enrolment, lead: Lead, now: datetime) -> Upcoming | None:
        """The next touch of an enrolment as it would be decided at its moment."""
        done = step(self._rules, lead, one, max(one.next_at or now, now))
        if not isinstance(done.upcoming, Send):
            return None
        touch = self._touch(lead, one, done, max(one.next_at or now, now))
        by_then = replace(touch, decided_at=None, reason=touch.reason or one.reason)
        return Upcoming(by_then, "planned", "", (), lead)

    def _all_rendered(self, upcoming: Sequence[Upcoming]) -> list[Upcoming]:
        return [self._rendered(one) for one in upcoming]

    def _rendered(self, one: Upcoming) -> Upcoming:
        """With what the lead would read."""
        item = self._rules.library.content(one.touch.content)
        if item is None:
            return one
        try:
            mail = as_the_lead_reads_it(self._rules.playbook, item, one.lead.snapshot)
        except Reject as error:
            return one._replace(title=item.title, against=one.against or str(error))
        return one._replace(title=item.title, subject=mail.subject, text=mail.text, html=mail.html)

    def _leads(self, connection: AsyncConnection) -> LeadStore:
        return LeadStore(connection, self._pepper, self._rules.library.request_programs)


def _nothing_planned() -> Reject:
    remedy = "use an `id` of /v1/planned"
    return Reject("nothing of this id is planned", where="id", remedy=remedy, kind="not-found")


def _unknown(enrolment: Enrolment) -> Lead:
    """A lead whose snapshot cannot be read."""
    return Lead(enrolment.lead, Snapshot(stage=UNKNOWN))


def _is_new(known: PlannedTouch, action: Action) -> bool:
    """Whether the decision changes something. Raises Reject `conflict` where it may not."""
    touch, becomes = known.touch, BECOMES[action]
    if known.state == becomes and (touch.status == "due" or becomes in ("send-now", SKIPPED)):
        return False
    if touch.status != "due" and known.state != SKIPPED:
        at = f" on {rfc3339(touch.sent_at)}" if touch.sent_at else ""
        what = {"sending": "is on its way", "sent": f"has been sent{at}",
                "unknown": f"has perhaps been sent{at}", "failed": f"has failed: {touch.why}",
                "withheld": f"is withheld: {touch.why}"}[touch.status]  # fmt: skip
        raise Reject(f"the touch {what}", where="id", remedy=GONE, kind="conflict")
    if known.state not in CHANGES[action]:
        remedy = "release it first" if known.state != SKIPPED else GONE
        words = {"held": "is held", "send-now": "is asked to be sent now", "skipped": "is skipped"}
        raise Reject(f"the touch {words[known.state]}", where="id", remedy=remedy, kind="conflict")
    return True
