"""The profiles of a batch's leads while stored events leave the set or change hands."""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer import profile_parts
from services.scorer.model.profile import UNCOUNTED, Profile, add
from services.scorer.model.state import Event
from services.scorer.model.taking_out import take_out
from services.scorer.profile_parts import Leaving, ProfileParts
from services.scorer.records import LeadRow
from services.scorer.stored_events import event_of, events_between
from services.shared.db import rows

NOTHING: Mapping[uuid.UUID, uuid.UUID] = {}


class Profiles:
    """Keeps the profiles of locked leads up to date, in place, with the parts of long ones, and
    makes those of new ones.

    The `lost` leads are those whose profile can be made of all their events alone; of those that
    are `passed_on`, each event that went to others has been taken out.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        leads: Mapping[uuid.UUID, LeadRow],
        declared: frozenset[str],
    ) -> None:
        self._connection, self._declared = connection, declared
        self._parts = ProfileParts(connection, declared)
        self._known = {lead: row.profile for lead, row in leads.items()}
        self._stored = {lead: profile.stored for lead, profile in self._known.items()}
        self._long = {
            lead
            for lead, stored in self._stored.items()
            if stored == UNCOUNTED or stored >= profile_parts.PART
        }
        self._changed: set[uuid.UUID] = set()
        self._merged: dict[uuid.UUID, uuid.UUID] = {}
        self._merging: uuid.UUID | None = None  # whose events go into the parts of another
        self._own: list[Event] = []  # of a lead that takes over another's parts
        self.lost = {lead for lead, stored in self._stored.items() if stored == UNCOUNTED}
        self.passed_on: set[uuid.UUID] = set()

    def of(self, lead: uuid.UUID) -> Profile:
        """A lead's profile; the empty one of a lead that is new."""
        return self._known.setdefault(lead, Profile())

    async def leave(self, removed: Sequence[Any]) -> None:
        """Takes events that are removed, by their rows, out of their leads' profiles."""
        for lead in sorted({row.lead_id for row in removed}):
            await self._take_out(lead, [row for row in removed if row.lead_id == lead])
        await self.restore()

    # -- events that change hands -----------------------------------------------------------------

    async def begin(self, old: uuid.UUID, new: Collection[uuid.UUID]) -> bool:
        """Prepares for events of one lead that go to others; returns whether each is passed on.

        A lead to which no identifier is left is merged, and the profile with it.
        """
        if self._long.isdisjoint({old, *new}):
            return False
        if len(new) > 1 or await self._has_identifiers(old):
            self.passed_on.add(old)
            return True
        (into,) = new
        self._merged[old] = into
        self._long.add(into)
        self._count(into, self._stored.get(old, 0))
        found = await self._parts.of([old, into])
        if into in found:
            await self._parts.drop([old])
            self._merging = old
            return True
        if old in found:
            await self._take_over(old, into)
        return False

    async def pass_on(self, old: uuid.UUID, moved: Sequence[tuple[Any, uuid.UUID]]) -> None:
        """Takes events, by their rows, which others have got already, out of one lead's profile
        into theirs.
        """
        if self._merging == old:
            return await self._parts.change(self._merged[old], _readable(row for row, _ in moved))
        await self._take_out(old, [row for row, _ in moved])
        for owner in sorted({owner for _, owner in moved}):
            await self._add(owner, [row for row, its in moved if its == owner])

    async def end(self, old: uuid.UUID) -> None:
        """Ends what `begin` prepared, once the events have gone."""
        if self._own:
            await self._parts.change(self._merged[old], self._own)
        self._own, self._merging = [], None

    async def _has_identifiers(self, lead: uuid.UUID) -> bool:
        return bool(
            await rows(
                self._connection,
                "SELECT 1 FROM scorer.identifier WHERE lead_id = :lead LIMIT 1",
                lead=lead,
            )
        )

    async def _take_over(self, old: uuid.UUID, new: uuid.UUID) -> None:
        """Gives a lead's parts to one that has none, whose own events are to be added."""
        most = 3 * profile_parts.PART
        own = [event async for event in events_between(self._connection, new, most=most)]
        if len(own) < most:
            self._own = own
            await self._parts.hand_over(old, new)
        else:
            await self._parts.drop([old])

    # -- profiles ---------------------------------------------------------------------------------

    async def _take_out(self, lead: uuid.UUID, stored: Sequence[Any]) -> None:
        leaving = [Leaving((row.occurred_at, row.uid.hex), _event(row)) for row in stored]
        self._count(lead, -len(leaving))
        for each in leaving:
            if lead not in self.lost and not (each.event and take_out(self.of(lead), each.event)):
                self.lost.add(lead)
        if lead in self._long:
            await self._parts.change(lead, left=leaving)

    async def _add(self, lead: uuid.UUID, stored: Sequence[Any]) -> None:
        events = _readable(stored)
        self._count(lead, len(stored))
        if len(events) < len(stored):
            self.lost.add(lead)
        for event in events if lead not in self.lost else ():
            add(self.of(lead), event, self._declared)
        if lead in self._long:
            await self._parts.change(lead, events)

    def _count(self, lead: uuid.UUID, more: int) -> None:
        self._changed.add(lead)
        if self._stored.get(lead) != UNCOUNTED:
            self._stored[lead] = self._stored.get(lead, 0) + more

    async def restore(self, merged_away: Mapping[uuid.UUID, uuid.UUID] = NOTHING) -> None:
        """Makes the profiles that are lost of long leads' parts; parts that cannot be relied on are
        left out. `merged_away` says into which others leads went in the end.
        """
        for old, into in self._merged.items():
            if merged_away.get(old) != into or old in self._changed:
                self.lost.add(into)
                await self._parts.drop([old, into])
        for lead in sorted(self._changed & self._long - self._merged.keys()):
            stored = self._stored[lead]
            if lead in self.lost and lead not in self._merged.values():
                await self._restore(lead, stored)
            if stored < profile_parts.PART or lead in self.lost:
                await self._parts.drop([lead])
            else:
                await self._parts.shorten(lead, stored)
        self._changed.clear()

    async def _restore(self, lead: uuid.UUID, stored: int) -> None:
        whole = await self._parts.joined(lead) if stored != UNCOUNTED else None
        if whole and whole.stored == stored:
            self._known[lead] = whole
            self.lost.discard(lead)


def _event(stored: Any) -> Event | None:
    """A stored event; None where it cannot be read."""
    try:
        return event_of(stored.occurred_at, stored.uid, stored.received_at, stored.body)
    except msgspec.MsgspecError:
        return None


def _readable(stored: Iterable[Any]) -> list[Event]:
    return [event for event in map(_event, stored) if event]
