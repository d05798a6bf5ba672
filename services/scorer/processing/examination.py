"""Examines leads that may be handed over, in bulk: in one transaction, under their locks."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.handoffs.grounds import Act, Facts
from services.scorer.handoffs.records import Handoff
from services.scorer.handoffs.routing import Routing
from services.scorer.handoffs.rules import Noted, Rules, examine
from services.scorer.handoffs.store import HandoffStore
from services.scorer.history import History
from services.scorer.list_keys import company_key, company_of
from services.scorer.model.profile import Profile
from services.scorer.model.window import Known
from services.scorer.processing.handoff_facts import describe, facts_of, view
from services.scorer.processing.handoff_steps import News, Steps
from services.scorer.records import LeadRow
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.shared.clock import to_us

Changes = tuple[LeadRow, list[Handoff], list[Handoff], list[Noted]]


class Examination:
    """One transaction's examination. What it changes is written in bulk: at its end, and before a
    choice that depends on it.
    """

    def __init__(
        self, connection: AsyncConnection, scoring: Scoring, rules: Rules, steps: Steps,
        now: datetime,
    ) -> None:  # fmt: skip
        self._connection, self._scoring, self._rules = connection, scoring, rules
        self._steps, self._now = steps, now
        self._store = HandoffStore(connection)
        self._routing = Routing(self._store, scoring, rules, now, self._write)
        self._unwritten: list[Changes] = []
        self._due: dict[uuid.UUID, datetime] = {}

    async def run(self, wanted: Sequence[uuid.UUID]) -> int:
        """Examines these leads, in their order; returns how many, as those that other processes
        have are left.
        """
        store = self._store
        locked = await self._locked(wanted)
        if not locked:
            return 0
        merged = await store.examined(locked)
        if merged:
            await store.move(merged)
            self._examine_again(merged.values())
        leads = {lead: locked[lead] for lead in wanted if lead in locked and lead not in merged}
        firsts = await store.first_events(leads)
        await self._own(leads.keys() - firsts.keys(), ())  # they have all gone elsewhere
        profiles = {lead: self._profile(leads[lead]) for lead in leads if lead in firsts}
        history = History(self._connection, self._scoring.fold.declared)
        async for known in history.known(profiles):
            acts = {
                lead: Act(first.occurred_at, first.uid.hex, to_us(first.received_at))
                for lead, first in firsts.items()
                if lead in known
            }
            await self._examine({lead: leads[lead] for lead in known}, known, acts)
        await self._write(None)
        await store.examine_each(self._due)
        return len(locked)

    async def open(self, handoff: Handoff) -> bool:
        """Opens one for which there is room in the week; False where no owner has any, or another
        process has the lead.
        """
        self._unwritten = []  # of one that failed
        lead = (await self._locked([handoff.lead_id])).get(handoff.lead_id)
        if lead is None:
            return False
        known = [each for each in await self._store.of_leads([lead.id]) if each.id != handoff.id]
        before = self._routing.loads([*known, handoff])
        noted = await self._routing.open(lead, handoff, known)
        if not noted:
            return False
        view(self._scoring, [lead], self._now)
        self._unwritten.append((lead, [*known, handoff], [], noted))
        await self._write(None)
        self._routing.count(before, [*known, handoff])
        return True

    async def _locked(self, wanted: Iterable[uuid.UUID]) -> dict[uuid.UUID, LeadRow]:
        """The leads that no other process has, locked, with the states that can be viewed."""
        store, scoring = Store(self._connection), self._scoring
        leads = await store.lock_free(wanted)
        if not leads:
            return {}
        states, identifiers = await store.states(leads), await store.identifiers(leads)
        for lead in leads.values():
            lead.states = {
                product: state
                for product, state in states.get(lead.id, {}).items()
                if product in scoring.playbook.products and scoring.fold.reads(state.fold)
            }
            lead.identifiers = identifiers.get(lead.id, [])
        return leads

    def _profile(self, lead: LeadRow) -> Profile | None:
        """The stored profile; None where it is to be made of the events."""
        is_held = lead.states and self._scoring.holds(lead.profile, lead.states.values())
        return lead.profile if is_held else None

    async def _examine(
        self, leads: Mapping[uuid.UUID, LeadRow], known: Mapping[uuid.UUID, Known],
        firsts: Mapping[uuid.UUID, Act],
    ) -> None:  # fmt: skip
        for lead in leads.values():
            lead.profile = known[lead.id].profile
        uids = {event.uid for history in known.values() for event in history.events}
        own = await self._own(leads, uids | {first.uid for first in firsts.values()})
        view(self._scoring, leads.values(), self._now)
        each = [(lead, known[lead.id], firsts[lead.id]) for lead in leads.values()]
        for (lead, history, _), facts in zip(
            each, await facts_of(self._scoring, self._store, each), strict=True
        ):
            await self._apply(lead, history, facts, own.get(lead.id, []))

    async def _own(
        self, leads: Iterable[uuid.UUID], events: Iterable[str]
    ) -> dict[uuid.UUID, list[Handoff]]:
        """By lead its hand-offs: a hand-off goes with the event for which it was opened."""
        leads = set(leads)
        found = await self._store.of_leads(leads, events) if leads else []
        places = await self._store.leads_of_events(each.opener for each in found) if found else {}
        own: dict[uuid.UUID, list[Handoff]] = {}
        moved = []
        for each in found:
            before, each.lead_id = each.lead_id, places.get(each.opener, each.lead_id)
            if each.lead_id != before:
                moved.append(each)
                self._examine_again({before} - leads)
            own.setdefault(each.lead_id, []).append(each)
        await self._store.write(moved)
        self._examine_again(own.keys() - leads)
        return own

    def _examine_again(self, leads: Iterable[uuid.UUID]) -> None:
        self._due |= dict.fromkeys(leads, self._now)

    async def _apply(
        self, lead: LeadRow, history: Known, facts: Facts, known: list[Handoff]
    ) -> None:
        """Opens what is new, and moves clocks on."""
        routing, before = self._routing, self._routing.loads(known)
        examined = examine(self._rules, lead.id, facts, known, self._now)
        noted, new = list(examined.noted), [examined.new] if examined.new else []
        both = [*known, *new]
        for each in both:
            if each.is_waiting:
                await describe(self._scoring, lead, history, facts, each, self._now)
        no_limit = self._rules.section.capacity_per_week is None
        for each in new:
            if each.status == "next":
                noted.append(Noted(each, "detected", self._now))
                if examined.is_urgent or no_limit:
                    noted += await routing.open(lead, each, known)
        for each in both:
            noted += await routing.tick(lead, each)
        routing.count(before, both)
        self._unwritten.append((lead, known, new, noted))
        if examined.look_again and lead.id not in self._due:
            self._due[lead.id] = examined.look_again

    async def _write(self, company: int | None) -> None:
        """Writes what has changed, where a lead of this company is among it (None: in any case)."""
        if company is not None and all(
            company != company_key(company_of(lead.profile, self._scoring.cleaner))
            for lead, *_ in self._unwritten
        ):
            return
        changes, self._unwritten = self._unwritten, []
        earlier = await self._unpublished(each for _, known, *_ in changes for each in known)
        await self._store.note(each for *_, noted in changes for each in noted)
        changed = [each.handoff for *_, noted in changes for each in noted]
        waiting = [each for _, known, *_ in changes for each in known if each.is_waiting]
        new = [each for *_, new, _ in changes for each in new]
        put_out = [steps[0].handoff for steps in earlier.values()]
        await self._store.write([*changed, *waiting, *put_out], new)
        news = News()
        for lead, known, new, noted in changes:
            before = [step for each in known for step in earlier.get(each.id, ())]
            self._steps.tell(news, lead, [*known, *new], [*before, *noted], self._now)
        await news.write(self._connection)

    async def _unpublished(self, known: Iterable[Handoff]) -> dict[uuid.UUID, list[Noted]]:
        """By hand-off the steps of people since its last examination; from here on they are
        published.
        """
        found: dict[uuid.UUID, list[Noted]] = {}
        for each in await self._store.unpublished(known):
            found.setdefault(each.handoff.id, []).append(each)
            each.handoff.unpublished = 0
        return found
