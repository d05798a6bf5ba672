"""Reading stored events: never more at once than the fold weighs of a lead."""

import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.model import window
from services.scorer.model.profile import Profile, add
from services.scorer.model.state import Event
from services.scorer.model.window import Known
from services.scorer.profile_parts import ProfileParts
from services.scorer.stored_events import AFTER_ALL, COLUMNS, event_of, events_between
from services.shared.db import rows

ALWAYS = (1 << 62) - 1  # µs; after all events
AT_ONCE = 20_000  # events of several leads in hand at once


class History:
    """The stored events of leads, inside one transaction; `declared` are the traits that the
    playbook names. `parts`, where given, are made again with the profile of a long lead that is
    made of all its events.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        declared: frozenset[str],
        parts: ProfileParts | None = None,
    ) -> None:
        self._connection, self._declared, self.parts = connection, declared, parts

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
            newest[lead].append(event_of(*event))
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
        if self.parts:
            return await self.parts.renew(lead)
        end = until, AFTER_ALL[1]
        async for event in events_between(self._connection, lead, until=end):
            if event.uid not in but_for:
                add(profile, event, self._declared)
        return profile

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
            for event in (event_of(*row) for row in found):
                milestones[wanted[event.uid]].append(event)
        return milestones


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
