"""The archive that a model is learned from: all stored events, lead by lead, read with a cursor of
the server in bounded memory.
"""

import asyncio
import hashlib
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.learning.episodes import Episode, episodes
from services.scorer.learning.monitor import count_source
from services.scorer.list_keys import company_of
from services.scorer.model.exclusions import Exclusions
from services.scorer.model.fold import Fold
from services.scorer.model.state import Event
from services.scorer.model.window import known_of
from services.shared.clock import to_us
from services.shared.contracts.events import decode_interaction
from services.shared.contracts.identity import Cleaner
from services.shared.db import value, without_limits

SLICE = 1_000  # rows that the server sends at once
MOST_OF_LEAD = 5_000  # events of one lead in hand; of more the first
MOST_STEPS = 1_500_000  # of all episodes in hand; of more a part of the leads
PAUSE = 0.5  # of the time that a slice took, in which others have the machine
ORDERED = (
    "SELECT lead_id, occurred_at, uid, received_at, source, body FROM scorer.event "
    "WHERE occurred_at <= :now ORDER BY lead_id, occurred_at, uid"
)

Progress = Callable[[int], None]


class Archive(NamedTuple):
    """Episodes as known at `until` (µs), the last event's time; how many events and leads they are
    made of, the share of the leads that was taken, and how many events each source sent on each
    day since 1970.
    """

    found: list[Episode]
    until: int
    events: int
    leads: int
    share: float = 1.0
    sources: dict[str, Counter[int]] = {}


async def read(
    connection: AsyncConnection,
    fold: Fold,
    now: int,
    progress: Progress = lambda _: None,
    most_steps: int = MOST_STEPS,
) -> Archive:
    """The episodes of all leads and products, but for people who are no leads. Of an archive with
    more than `most_steps` steps it keeps a half, a quarter … of the leads by the hash of their ids,
    the same whatever the order.
    """
    await without_limits(connection)
    for planner in ("enable_sort", "enable_seqscan"):  # the index has the order
        await connection.execute(text(f"SET LOCAL {planner} = off"))
    until = int(await value(connection, "SELECT max(occurred_at) FROM scorer.event "
                            "WHERE occurred_at <= :now", now=now) or 0)  # fmt: skip
    kept: dict[uuid.UUID, list[Episode]] = {}
    events = steps = 0
    limit = 1 << 64
    number = 0
    sources: dict[str, Counter[int]] = {}
    exclusions, cleaner = (
        Exclusions(fold.playbook.exclusions), Cleaner(fold.playbook.identity),
    )  # fmt: skip
    async for lead, own in _leads(connection, now, progress, sources):
        events += len(own)
        number += 1
        if _hash(lead) >= limit:
            continue
        known = known_of(own, fold.declared)
        profile = known.profile
        if exclusions.reason([profile.email] if profile.email else [], profile.known_traits()):
            continue
        account = company_of(profile, cleaner)
        found = [
            episode._replace(account=account)
            for product in fold.playbook.products
            for episode in episodes(fold, product, known, number, until)
        ]
        if found:
            kept[lead] = found
            steps += sum(len(each.at) for each in found)
        while steps > most_steps:
            limit >>= 1
            for gone in [each for each in kept if _hash(each) >= limit]:
                steps -= sum(len(each.at) for each in kept.pop(gone))
    every = [episode for found in kept.values() for episode in found]
    return Archive(every, until, events, number, limit / (1 << 64), sources)


async def _leads(
    connection: AsyncConnection,
    now: int,
    progress: Progress,
    sources: dict[str, Counter[int]],
) -> AsyncIterator[tuple[uuid.UUID, list[Event]]]:
    """Each lead with its events in the order of the fold."""
    lead: uuid.UUID | None = None
    own: list[Event] = []
    options = {"yield_per": SLICE}
    began = time.monotonic()
    async with connection.stream(text(ORDERED), {"now": now}, execution_options=options) as result:
        async for rows in result.partitions():
            for of, at, uid, received, source, body in rows:
                count_source(sources, source, at)
                if of != lead:
                    if lead is not None:
                        yield lead, own
                    lead, own = of, []
                if len(own) < MOST_OF_LEAD:
                    own.append(Event(at, uid.hex, decode_interaction(body), to_us(received)))
            progress(len(rows))
            await asyncio.sleep(PAUSE * (time.monotonic() - began))
            began = time.monotonic()
    if lead is not None:
        yield lead, own


def _hash(lead: uuid.UUID) -> int:
    return int.from_bytes(hashlib.blake2b(lead.bytes, digest_size=8).digest(), "big")
