"""Whose the events of anonymous ids are that two or three people share: each event is the person's
of the nearest link in time.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.identity.owned_events import BODY, Mover, OwnedEvents
from services.scorer.identity.resolver import Plan
from services.scorer.identity.rules import TimedLink, nearest, passed_on
from services.scorer.identity.timed_links import SeenWith, TimedLinks
from services.scorer.records import IncomingEvent, StoredEvent


@dataclass
class Change:
    """What a batch brings of one id: events of its own, links, and links of superseded events."""

    own: list[IncomingEvent] = field(default_factory=list)
    added: list[SeenWith] = field(default_factory=list)
    removed: list[SeenWith] = field(default_factory=list)

    @property
    def linked_at(self) -> set[int]:
        """The instants (µs) at which links come or go."""
        return {link.at for link in (*self.added, *self.removed)}

    @property
    def instants(self) -> set[int]:
        """Those of all of it."""
        return self.linked_at | {event.at for event in self.own}


class Division:
    """Division of events inside one transaction that has locked the leads concerned; the mover is
    told of those that go from one lead to another.
    """

    def __init__(self, connection: AsyncConnection, mover: Mover) -> None:
        self._links, self._events = TimedLinks(connection), OwnedEvents(connection)
        self._mover = mover

    async def divide(
        self, plan: Plan, events: Sequence[IncomingEvent], superseded: Sequence[StoredEvent]
    ) -> None:
        """Gives the events of split ids, stored and new, to their leads; the plan notes which lost
        or got stored ones.

        Where an id's former links are whose they were, of its stored events only those are read of
        which another link is the nearest now.
        """
        if joined := plan.joined - plan.made:
            await self._links.forget(joined)
        changes = _changes(plan, events, superseded)
        for node, leads in plan.split.items():
            change = changes.get(node, Change())
            if change.instants or node not in plan.settled:
                await self._divide_one(plan, node, leads, change)

    async def _divide_one(
        self, plan: Plan, node: int, leads: Iterable[uuid.UUID], change: Change
    ) -> None:
        before = after = await self._links.around(node, change.instants)
        if not before and node not in plan.made:
            await self._links.renew(node, leads, change.added)
        elif change.linked_at:
            await self._links.change(node, change.removed, change.added)
        if not before or change.linked_at:
            after = await self._links.around(node, change.instants)
        if before and node in plan.settled:
            plan.divided |= await self._pass_on(node, before, after, change.linked_at)
        elif node not in plan.made:
            plan.divided |= await self._divide_all(node, leads)
        for event in change.own:
            event.lead = nearest(after, event.at)

    async def _divide_all(self, node: int, leads: Iterable[uuid.UUID]) -> set[uuid.UUID]:
        """Looks at all stored events of an id; returns the leads that lost or got some."""
        changed: set[uuid.UUID] = set()
        for lead in sorted(leads):
            async for stored in self._events.of(lead, [node], more=BODY):
                links = await self._links.around(node, [row.occurred_at for row in stored])
                owners = [nearest(links, row.occurred_at) for row in stored]
                changed |= await self._give(lead, list(zip(stored, owners, strict=True)))
        return changed

    async def _pass_on(
        self,
        node: int,
        before: Sequence[TimedLink],
        after: Sequence[TimedLink],
        linked_at: Iterable[int],
    ) -> set[uuid.UUID]:
        """Looks at those of which another link is the nearest after a change of links; returns the
        leads that lost or got some.
        """
        changed: set[uuid.UUID] = set()
        for span in passed_on(before, after, linked_at):
            async for stored in self._events.of(
                span.old, [node], span.since, span.until, more=BODY
            ):
                changed |= await self._give(span.old, [(row, span.new) for row in stored])
        return changed

    async def _give(
        self, old: uuid.UUID, owners: Sequence[tuple[Any, uuid.UUID]]
    ) -> set[uuid.UUID]:
        """Gives a lead's events, by their rows, to their owners; returns the leads that lost or got
        some.
        """
        moved = [(row, owner) for row, owner in owners if owner != old]
        await self._events.give([(row.uid, owner) for row, owner in moved])
        if moved:
            await self._mover.pass_on(old, moved)
        return {owner for _, owner in moved} | ({old} if moved else set())


def _changes(
    plan: Plan, events: Iterable[IncomingEvent], superseded: Iterable[StoredEvent]
) -> dict[int, Change]:
    """What the batch brings of each split id."""
    changes: dict[int, Change] = defaultdict(Change)
    for event in events:
        strongest = plan.nodes[event.strongest].id
        if strongest in plan.split:
            changes[strongest].own.append(event)
        for weak in event.linked:
            if (node := plan.nodes[weak].id) in plan.split:
                changes[node].added.append(SeenWith(event.at, uuid.UUID(event.uid), strongest))
    for old in superseded:
        for node in old.linked:
            if node in plan.split:
                changes[node].removed.append(SeenWith(old.at, old.uid, old.strongest))
    return changes
