"""Folds every lead again from its events and compares with what is stored: the one invariant,
checked in place.
"""

import uuid
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.history import History
from services.scorer.model.profile import Profile
from services.scorer.models import current
from services.scorer.profile_parts import ProfileParts
from services.scorer.records import UnreadableLead, unpack_profile
from services.scorer.scoring import Scoring
from services.scorer.store import Store, pack
from services.shared.clock import Clock
from services.shared.db import open_engine, rows, without_limits
from services.shared.playbook.loading import load
from services.shared.settings import Settings

BATCH = 200


class Mismatch(NamedTuple):
    """A lead, and what is stored otherwise than its events say."""

    lead: str
    what: str


class Verification(NamedTuple):
    """How many leads were compared, and what differed."""

    leads: int
    mismatches: list[Mismatch]


async def verify(settings: Settings, progress: Callable[[int], None]) -> Verification:
    """Compares all leads as they are at one moment; `progress` gets the number of each batch."""
    engine = open_engine(settings)
    in_use = await current(engine, load(settings.playbook))
    scoring = Scoring.of(in_use.playbook, Clock.parse(settings.clock))
    mismatches: list[Mismatch] = []
    count, last = 0, uuid.UUID(int=0)
    try:
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            await without_limits(connection)
            mismatches += await _misplaced(connection)
            while True:
                found = await rows(
                    connection,
                    "SELECT id, profile FROM scorer.lead WHERE id > :last AND merged_into IS "
                    "NULL ORDER BY id LIMIT :limit",
                    last=last, limit=BATCH,
                )  # fmt: skip
                if not found:
                    return Verification(count, mismatches)
                last, count = found[-1].id, count + len(found)
                mismatches += await _compare(
                    connection, scoring, {row.id: row.profile for row in found}
                )
                progress(len(found))
    finally:
        await engine.dispose()


async def _compare(
    connection: AsyncConnection, scoring: Scoring, profiles: dict[uuid.UUID, bytes]
) -> list[Mismatch]:
    """What of these leads differs from a fold of their events."""
    states = await Store(connection).states(profiles)
    history = History(connection, scoring.fold.declared)
    parts = ProfileParts(connection, scoring.fold.declared)
    long = await parts.of(profiles)
    wrong: list[tuple[uuid.UUID, str]] = []
    async for known in history.known(dict.fromkeys(profiles)):
        for product in scoring.playbook.products:
            leads = [lead for lead in known if product in states.get(lead, {})]
            folded = scoring.fold.refold(product, [known[lead].events for lead in leads])
            for lead, again in zip(leads, folded, strict=True):
                stored = states[lead][product]
                if stored.fold_hash == scoring.playbook.fold_hash and stored.fold != again:
                    wrong.append((lead, f"the state of {product}"))
        for lead, its in known.items():
            if not _is_profile(profiles[lead], its.profile):
                wrong.append((lead, "the profile"))
            if its.events and lead not in states:
                wrong.append((lead, "no state"))
            if lead in long and not await _is_joined(parts, lead, its.profile):
                wrong.append((lead, "the profiles of its parts"))
    return [Mismatch(str(lead), what) for lead, what in wrong]


def _is_profile(packed: bytes, profile: Profile) -> bool:
    try:
        return canonical(unpack_profile(packed)) == canonical(profile)
    except UnreadableLead:
        return False


async def _is_joined(parts: ProfileParts, lead: uuid.UUID, profile: Profile) -> bool:
    if joined := await parts.joined(lead):
        joined.since = profile.since
    return joined is not None and canonical(joined) == canonical(profile)


def canonical(profile: Profile) -> bytes:
    """A profile in one form whatever the order in which it was learned."""
    for name in profile.__struct_fields__:
        if isinstance(known := getattr(profile, name), dict):
            setattr(profile, name, dict(sorted(known.items())))
    return pack(profile)


async def _misplaced(connection: AsyncConnection) -> list[Mismatch]:
    """Events that are not where their strongest identifier belongs."""
    found = await rows(
        connection,
        "SELECT DISTINCT e.lead_id FROM scorer.event e JOIN scorer.identifier i ON i.id = e.anchor "
        "WHERE i.lead_id IS NOT NULL AND i.lead_id <> e.lead_id LIMIT 100",
    )
    return [Mismatch(str(row.lead_id), "an event of somebody else") for row in found]
