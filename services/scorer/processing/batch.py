"""A batch on its way into the set: what is new in it, whose it is, and which leads it changes."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.identity.division import Division
from services.scorer.identity.repository import IdentityResolver
from services.scorer.identity.resolver import Move, Plan, by_lead
from services.scorer.model.profile import Profile, join
from services.scorer.processing.profiles import Profiles
from services.scorer.records import (
    IncomingEvent,
    LastAnnounced,
    LeadRow,
    State,
    StoredEvent,
)
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.shared.contracts.identity import Kind
from services.shared.errors import Retry
from services.shared.telemetry import EVENTS_REPEATED


class Distinct(NamedTuple):
    """Events that are new or win over the stored body under their id, and the stored ones that
    they supersede.
    """

    events: list[IncomingEvent]
    superseded: list[StoredEvent]


@dataclass
class Batch:
    """Assigned events by lead, and the leads in hand; those `identified` got or lost identifiers,
    `merged_away` says into which others went.

    `refold` are leads whose stored events changed. Of those whose profile is known all the same,
    `joined` holds it, still without the new events.
    """

    events: dict[uuid.UUID, list[IncomingEvent]] = field(default_factory=dict)
    leads: dict[uuid.UUID, LeadRow] = field(default_factory=dict)
    refold: set[uuid.UUID] = field(default_factory=set)
    late: set[uuid.UUID] = field(default_factory=set)
    identified: set[uuid.UUID] = field(default_factory=set)
    merged_away: dict[uuid.UUID, uuid.UUID] = field(default_factory=dict)
    joined: dict[uuid.UUID, Profile] = field(default_factory=dict)

    @property
    def merged(self) -> dict[uuid.UUID, list[uuid.UUID]]:
        """By lead, those that became part of it."""
        merged: dict[uuid.UUID, list[uuid.UUID]] = {}
        for old, new in self.merged_away.items():
            merged.setdefault(new, []).append(old)
        return merged

    def leave(self, leads: Iterable[uuid.UUID]) -> None:
        """Leaves leads as they are stored."""
        for lead in leads:
            self.leads.pop(lead, None)
            self.events.pop(lead, None)
            self.refold.discard(lead)


async def distinct(store: Store, events: Sequence[IncomingEvent]) -> Distinct:
    """Of several bodies under one id the smallest wins, also over the stored one; the event is
    flagged where they differ.
    """
    best = _smallest(events)
    stored = await store.stored(best)
    new, superseded, conflicts = [], [], []
    for uid, event in best.items():
        before = stored.get(uid)
        if before is None:
            new.append(event)
            continue
        conflict = event.conflict or before.conflict or before.digest != event.digest
        if event.rank < before.rank:
            event.conflict = conflict
            new.append(event)
            superseded.append(before)
        elif conflict and not before.conflict:
            conflicts.append(before.uid)
    if conflicts:
        await store.flag_conflicts(conflicts)
    EVENTS_REPEATED.inc(len(events) - len(new))
    return Distinct(new, superseded)


def _smallest(events: Iterable[IncomingEvent]) -> dict[str, IncomingEvent]:
    """The event that wins under each id."""
    best: dict[str, IncomingEvent] = {}
    for event in events:
        other = best.get(event.uid)
        if other:
            conflict = other.conflict or other.digest != event.digest
            other.conflict = event.conflict = conflict
        if not other or event.rank < other.rank:
            best[event.uid] = event
    return best


async def assigned(connection: AsyncConnection, scoring: Scoring, new: Distinct) -> Batch:
    """Locks every lead concerned, decides whose the events are on what holds under the locks, and
    stores them; returns the leads that change, with all that belongs to them.
    """
    store, resolver = Store(connection), IdentityResolver(connection)
    locked: dict[uuid.UUID, LeadRow | None] = {}
    plan = await resolver.plan(*new)
    while missing := plan.leads - plan.created - set(locked):
        locked |= dict.fromkeys(missing) | await store.lock(missing)
        plan = await resolver.plan(*new)
    batch = Batch(leads={lead: row for lead, row in locked.items() if row})
    profiles = Profiles(connection, batch.leads, scoring.fold.declared)
    await profiles.leave(await _remove_superseded(store, new.superseded))
    batch.refold |= await resolver.apply(plan, profiles)
    for event in new.events:
        event.lead = plan.nodes[event.strongest].lead
    await Division(connection, profiles).divide(plan, *new)
    batch.refold |= plan.divided
    batch.merged_away = await _merged_away(store, batch, plan, new.events)
    await profiles.restore(batch.merged_away)
    await store.insert(new.events, plan.numbers)
    batch.events = by_lead(new.events)
    batch.refold |= {event.lead for event in new.superseded}
    batch.identified = plan.identified()
    await _load(store, scoring, batch, plan, profiles)
    return batch


async def _remove_superseded(store: Store, superseded: Sequence[StoredEvent]) -> list[Any]:
    """Takes superseded events away; returns their rows. Raises Retry where they are no longer as
    they were.
    """
    if not superseded:
        return []
    expected = {event.uid.hex: event for event in superseded}
    if await store.stored(expected) != expected:
        raise Retry("another process took a repeated event away")
    return await store.remove(superseded)


async def _merged_away(
    store: Store, batch: Batch, plan: Plan, events: Iterable[IncomingEvent]
) -> dict[uuid.UUID, uuid.UUID]:
    """The leads to which neither an identifier nor an event is left, and where theirs went."""
    left = plan.left_behind() & set(batch.leads)
    if not left:
        return {}
    in_use = await store.in_use(plan.leads) | {event.lead for event in events if event.lead}
    return plan.merged_away(left - in_use, in_use)


async def _load(
    store: Store, scoring: Scoring, batch: Batch, plan: Plan, profiles: Profiles
) -> None:
    """Brings what belongs to the leads that change; created leads begin empty."""
    changed = set(batch.events) | batch.refold | set(batch.merged_away.values())
    wanted = changed - set(batch.merged_away)
    known = wanted - plan.created
    stored = await store.states(known | set(batch.merged_away))
    identifiers = plan.identifiers_of_created() | await store.identifiers(known)
    leads = {}
    for lead in wanted:
        row = batch.leads.get(lead) or LeadRow(
            lead, profile=profiles.of(lead), created=lead in plan.created
        )
        row.states = dict(stored.get(lead, {}))
        row.identifiers = identifiers.get(lead, [])
        kinds = {name.kind for name in row.identifiers}
        row.provisional = kinds == {Kind.EXTERNAL}  # known by other systems' ids alone
        leads[lead] = row
    for old, new in batch.merged_away.items():
        _inherit(scoring, leads[new], stored.get(old, {}))
        leads[new].was_engaged(batch.leads[old].engaged_at)
    _join(scoring, batch, plan, stored, profiles)
    batch.leads = leads
    batch.refold |= {lead.id for lead in leads.values() if lead.unreadable}
    batch.refold &= wanted
    await store.merge(batch.merged_away)


def _join(
    scoring: Scoring,
    batch: Batch,
    plan: Plan,
    stored: Mapping[uuid.UUID, Mapping[str, State]],
    profiles: Profiles,
) -> None:
    """Joins the profiles that are not lost of leads that got all that others had left."""
    gained: dict[uuid.UUID, set[uuid.UUID]] = defaultdict(set)
    moved = [move for move in plan.moved if move.old not in profiles.passed_on]
    for _, old, new in moved:
        gained[new].add(old)
    for lead in batch.refold - batch.merged_away.keys():
        parts = [lead, *gained[lead]]
        if profiles.lost.intersection(parts) or not _only_gained(batch, moved, lead, gained[lead]):
            continue
        known = [(profiles.of(part), stored.get(part, {})) for part in parts]
        if all(scoring.holds(profile, states.values()) for profile, states in known):
            batch.joined[lead] = reduce(
                lambda one, other: join(one, other, scoring.fold.declared),
                (profile for profile, _ in known),
                Profile(),
            )


def _only_gained(
    batch: Batch, moved: Sequence[Move], lead: uuid.UUID, others: set[uuid.UUID]
) -> bool:
    """Whether no identifier left a lead, and it got all that these others have left."""
    if not others <= batch.leads.keys():
        return False
    moved_elsewhere = any(
        move.old == lead or move.new in others or (move.old in others and move.new != lead)
        for move in moved
    )
    return not moved_elsewhere and all(batch.merged_away.get(other) == lead for other in others)


def _inherit(scoring: Scoring, into: LeadRow, states: dict[str, State]) -> None:
    """After a merge the last announcement is the latest of the union."""
    for product, state in states.items():
        mine, theirs = into.states.get(product), state.announced
        if mine is None:
            into.states[product] = scoring.initial(product)
            into.states[product].announced = LastAnnounced(theirs.stage, 0, theirs.at)
        elif theirs.at and (not mine.announced.at or theirs.at > mine.announced.at):
            mine.announced = LastAnnounced(theirs.stage, mine.announced.seq, theirs.at)
