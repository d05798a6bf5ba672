"""The one invariant on the real store: the same set of events gives the same state, bit for bit
(D1, D2, O4).
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ops.commands.verify import canonical, verify
from services.scorer import history, profile_parts, stored_events
from services.scorer.model import profile, window
from services.scorer.model.profile import BEFORE_ALL, profile_of
from services.scorer.model.state import Event
from services.scorer.model.window import known_of
from services.scorer.processing.handler import Handler
from services.scorer.records import unpack_profile
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.shared.clock import to_us
from services.shared.contracts.events import decode_interaction
from services.shared.db import rows
from services.shared.messaging.consumer import Consumer
from services.shared.messaging.kafka import Record
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.support import histories, present

CASES = 50


def consumer(engine: AsyncEngine, handler: Handler) -> Consumer[Any]:
    def never() -> Any:
        raise AssertionError("no broker here")

    return Consumer(engine, never, handler, "scorer", batch=100, on_commit=lambda _: None)


async def feed(
    engine: AsyncEngine, handler: Handler, arriving: list[Record], rng: random.Random, lanes: int
) -> None:
    """Applies records in batches of random sizes, in `lanes` at once."""
    taker = consumer(engine, handler)

    async def lane(mine: list[Record]) -> None:
        while mine:
            size = rng.choice([1, 2, 5, 17])
            batch, mine = mine[:size], mine[size:]
            await taker.process(batch, lambda: None)

    await asyncio.gather(*(lane(arriving[i::lanes]) for i in range(lanes)))


async def snapshot(engine: AsyncEngine, handler: Handler) -> dict[Any, Any]:
    """States keyed by who their events are, not by lead id; leads without events do not count."""
    async with engine.connect() as connection:
        leads = {
            r.id: r
            for r in await rows(
                connection,
                "SELECT id, profile, provisional FROM scorer.lead WHERE merged_into IS NULL",
            )
        }
        states = await Store(connection).states(leads)
        events: dict[Any, list[Any]] = {}
        for row in await rows(
            connection,
            "SELECT lead_id, occurred_at, uid, received_at, body FROM scorer.event "
            "ORDER BY occurred_at, uid",
        ):
            data, received = decode_interaction(row.body), to_us(row.received_at)
            event = Event(row.occurred_at, row.uid.hex, data, received)
            events.setdefault(row.lead_id, []).append(event)
        conflicts = {
            r.uid.hex for r in await rows(connection, "SELECT uid FROM scorer.event WHERE conflict")
        }
        letters = await rows(connection, "SELECT reason FROM scorer.dead_letter")
        parts = await rows(connection, "SELECT * FROM scorer.profile_part ORDER BY at, uid")
    assert not letters
    are_parts(parts, events, handler.scoring.fold.declared)
    out = {}
    for lead, mine in events.items():
        lane = states[lead]["default"].fold
        key = tuple(event.uid for event in mine)
        reference = known_of(mine, handler.scoring.fold.declared)
        assert handler.scoring.fold.refold("default", [reference.events]) == [lane]
        assert canonical(reference.profile) == canonical(unpack_profile(leads[lead].profile))
        flags = tuple(event.uid in conflicts for event in mine)
        out[key] = (
            lane,
            canonical(unpack_profile(leads[lead].profile)),
            leads[lead].provisional,
            flags,
        )
    return out


def are_parts(
    parts: Sequence[Any], events: Mapping[Any, Sequence[Event]], declared: frozenset[str]
) -> None:
    """Each stored part is the profile of the events that lie in it, and enough follow the last."""
    began: dict[Any, Any] = {}
    for part in parts:
        mine, end = events[part.lead_id], (part.at, part.uid.hex)
        after = began.get(part.lead_id, BEFORE_ALL)
        those = [event for event in mine if after < window.place(event) <= end]
        assert canonical(unpack_profile(part.profile)) == canonical(profile_of(those, declared))
        assert 0 < part.events == len(those) <= 2 * profile_parts.PART
        began[part.lead_id] = end
    for lead, end in began.items():
        following = [event for event in events[lead] if window.place(event) > end]
        assert len(following) >= window.WHOLE


@pytest.mark.parametrize("seed", range(CASES))
async def test_any_arrival_of_the_same_set_gives_the_same_state(
    seed: int, engine: AsyncEngine, settings: Settings, default_playbook: Playbook
) -> None:
    """Once in order and alone, then shuffled, doubled, in other batches, by three processes at
    once; some events were received again and again.
    """
    await same_state(random.Random(seed), engine, settings, default_playbook)


@pytest.mark.parametrize("seed", range(CASES, CASES + CASES // 2))
async def test_any_arrival_gives_the_same_state_of_leads_of_which_not_all_is_kept(
    seed: int,
    engine: AsyncEngine,
    settings: Settings,
    default_playbook: Playbook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The newest few events are weighed one by one, a milestone and a consent of each kind are
    kept, histories are read in slices and have profiles of their parts; merges and splits, late
    and repeated events as before.
    """
    for place, name, limit in (
        (window, "KEPT", 3),
        (window, "BLOCK", 2),
        (window, "WHOLE", 5),
        (profile, "MOST_MILESTONES", 1),
        (profile, "MOST_TRAITS", 0),
        (profile, "MOST_CONSENTS", 1),
        (stored_events, "SLICE", 2),
        (history, "AT_ONCE", 7),
        (profile_parts, "PART", 5),
        (profile_parts, "READ_AT_ONCE", 2),
        (profile_parts, "CUT_AT_ONCE", 1),
    ):
        monkeypatch.setattr(place, name, limit)
    lengths = (25, 80) if seed % 2 else (10, 40)
    await same_state(random.Random(seed), engine, settings, default_playbook, lengths)


async def same_state(
    rng: random.Random,
    engine: AsyncEngine,
    settings: Settings,
    playbook: Playbook,
    lengths: Sequence[int] = (10, 25, 40),
) -> None:
    handler = Handler(Scoring.of(playbook, present.CLOCK))
    happened = histories.history(rng, people=rng.choice([2, 3, 5]), length=rng.choice(lengths))
    all_records = histories.records(happened, histories.sends(rng))
    all_records += histories.resent(rng, happened)
    async with engine.begin() as connection:
        tables = (
            "event, identifier, link, timed_link, verdict, lead, lead_state, profile_part, "
            "announcement, touch, outbox, dead_letter, progress"
        )
        reset = "TRUNCATE " + ", ".join(f"scorer.{one.strip()}" for one in tables.split(","))
        await connection.exec_driver_sql(reset)
    await feed(engine, handler, all_records, rng, lanes=1)
    first = await snapshot(engine, handler)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(reset)
    again = all_records + rng.choices(all_records, k=len(all_records) // 4)
    rng.shuffle(again)
    await feed(engine, handler, again, rng, lanes=3)
    second = await snapshot(engine, handler)
    assert second.keys() == first.keys()
    assert second == first
    checked = await verify(settings, lambda _: None)
    assert checked.mismatches == []
    assert checked.leads >= len(first)
