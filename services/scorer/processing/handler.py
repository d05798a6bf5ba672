"""The heart of the scorer: a consumed batch becomes lead states, announcements and outgoing events
in one transaction.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.crm import outbox as owed
from services.scorer.identity.repository import Ownership, Plan, by_lead
from services.scorer.model.profile import learn, profile_of
from services.scorer.model.state import Event
from services.scorer.processing.announcements import Evidence, engaged, settle
from services.scorer.processing.decoding import from_interaction, from_touch
from services.scorer.records import Announced, Arrival, Known, LeadRow, State, lead_row
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.shared.clock import from_us
from services.shared.contracts.events import INTERACTIONS, Touch, decode_touch
from services.shared.contracts.identity import Kind
from services.shared.errors import Reject, Retry
from services.shared.messaging import outbox
from services.shared.messaging.kafka import Outgoing, Record
from services.shared.playbook.sections import Crm
from services.shared.telemetry import APPLIED, REPEATED


class Decoded(NamedTuple):
    """What a batch holds: events for the set, words on touches for the timeline."""

    arrivals: list[Arrival]
    touches: list[tuple[str, Any, Touch]]


@dataclass
class Work:
    """What is in hand while a batch is applied."""

    leads: dict[uuid.UUID, LeadRow] = field(default_factory=dict)
    anew: set[uuid.UUID] = field(default_factory=set)
    late: set[uuid.UUID] = field(default_factory=set)
    emptied: dict[uuid.UUID, uuid.UUID] = field(default_factory=dict)


class Handler:
    """Applies batches; knows no Kafka and never commits. `crm` are the rules of write-back, None
    where there is none.
    """

    def __init__(self, scoring: Scoring, crm: Crm | None = None) -> None:
        self.scoring, self.crm = scoring, crm

    def decode(self, record: Record) -> Decoded:
        """Reads one record. Raises Reject for what can never be applied."""
        if record.topic == INTERACTIONS:
            return Decoded([from_interaction(record.value, self.scoring.cleaner)], [])
        try:
            event = decode_touch(record.value)
            uuid.UUID(event.data.id), uuid.UUID(event.data.lead)
        except ValueError as error:
            raise Reject(f"not a touch event: {error}", where=record.topic) from error
        sent = from_touch(event, self.scoring.cleaner)
        return Decoded([sent] if sent else [], [(event.type, event.time, event.data)])

    async def apply(self, connection: AsyncConnection, decoded: Sequence[Decoded]) -> int:
        """Applies a batch inside the caller's transaction; returns how many records it left in the
        outbox.
        """
        store = Store(connection)
        touches = [touch for one in decoded for touch in one.touches]
        arrivals = [arrival for one in decoded for arrival in one.arrivals]
        left = await self._take_in(connection, store, arrivals) if arrivals else 0
        if touches:
            await store.keep_touches(touches)
        return left

    async def _take_in(
        self, connection: AsyncConnection, store: Store, arrivals: list[Arrival]
    ) -> int:
        """1 what is new, 2 whose it is, 3 fold, 4 write and announce."""
        arrivals, losers = await self._distinct(store, arrivals)
        if not arrivals:
            return 0
        work = Work()
        plan = await self._own(connection, store, work, arrivals, losers)
        ids = {one: node.id for one, node in plan.nodes.items()}
        await store.insert(arrivals, ids)
        groups = by_lead(arrivals)
        work.anew |= {loser.lead for loser in losers}
        await self._load(store, work, set(groups) | work.anew, plan)
        for lead in work.leads.values():
            self._describe(lead)
        await self._fold(store, work, groups)
        said = await self._announce(store, work, groups)
        await outbox.enqueue(connection, "scorer", said)
        if self.crm:
            await owed.note(connection, self.crm, work.leads.values())
        APPLIED.inc(len(arrivals))
        return len(said)

    async def _distinct(
        self, store: Store, arrivals: list[Arrival]
    ) -> tuple[list[Arrival], list[Known]]:
        """Events that are new or beat the stored body under their id, and the stored ones that they
        beat.
        """
        best: dict[str, Arrival] = {}
        for arrival in arrivals:
            other = best.get(arrival.uid)
            if other:
                other.conflict = arrival.conflict = other.conflict or other.digest != arrival.digest
            if not other or arrival.rank < other.rank:
                best[arrival.uid] = arrival
        known = await store.known(best)
        new, losers, flag = [], [], []
        for uid, arrival in best.items():
            stored = known.get(uid)
            if stored is None:
                new.append(arrival)
                continue
            conflict = arrival.conflict or stored.conflict or stored.digest != arrival.digest
            if arrival.rank < (stored.at, stored.digest):
                arrival.conflict = conflict
                new.append(arrival)
                losers.append(stored)
            elif conflict and not stored.conflict:
                flag.append(stored.uid)
        if flag:
            await store.flag_conflicts(flag)
        REPEATED.inc(len(arrivals) - len(new))
        return new, losers

    async def _own(
        self,
        connection: AsyncConnection,
        store: Store,
        work: Work,
        arrivals: list[Arrival],
        losers: list[Known],
    ) -> Plan:
        """Locks every lead concerned, then decides whose the events are, on what holds under the
        locks.
        """
        ownership = Ownership(connection)
        locked: dict[uuid.UUID, Any] = {}
        plan = await ownership.plan(arrivals, losers)
        while need := plan.leads - plan.born - set(locked):
            locked |= dict.fromkeys(need) | await ownership.lock(need)
            plan = await ownership.plan(arrivals, losers)
        if losers and await store.known(one.uid.hex for one in losers) != {
            one.uid.hex: one for one in losers
        }:
            raise Retry("another process took a repeated event away")
        work.leads = {lead: lead_row(row) for lead, row in locked.items() if row}
        if losers:
            await store.remove(losers)
        work.anew |= await ownership.apply(plan)
        for arrival in arrivals:
            arrival.lead = plan.nodes[arrival.ids[0]].lead
        work.anew |= await ownership.distribute(plan, arrivals)
        left = {old for _, old, _ in plan.moves} | {
            old for near in plan.split.values() for old in near
        }
        if left := left & set(work.leads):
            lived_in = await store.peopled(plan.leads) | {
                arrival.lead for arrival in arrivals if arrival.lead
            }
            target = {old: new for _, old, new in plan.moves if new in lived_in}
            for near in plan.split.values():
                target |= {old: min(near & lived_in) for old in near - set(target)}
            work.emptied = {old: target[old] for old in left - lived_in if old in target}
        return plan

    async def _load(self, store: Store, work: Work, wanted: set[uuid.UUID], plan: Plan) -> None:
        """Brings what belongs to the leads that change; new leads begin empty."""
        wanted = (wanted | set(work.emptied.values())) - set(work.emptied)
        known = wanted - plan.born
        stored = await store.states(known | set(work.emptied))
        identifiers = plan.identifiers_of_born() | await store.identifiers(known)
        for lead in wanted:
            row = work.leads.get(lead) or LeadRow(lead, born=lead in plan.born)
            row.states = dict(stored.get(lead, {}))
            row.identifiers = identifiers.get(lead, [])
            work.leads[lead] = row
        for old, new in work.emptied.items():
            self._inherit(work.leads[new], stored.get(old, {}))
        work.leads = {lead: work.leads[lead] for lead in wanted}
        work.anew &= wanted
        await store.merge(work.emptied)

    def _inherit(self, into: LeadRow, states: dict[str, State]) -> None:
        """After a merge the last announcement is the latest of the union."""
        for product, state in states.items():
            mine = into.states.get(product)
            said = state.announced
            if mine is None:
                blank = Announced(said.stage, 0, said.at)
                into.states[product] = State(
                    self.scoring.fold.initial(product), self.scoring.playbook.fold_hash, blank
                )
            elif said.at and (not mine.announced.at or said.at > mine.announced.at):
                mine.announced = Announced(said.stage, mine.announced.seq, said.at)

    def _describe(self, lead: LeadRow) -> None:
        """What follows from the identifiers: known only by other systems' ids, and nothing to
        announce, or not.
        """
        kinds = {one.kind for one in lead.identifiers}
        lead.provisional = bool(kinds) and kinds == {Kind.EXTERNAL}

    async def _fold(self, store: Store, work: Work, groups: dict[uuid.UUID, list[Arrival]]) -> None:
        """Folds new events onto their leads' states, all leads at once; from the start where the
        order calls for it.
        """
        fresh: dict[uuid.UUID, list[Event]] = {}
        for lead in work.leads.values():
            events = sorted(
                (arrival.event for arrival in groups.get(lead.id, ())), key=lambda e: (e.at, e.uid)
            )
            fresh[lead.id] = events
            lead.states = {
                product: lead.states.get(product) or self._blank(product)
                for product in self.scoring.playbook.products
            }
            if any(self._out_of_order(state, events) for state in lead.states.values()):
                work.late.add(lead.id)
        whole = await store.events(work.anew | work.late) if work.anew | work.late else {}
        folds, todo, states = [], [], []
        for lead in work.leads.values():
            again = lead.id in work.anew or lead.id in work.late
            events = whole.get(lead.id, []) if again else fresh[lead.id]
            if lead.id in work.anew:
                lead.profile = profile_of(events)
            else:
                for event in fresh[lead.id]:
                    learn(lead.profile, event)
            for product, state in lead.states.items():
                folds.append(self.scoring.fold.initial(product) if again else state.fold)
                todo.append(events)
                states.append(state)
        for state, folded in zip(states, self.scoring.fold.extend(folds, todo), strict=True):
            state.fold, state.fold_hash = folded, self.scoring.playbook.fold_hash

    def exclude(self, lead: LeadRow) -> None:
        """Notes the reason for which it is no lead at all, by its addresses and traits (D7)."""
        emails = [one.value for one in lead.identifiers if one.kind in (Kind.EMAIL, Kind.ROLE)]
        lead.excluded = self.scoring.exclusions.reason(emails, lead.profile.known_traits())

    def _blank(self, product: str) -> State:
        return State(
            self.scoring.fold.initial(product), self.scoring.playbook.fold_hash, Announced()
        )

    async def renew(self, store: Store, leads: Sequence[LeadRow]) -> set[uuid.UUID]:
        """Folds leads anew whose states were made under another playbook or model; returns
        which.
        """
        fold_hash, products = self.scoring.playbook.fold_hash, self.scoring.playbook.products
        old = [
            lead
            for lead in leads
            if {s.fold_hash for s in lead.states.values()} != {fold_hash}
            or set(lead.states) != set(products)
        ]
        events = await store.events(lead.id for lead in old) if old else {}
        for product in products if old else ():
            folds = self.scoring.fold.refold(product, [events.get(lead.id, []) for lead in old])
            for lead, folded in zip(old, folds, strict=True):
                known = lead.states.get(product)
                announced = known.announced if known else Announced()
                lead.states[product] = State(
                    folded, fold_hash, announced, bool(known and known.qualified)
                )
        for lead in old:
            self.exclude(lead)
            lead.states = {product: lead.states[product] for product in products}
        return {lead.id for lead in old}

    def _out_of_order(self, state: State, events: Sequence[Event]) -> bool:
        if state.fold_hash != self.scoring.playbook.fold_hash:
            return True
        weigh, cancels = self.scoring.fold.weighs, self.scoring.fold.undoes
        position = state.fold.position
        return any(
            weigh(e.data) and ((e.at, e.uid) <= position or cancels(state.fold, e)) for e in events
        )

    async def _announce(
        self, store: Store, work: Work, groups: dict[uuid.UUID, list[Arrival]]
    ) -> list[Outgoing]:
        """Looks at every lead from now, says what changed, and writes."""
        now = self.scoring.clock.now_us()
        merged: dict[uuid.UUID, list[uuid.UUID]] = {}
        for old, new in work.emptied.items():
            merged.setdefault(new, []).append(old)
        for lead in work.leads.values():
            self.exclude(lead)
            lead.version += 1
        evidence = {
            lead: Evidence(
                arrivals=groups.get(lead, []),
                late=lead in work.late,
                merged=merged.get(lead, []),
                moved=lead in work.anew,
            )
            for lead in work.leads
        }
        leads = list(work.leads.values())
        said, changes = settle(self.scoring.fold, leads, now, evidence)
        moment = from_us(now)
        for lead in leads:
            changes += engaged(self.scoring.fold, lead, evidence[lead.id], moment)
        await store.write(leads, self.scoring.playbook.fold_hash)
        await store.announce(said)
        return changes
