"""Profiles of the parts of long histories, in the database: an event of which the whole profile
keeps something is taken out by reading the part that it lies in, and joining the parts.

A part holds what happened after the part before it, up to its own end, `until`; the rest of the
history follows the last part. At least `window.WHOLE` events do, so that an event among the newest
touches no part. A lead of fewer than twice PART events has no parts, nor has one that fails.
"""

import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.model import window
from services.scorer.model.profile import (
    BEFORE_ALL,
    UNCOUNTED,
    Position,
    Profile,
    add,
    join,
)
from services.scorer.model.state import Event
from services.scorer.model.taking_out import take_out
from services.scorer.records import UnreadableLead, unpack_profile
from services.scorer.stored_events import events_between, uid_of
from services.shared.db import Table, overwrite, rows

PART = 1024  # events of a part when it is made; one that has more than twice as many is divided
READ_AT_ONCE = 16  # parts in hand
CUT_AT_ONCE = 8  # parts made for a batch of a lead that lacks them
TABLE = Table(
    "scorer",
    "profile_part",
    {"lead_id": "uuid", "at": "bigint", "uid": "uuid", "events": "int", "profile": "bytea"},
    key=("lead_id", "at", "uid"),
)
_pack = msgspec.msgpack.Encoder().encode


class Parts(NamedTuple):
    """Where the last part of a lead ends, and how many events all parts hold."""

    until: Position
    events: int


class Leaving(NamedTuple):
    """A stored event that leaves a lead: its place, and its content where that can be read."""

    place: Position
    event: Event | None


