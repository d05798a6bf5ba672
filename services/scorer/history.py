"""Reading stored events: never more at once than the fold weighs of a lead."""

import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.model import window
from services.scorer.model.profile import Profile, add
from services.scorer.model.state import Event
from services.scorer.model.window import Known
from services.shared.clock import to_us
from services.shared.contracts.events import decode_interaction
from services.shared.db import rows

ALWAYS = (1 << 62) - 1  # µs; after all events
COLUMNS = "occurred_at, uid, received_at, body"
SLICE = 1000  # events of a whole history in hand at once
AT_ONCE = 20_000  # events of several leads in hand at once


class History:
    """The stored events of leads, inside one transaction; `declared` are the traits that the
    playbook names.
    """

    def __init__(self, connection: AsyncConnection, declared: frozenset[str]) -> None:
        self._connection, self._declared = connection, declared

    async def known(
        self,
        leads: Mapping[uuid.UUID, Profile | None],
        until: int = ALWAYS,
        but_for: Collection[str] = (),
    ) -> AsyncIterator[dict[uuid.UUID, Known]]:
        """What the fold weighs of these leads, some of them at a time.

        A profile stands for all events up to `until` (µs); one that is None is made of them, but
        for those of these ids.
        """
        for some in _portions(leads):
            newest = await self._newest(some, until)
            profiles = {
                lead: profile or await self._profile(lead, newest[lead], until, but_for)
                for lead, profile in some.items()
            }
            for lead in newest if but_for else ():
                newest[lead] = [event for event in newest[lead] if event.uid not in but_for]
            milestones = await self._milestones(profiles)
            yield {
                lead: window.known(profile, newest[lead], milestones.get(lead, ()))
                for lead, profile in profiles.items()
            }

    async def known_of(
        self, lead: uuid.UUID, profile: Profile | None = None, but_for: Collection[str] = ()
    ) -> Known:
        """What the fold weighs of one lead, its profile made of its events where none is given."""
        (found,) = [known async for known in self.known({lead: profile}, but_for=but_for)]
        return found[lead]

    async def _newest(
        self, leads: Mapping[uuid.UUID, Profile | None], until: int
    ) -> dict[uuid.UUID, list[Event]]:
        """The newest events of each lead in the order of the fold, as many as it may weigh."""
        found = await rows(
            self._connection,
            "SELECT w.id, e.* FROM unnest(CAST(:leads AS uuid[]), CAST(:most AS bigint[])) "
            f"AS w(id, most) CROSS JOIN LATERAL (SELECT {COLUMNS} FROM scorer.event "
            "WHERE lead_id = w.id "
            "AND occurred_at <= :until ORDER BY occurred_at DESC, uid DESC LIMIT w.most) e",
            leads=list(leads),
            most=[_most(profile) for profile in leads.values()],
            until=until,
        )
        newest: dict[uuid.UUID, list[Event]] = defaultdict(list)
        for lead, *event in found:
            newest[lead].append(_event(*event))
        for events in newest.values():
            events.sort(key=window.place)
        return newest

    async def _profile(
        self, lead: uuid.UUID, newest: Sequence[Event], until: int, but_for: Collection[str]
    ) -> Profile:
        """The profile of all of a lead's events, of which these are the newest WHOLE."""
        profile = Profile()
        if len(newest) < window.WHOLE:
            for event in newest:
                if event.uid not in but_for:
                    add(profile, event, self._declared)
            return profile
        async for event in self._all(lead, until):
            if event.uid not in but_for:
                add(profile, event, self._declared)
        return profile

    async def _all(self, lead: uuid.UUID, until: int) -> AsyncIterator[Event]:
        """All events of a lead in the order of the fold."""
        at, uid = -ALWAYS, uuid.UUID(int=0)
        while True:
            found = await rows(
                self._connection,
                f"SELECT {COLUMNS} FROM scorer.event WHERE lead_id = :lead "
                "AND (occurred_at, uid) > (:at, :uid) AND occurred_at <= :until "
                "ORDER BY occurred_at, uid LIMIT :slice",
                lead=lead, at=at, uid=uid, until=until, slice=SLICE,
            )  # fmt: skip
            for row in found:
                yield _event(*row)
            if len(found) < SLICE:
                return
            at, uid = found[-1].occurred_at, found[-1].uid

    async def _milestones(
        self, profiles: Mapping[uuid.UUID, Profile]
    ) -> dict[uuid.UUID, list[Event]]:
        """The milestones of those that have more events than are weighed one by one."""
        wanted = {
            uid: lead
            for lead, profile in profiles.items()
            if window.start(profile.stored)
            for last in profile.milestones.values()
            for _, uid in last
        }
        milestones: dict[uuid.UUID, list[Event]] = defaultdict(list)
        if wanted:
            found = await rows(
                self._connection,
                f"SELECT {COLUMNS} FROM scorer.event WHERE uid = ANY(:uids)",
                uids=list(wanted),
            )
            for event in (_event(*row) for row in found):
                milestones[wanted[event.uid]].append(event)
        return milestones


def _event(at: int, uid: Any, received: datetime, body: str) -> Event:
    return Event(at, uid.hex, decode_interaction(body), to_us(received))


def _most(profile: Profile | None) -> int:
    return window.count(profile.stored) if profile else window.WHOLE


def _portions(
    leads: Mapping[uuid.UUID, Profile | None],
) -> Iterable[dict[uuid.UUID, Profile | None]]:
    """The leads in groups that have at most AT_ONCE events to be read."""
    group: dict[uuid.UUID, Profile | None] = {}
    events = 0
    for lead, profile in leads.items():
        most = _most(profile)
        if group and events + most > AT_ONCE:
            yield group
            group, events = {}, 0
        group[lead] = profile
        events += most
    if group:
        yield group
