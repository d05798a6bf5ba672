"""Examines leads that may be handed over, and hand-offs whose clock has something to say: each lead
in a transaction of its own, under its lock.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scorer.failing import is_of_one_lead, report
from services.scorer.handoffs import capacity, owners
from services.scorer.handoffs.grounds import Act, Facts
from services.scorer.handoffs.records import Handoff
from services.scorer.handoffs.rules import (
    Examined,
    Noted,
    Rules,
    examine,
    reassign,
    start_clock,
    tick,
)
from services.scorer.handoffs.store import HandoffStore
from services.scorer.handoffs.working_time import WorkingTime
from services.scorer.history import History
from services.scorer.model.window import Known
from services.scorer.processing.handoff_facts import describe, facts_of, view
from services.scorer.processing.handoff_steps import Steps
from services.scorer.records import LeadRow
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.shared.clock import to_us
from services.shared.db import is_transient, value
from services.shared.runtime import Heartbeat, fault_point

log = structlog.get_logger()
BATCH = 50
ALLOCATE_S = 1.0
PUT_OFF = timedelta(minutes=5)
ALLOCATION = 0x68616E64  # the advisory lock under which room in the week is given


class Examiner:
    """Takes what is due; late, twice or never changes nothing but the delay. `wake` is called when
    there is something to publish, `page` is the address of our pages, '' for none.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        scoring: Scoring,
        poll_s: float,
        wake: Callable[[], None],
        *,
        webhook: bool = False,
        page: str = "",
    ) -> None:
        playbook = scoring.playbook
        self._engine, self._scoring, self._poll_s, self._wake = engine, scoring, poll_s, wake
        self._section, self._zone = playbook.handoff, playbook.company.timezone
        working = WorkingTime.of(playbook.handoff, self._zone)
        self.rules = Rules(playbook.handoff, playbook.model.stages, working)
        self._steps = Steps(scoring, webhook=webhook, page=page)
        self._allocated = 0.0

    async def run(self, heartbeat: Heartbeat) -> None:
        """Examines until cancelled."""
        while True:
            heartbeat()
            examined = 0
            try:
                examined = await self.examine_due(heartbeat)
                if not examined and time.monotonic() - self._allocated >= ALLOCATE_S:
                    self._allocated = time.monotonic()
                    await self.allocate()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("handing_over_waits", reason=type(error).__name__)
            if examined < BATCH:
                await asyncio.sleep(self._poll_s)

    async def examine_due(self, heartbeat: Heartbeat = lambda: None) -> int:
        """Examines what is due, the longest due first; returns how many leads."""
        now = self._scoring.clock.now()
        async with self._engine.connect() as connection:
            due = await HandoffStore(connection).due_leads(now, BATCH)
        done = 0
        for lead in due:
            heartbeat()
            done += await self._alone(lead, now)
        return done

    async def _alone(self, lead: uuid.UUID, now: datetime) -> bool:
        """Examines one lead; one that fails by its own data is put off."""
        try:
            return await self._commit(lambda connection: self._examine(connection, lead, now))
        except Exception as error:
            if not is_of_one_lead(error):
                raise
            report(lead, "handing_over", type(error).__name__)
            async with self._engine.begin() as connection:
                await HandoffStore(connection).put_off(lead, now + PUT_OFF)
            return True

    async def _commit(self, work: Callable[[AsyncConnection], Awaitable[bool]]) -> bool:
        async with self._engine.begin() as connection:
            done = await work(connection)
            fault_point("before_handoff_is_kept")
        fault_point("after_handoff_is_kept")
        self._wake()
        return done

    async def _examine(
        self, connection: AsyncConnection, lead_id: uuid.UUID, now: datetime
    ) -> bool:
        """One lead; False where another process has it."""
        store = HandoffStore(connection)
        lead = await self._locked(connection, lead_id)
        if lead is None:
            return False
        if into := await store.examined(lead_id):
            await store.move(lead_id, into)
            await store.examine_at([into], now)
            return True
        found = await store.first_event(lead_id)
        if found is None:  # they have all gone elsewhere
            await self._own(store, lead_id, (), now)
            return True
        first = Act(found.occurred_at, found.uid.hex, to_us(found.received_at))
        is_held = lead.states and self._scoring.holds(lead.profile, lead.states.values())
        profile = lead.profile if is_held else None
        history = await History(connection, self._scoring.fold.declared).known_of(lead_id, profile)
        lead.profile = history.profile
        uids = {first.uid, *(event.uid for event in history.events)}
        known = await self._own(store, lead_id, uids, now)
        view(self._scoring, lead, now)
        facts = await facts_of(self._scoring, store, lead, history, first)
        examined = examine(self.rules, lead_id, facts, known, now)
        await self._apply(connection, lead, history, facts, known, examined, now)
        return True

    async def _locked(self, connection: AsyncConnection, lead_id: uuid.UUID) -> LeadRow | None:
        """The lead under its lock, with the states that can be viewed; None where another process
        has it.
        """
        leads, scoring = Store(connection), self._scoring
        lead = (await leads.lock_free({lead_id})).get(lead_id)
        if lead is None:
            return None
        states = (await leads.states([lead_id])).get(lead_id, {})
        lead.states = {
            product: state
            for product, state in states.items()
            if product in scoring.playbook.products and scoring.fold.reads(state.fold)
        }
        lead.identifiers = (await leads.identifiers([lead_id])).get(lead_id, [])
        return lead

    async def _own(
        self, store: HandoffStore, lead: uuid.UUID, events: Iterable[str], now: datetime
    ) -> list[Handoff]:
        """The lead's hand-offs: a hand-off goes with the event for which it was opened."""
        known = await store.of_lead(lead, events)
        places = await store.leads_of_events(each.opener for each in known) if known else {}
        own = []
        for each in known:
            before, each.lead_id = each.lead_id, places.get(each.opener, lead)
            if each.lead_id != before:
                await store.write([each])
                await store.examine_at([before], now)
            if each.lead_id == lead:
                own.append(each)
            else:
                await store.examine_at([each.lead_id], now)
        return own

    async def _apply(
        self, connection: AsyncConnection, lead: LeadRow, history: Known, facts: Facts,
        known: list[Handoff], examined: Examined, now: datetime,
    ) -> None:  # fmt: skip
        """Opens what is new, moves clocks on, writes all of it, and puts out what is told of it."""
        store, noted, new = HandoffStore(connection), list(examined.noted), examined.new
        before = [each for each in known if each.ended_at and each.owner]
        for each in [*known, *([new] if new else [])]:
            if each.is_waiting:
                describe(self._scoring, lead, history, facts, each, now)
        if new and new.status == "next":
            noted.append(Noted(new, "detected", now))
            no_limit = self._section.capacity_per_week is None
            if examined.is_urgent or no_limit:
                noted += await self._opened(store, lead, new, before, now)
        for each in [*known, *([new] if new else [])]:
            noted += await self._ticked(store, lead, each, now)
        await store.note(noted)
        changed = {each.handoff.id: each.handoff for each in noted}
        waiting = [each for each in known if each.is_waiting]
        await store.write([*changed.values(), *waiting], new)
        await self._steps.tell(connection, lead, [*known, *([new] if new else [])], noted, now)
        if examined.look_again:
            await store.examine_at([lead.id], examined.look_again)

    async def _opened(
        self, store: HandoffStore, lead: LeadRow, handoff: Handoff,
        before: list[Handoff], now: datetime,
    ) -> list[Noted]:  # fmt: skip
        """Gives a hand-off its owner and starts its clock; nothing where no owner has room."""
        choice = await self._chosen(store, lead, handoff, before, now)
        is_urgent = handoff.kind == "raised_hand"
        if self._section.owners and not choice.owner and not is_urgent:
            return []
        handoff.owner, handoff.why_owner = choice
        return start_clock(self.rules, handoff, self._working(choice.owner), now)

    async def _chosen(
        self, store: HandoffStore, lead: LeadRow, handoff: Handoff,
        before: list[Handoff], now: datetime, tried: Iterable[str] = (),
    ) -> owners.Choice:  # fmt: skip
        if not self._section.owners:
            return owners.NOBODY
        week = capacity.week_of(now, self.rules.working.zone)
        last = max(before, key=lambda each: each.ended_at or each.detected_at, default=None)
        asked = owners.Asked(
            str(handoff.id),
            now,
            lead.profile.email.rpartition("@")[2].lower(),
            lead.profile.known_traits(),
            handoff.owner or (last.owner if last else ""),
            await store.account_owner(lead.id, handoff.product),
            frozenset(tried),
            handoff.kind == "raised_hand",
        )
        loads = await store.loads(now, week, self._section.no_show_reasons)
        return owners.choose(self._section, self._zone, asked, loads)

    def _working(self, owner: str) -> WorkingTime:
        person = self._section.by_email.get(owner)
        return WorkingTime.of(self._section, self._zone, person)

    async def _ticked(
        self, store: HandoffStore, lead: LeadRow, handoff: Handoff, now: datetime
    ) -> list[Noted]:
        """Moves a clock on; who is silent loses it to another, where there is one."""
        noted = tick(self.rules, handoff, now)
        missed = any(each.what == "response_missed" for each in noted)
        if missed and self._section.reassign and handoff.owner:
            tried = {*handoff.owners_tried, handoff.owner}
            choice = await self._chosen(store, lead, handoff, [], now, tried)
            if choice.owner:
                working = self._working(choice.owner)
                noted += reassign(self.rules, handoff, *choice, working, now)
        return noted

    # -- room in the week -------------------------------------------------------------------------

    async def allocate(self) -> int:
        """Opens the best of those that wait for room; returns how many."""
        now = self._scoring.clock.now()
        async with self._engine.connect() as connection:
            waits = await value(
                connection, "SELECT EXISTS (SELECT 1 FROM scorer.handoff WHERE status = 'next')"
            )
        if not waits:
            return 0
        async with self._engine.begin() as connection:
            await value(connection, f"SELECT pg_advisory_xact_lock({ALLOCATION})")
            store = HandoffStore(connection)
            week = capacity.week_of(now, self.rules.working.zone)
            opened = await store.opened_since(week)
            left = capacity.room(self._section.capacity_per_week, opened)
            waiting = await store.waiting_for_room() if left != 0 else []
            done = 0
            for handoff in capacity.best(waiting, None):
                if done == left:
                    break
                done += await self._allocated_alone(connection, handoff, now)
            fault_point("before_room_is_given")
        if done:
            self._wake()
        return done

    async def _allocated_alone(
        self, connection: AsyncConnection, handoff: Handoff, now: datetime
    ) -> bool:
        """Opens one of them; one that fails by the data of its lead holds up none of the others."""
        try:
            async with connection.begin_nested():
                return await self._allocated_to(connection, handoff, now)
        except Exception as error:
            if not is_of_one_lead(error):
                raise
            report(handoff.lead_id, "handing_over", type(error).__name__)
            return False

    async def _allocated_to(
        self, connection: AsyncConnection, handoff: Handoff, now: datetime
    ) -> bool:
        store, lead = HandoffStore(connection), await self._locked(connection, handoff.lead_id)
        if lead is None:
            return False
        known = [each for each in await store.of_lead(lead.id) if each.id != handoff.id]
        before = [each for each in known if each.ended_at and each.owner]
        noted = await self._opened(store, lead, handoff, before, now)
        if not noted:
            return False
        view(self._scoring, lead, now)
        await store.note(noted)
        await store.write([handoff])
        await self._steps.tell(connection, lead, [*known, handoff], noted, now)
        return True