class ProfileParts:
    """The parts of leads that this transaction has locked; `declared` are the traits that the
    playbook names.
    """

    def __init__(self, connection: AsyncConnection, declared: frozenset[str]) -> None:
        self._connection, self._declared = connection, declared

    async def of(self, leads: Iterable[uuid.UUID]) -> dict[uuid.UUID, Parts]:
        """Those of the leads that have parts."""
        found = await rows(
            self._connection,
            "SELECT w.id, l.at, l.uid, (SELECT sum(events) FROM scorer.profile_part "
            "WHERE lead_id = w.id) AS events FROM unnest(CAST(:leads AS uuid[])) AS w(id) "
            "CROSS JOIN LATERAL (SELECT at, uid FROM scorer.profile_part WHERE lead_id = w.id "
            "ORDER BY at DESC, uid DESC LIMIT 1) AS l",
            leads=list(leads),
        )
        return {row.id: Parts((row.at, row.uid.hex), row.events) for row in found}

    async def joined(self, lead: uuid.UUID) -> Profile | None:
        """The profile of all stored events of a lead by its parts; None where it has none."""
        whole, end = Profile(), BEFORE_ALL
        async for until, part in self._read(lead):
            if part is None:
                return None
            whole, end = join(whole, part, self._declared), until
        if end == BEFORE_ALL:
            return None
        async for event in events_between(self._connection, lead, end):
            add(whole, event, self._declared)
        return whole

    async def renew(self, lead: uuid.UUID) -> Profile:
        """Makes a lead's parts of all of its events; returns the profile of all."""
        await self.drop([lead])
        whole, part, held = Profile(), Profile(), None
        async for event in events_between(self._connection, lead):
            add(part, event, self._declared)
            if part.stored == PART:
                if held:
                    await self._write(lead, *held)
                held, whole = (window.place(event), part), join(whole, part, self._declared)
                part = Profile()
        return join(whole, part, self._declared)

    async def change(
        self, lead: uuid.UUID, came: Iterable[Event] = (), left: Iterable[Leaving] = ()
    ) -> None:
        """Takes events, which the database has given up or got already, out of the parts that they
        lie in, or into them. Events beyond the last part concern none.
        """
        coming = {window.place(event): event for event in came}
        leaving = {each.place: each.event for each in left}
        covering = await self._covering(lead, [*coming, *leaving])
        for end, places in covering.items():
            (part,) = [part async for _, part in self._read(lead, end, only=True)]
            if part is None or not _without(part, [leaving[p] for p in places if p in leaving]):
                await self._make(lead, end)
                continue
            for place in places:
                if place in coming:
                    add(part, coming[place], self._declared)
            if 0 < part.stored <= 2 * PART:
                await self._write(lead, end, part)
            else:
                await self._make(lead, end)

    async def extend(self, lead: uuid.UUID, stored: int, known: Parts | None) -> None:
        """Makes parts of what follows the last one of a lead of so many events, until less than
        twice PART follow, or a few are made.
        """
        end, events = known or Parts(BEFORE_ALL, 0)
        for _ in range(min((stored - events) // PART - 1, CUT_AT_ONCE)):
            part = Profile()
            async for event in events_between(self._connection, lead, end, most=PART):
                add(part, event, self._declared)
                end = window.place(event)
            await self._write(lead, end, part)

    async def shorten(self, lead: uuid.UUID, stored: int) -> None:
        """Leaves out the last parts of a lead of so many events until enough follow them."""
        while last := (await self.of([lead])).get(lead):
            if stored - last.events >= window.WHOLE:
                return
            await self._remove(lead, last.until)

    async def hand_over(self, old: uuid.UUID, new: uuid.UUID) -> None:
        """Gives all parts of a lead to one that has none."""
        await self._run(
            "UPDATE scorer.profile_part SET lead_id = :new WHERE lead_id = :old", old=old, new=new
        )

    async def drop(self, leads: Iterable[uuid.UUID]) -> None:
        """Leaves leads without parts."""
        await self._run(
            "DELETE FROM scorer.profile_part WHERE lead_id = ANY(:leads)", leads=sorted(leads)
        )

    # -- one part ---------------------------------------------------------------------------------

    async def _make(self, lead: uuid.UUID, end: Position) -> None:
        """Makes the part of this end of its events, as several where there are many."""
        await self._remove(lead, end)
        found = await rows(
            self._connection,
            "SELECT at, uid FROM scorer.profile_part WHERE lead_id = :lead "
            "AND (at, uid) < (:at, :uid) ORDER BY at DESC, uid DESC LIMIT 1",
            lead=lead, at=end[0], uid=uid_of(end),
        )  # fmt: skip
        after = (found[0].at, found[0].uid.hex) if found else BEFORE_ALL
        part, held = Profile(), None
        async for event in events_between(self._connection, lead, after, end):
            add(part, event, self._declared)
            if part.stored == PART:
                if held:
                    await self._write(lead, *held)
                held, part = (window.place(event), part), Profile()
        if held and part.stored < PART // 2:
            part = join(held[1], part, self._declared)
        elif held:
            await self._write(lead, *held)
        if part.stored:
            await self._write(lead, end, part)

    async def _covering(
        self, lead: uuid.UUID, places: Sequence[Position]
    ) -> dict[Position, list[Position]]:
        """By the ends of the parts that they lie in, in order, these places."""
        found = await rows(
            self._connection,
            "SELECT w.at, w.uid, p.at AS end_at, p.uid AS end_uid "
            "FROM unnest(CAST(:at AS bigint[]), CAST(:uids AS uuid[])) AS w(at, uid) "
            "CROSS JOIN LATERAL (SELECT at, uid FROM scorer.profile_part WHERE lead_id = :lead "
            "AND (at, uid) >= (w.at, w.uid) ORDER BY at, uid LIMIT 1) AS p",
            lead=lead,
            at=[place[0] for place in places],
            uids=[uid_of(place) for place in places],
        )
        ends: dict[Position, list[Position]] = defaultdict(list)
        for row in sorted(found):
            ends[row.end_at, row.end_uid.hex].append((row.at, row.uid.hex))
        return ends

    async def _read(
        self, lead: uuid.UUID, start: Position = BEFORE_ALL, *, only: bool = False
    ) -> AsyncIterator[tuple[Position, Profile | None]]:
        """The parts that end at `start` or later, in order, or the first of them alone; None for
        one that cannot be read.
        """
        compared, most = ">=", 1 if only else READ_AT_ONCE
        while True:
            found = await rows(
                self._connection,
                "SELECT at, uid, profile FROM scorer.profile_part WHERE lead_id = :lead "
                f"AND (at, uid) {compared} (:at, :uid) ORDER BY at, uid LIMIT {most:d}",
                lead=lead, at=start[0], uid=uid_of(start),
            )  # fmt: skip
            for row in found:
                start = row.at, row.uid.hex
                yield start, _readable(row.profile)
            if only or len(found) < most:
                return
            compared = ">"

    async def _write(self, lead: uuid.UUID, end: Position, part: Profile) -> None:
        record = lead, end[0], uid_of(end), part.stored, _pack(part)
        await overwrite(self._connection, TABLE, [record])

    async def _remove(self, lead: uuid.UUID, end: Position) -> None:
        await self._run(
            "DELETE FROM scorer.profile_part WHERE lead_id = :lead AND at = :at AND uid = :uid",
            lead=lead, at=end[0], uid=uid_of(end),
        )  # fmt: skip

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(text(statement), values)


def _without(part: Profile, events: Iterable[Event | None]) -> bool:
    """Takes events out of a part; False where it keeps something of one."""
    return all(event is not None and take_out(part, event) for event in events)


def _readable(packed: bytes) -> Profile | None:
    try:
        profile = unpack_profile(packed)
    except UnreadableLead:
        return None
    return None if profile.stored == UNCOUNTED else profile
