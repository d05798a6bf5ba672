"""Who an event belongs to, on the real store, against the rules applied to the whole set at once
(D1, D2).
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ops.commands.verify import verify
from services.scorer.processing.handler import Handler
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.shared.clock import to_us
from services.shared.contracts.events import Interaction
from services.shared.contracts.identity import Kind
from services.shared.db import rows
from services.shared.errors import Retry
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.integration.scorer.test_same_set_same_state import consumer, feed, snapshot
from tests.support import present
from tests.support.histories import BASE, DAY, Occurrence, records, sends
from tests.support.ownership_reference import owners, shared, tangled

Batches = list[list[Occurrence]]


def act(day: float, id: str, **named: Any) -> Occurrence:
    return Occurrence(BASE + int(day * DAY), Interaction(id=id, type="page_viewed", **named))


def verdict(day: float, id: str, one: str, other: str, said: str = "same") -> Occurrence:
    properties = {"other_user_id": other, "verdict": said}
    return Occurrence(
        BASE + int(day * DAY),
        Interaction(id=id, type="identity_reviewed", user_id=one, properties=properties),
    )


TWO = [[act(1, "a", user_id="u1")], [act(2, "b", user_id="u2")]]
THREE = [
    *TWO,
    [act(1, "c", user_id="u3", email="p3@x.example")],
    [act(2, "d", email="p3@x.example")],
]
SPLIT = [
    [act(3, "a", user_id="u1", anonymous_id="A")],
    [act(9, "b", user_id="u2", anonymous_id="A")],
]
CASES: dict[str, Batches] = {
    "a verdict goes with the body that said it": [*TWO, [verdict(3, "v", "u1", "u2")], [act(2.5,
    "v", user_id="u1")]],
    "in one batch too": [*TWO, [verdict(3, "v", "u1", "u2"), act(2.5, "v", user_id="u1")]],
    "a verdict moved to an earlier time is overruled by the later one": [
        *TWO, [verdict(3, "v", "u1", "u2")], [verdict(2.7, "w", "u1", "u2", "different")],
        [verdict(2.5, "v", "u1", "u2")],
    ],
    "joining groups takes the third user's address along": [*THREE, [verdict(3, "v", "u2", "u3")],
    [verdict(3, "w", "u1", "u2")]],
    "parting groups lets it go": [
        *THREE, [verdict(3, "w", "u1", "u2")], [verdict(3, "v", "u2", "u3")], [verdict(4, "x",
        "u1", "u2", "different")],
    ],
    "two losing bodies do not prop up each other's link": [
        [act(3, "a", user_id="u1", anonymous_id="A"), act(3, "b", user_id="u1", anonymous_id="A"),
        act(2, "x", anonymous_id="A")],
        [act(1, "a", user_id="u1"), act(1, "b", user_id="u1")],
    ],
    "a split cookie that loses a link gives the events back": [
        *SPLIT, [act(9.5, "x", anonymous_id="A")], [act(8, "b", user_id="u2")],
    ],
    "one that keeps the person but loses the nearest link does too": [
        *SPLIT, [act(6, "c", user_id="u2", anonymous_id="A")], [act(6.5, "x", anonymous_id="A")],
        [act(5, "c", user_id="u2")],
    ],
    "links at one instant divide nothing before it": [
        [act(2, "x", anonymous_id="A"), act(6, "y", anonymous_id="A")], *SPLIT,
        [act(9, "z", anonymous_id="A")],
        *([act(9, id, user_id=user, anonymous_id="A")] for id in "cdef" for user in ("u1", "u2")
        if (id in "ce") == (user == "u1")),
    ],
    "a link before all others gets what was before them": [
        [act(1, "x", anonymous_id="A"), act(2.5, "y", anonymous_id="A")], *SPLIT,
        [act(2, "c", user_id="u2", anonymous_id="A")], [act(1.5, "z", anonymous_id="A")],
    ],
    "a cookie that was split is split again": [
        *SPLIT, [act(6, "x", anonymous_id="A")], [act(8, "b", user_id="u2")],
        [act(5, "c", user_id="u3", anonymous_id="A")], [act(7, "y", anonymous_id="A")],
    ],
    "two who share a cookie become one, and a third comes": [
        *SPLIT, [verdict(3, "v", "u1", "u2")], [act(5, "c", user_id="u3", anonymous_id="A")],
        [act(6, "x", anonymous_id="A")], [verdict(4, "w", "u1", "u2", "different")],
        [act(9.5, "y", anonymous_id="A")],
    ],
    "also where a third person stays": [
        *SPLIT, [act(6, "c", user_id="u3", anonymous_id="A")], [act(9.5, "x", anonymous_id="A")],
        [act(8, "b", user_id="u9")],
    ],
}  # fmt: skip
KEPT_LINKS = "SELECT weak, at, uid, strong FROM scorer.timed_link ORDER BY weak, at, uid"
DIVIDED_LINKS = (
    "SELECT i.id AS weak, occurred_at AS at, uid, anchor AS strong FROM scorer.identifier i "
    f"JOIN scorer.event ON i.id = ANY(weaker) WHERE i.kind = {Kind.ANONYMOUS} "
    "AND i.lead_id IS NULL ORDER BY weak, at, uid"
)


async def agrees(
    engine: AsyncEngine, settings: Settings, handler: Handler, arrived: list[Any]
) -> None:
    assert {frozenset(events) for events in await snapshot(engine, handler)} == owners(
        arrived, handler.scoring.cleaner
    )
    checked = await verify(settings, lambda _: None)
    assert checked.mismatches == []
    async with engine.connect() as connection:
        assert await rows(connection, KEPT_LINKS) == await rows(connection, DIVIDED_LINKS)


@pytest.mark.parametrize("case", CASES)
async def test_the_rules_hold_when(
    case: str, engine: AsyncEngine, settings: Settings, default_playbook: Playbook
) -> None:
    handler = Handler(Scoring.of(default_playbook, present.CLOCK))
    arrived = []
    for batch in CASES[case]:
        made = records(batch)
        arrived += made
        await consumer(engine, handler).process(made, lambda: None)
    await agrees(engine, settings, handler, arrived)


@pytest.mark.parametrize("people", [tangled, shared])
@pytest.mark.parametrize("seed", range(30))
async def test_tangled_people_are_told_apart_whatever_the_arrival(
    seed: int,
    people: Callable[[random.Random, int, int], list[Occurrence]],
    engine: AsyncEngine,
    settings: Settings,
    default_playbook: Playbook,
) -> None:
    rng = random.Random(seed)
    handler = Handler(Scoring.of(default_playbook, present.CLOCK))
    arrived = records(
        people(rng, rng.choice([3, 4, 6]), rng.choice([8, 15, 30])),
        sends(rng) if rng.random() < 0.5 else (),
    )
    coming = list(arrived)
    if seed % 3:
        rng.shuffle(coming)
    await feed(engine, handler, coming, rng, lanes=1 if seed % 2 else 3)
    await agrees(engine, settings, handler, arrived)


async def test_a_repeated_event_that_moves_meanwhile_is_looked_at_again(
    engine: AsyncEngine,
    settings: Settings,
    default_playbook: Playbook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handler = Handler(Scoring.of(default_playbook, present.CLOCK))
    email = "p@x.example"
    arrived = records(
        [act(1, "z", user_id="u1"), act(2, "e", email=email), act(3, "f", email=email)]
    )
    await consumer(engine, handler).process(arrived, lambda: None)
    between, real, done = records([act(4, "g", user_id="u1", email=email)]), Store.stored, []

    async def known(self: Store, uids: Any) -> Any:
        got = await real(self, uids)
        if not done:
            done.append(True)
            await consumer(engine, Handler(Scoring.of(default_playbook, present.CLOCK))).process(
                between, lambda: None
            )
        return got

    monkeypatch.setattr(Store, "stored", known)
    smaller = records([act(1.5, "e", user_id="u7")])
    await consumer(engine, handler).process(smaller, lambda: None)
    await agrees(engine, settings, handler, arrived + between + smaller)


async def test_another_body_that_comes_while_the_stored_one_is_replaced_is_not_forgotten(
    engine: AsyncEngine, default_playbook: Playbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D1: of one body that is received twice the first one stays."""
    handler = Handler(Scoring.of(default_playbook, present.CLOCK))
    first, again = (
        records([act(2, "e", user_id="u1")], received=BASE + day * DAY) for day in (90, 91)
    )
    other = records([act(3, "e", user_id="u1", source="ads")])
    await consumer(engine, handler).process(again, lambda: None)
    real, done = Store.remove, asyncio.Event()

    async def overtaken(self: Store, events: Any) -> Any:
        if not done.is_set():
            done.set()
            await consumer(engine, handler).process(other, lambda: None)
        return await real(self, events)

    monkeypatch.setattr(Store, "remove", overtaken)
    await consumer(engine, handler).process(first, lambda: None)
    assert done.is_set()
    async with engine.connect() as connection:
        found = await rows(connection, "SELECT conflict, received_at FROM scorer.event")
    assert [(row.conflict, to_us(row.received_at)) for row in found] == [(True, BASE + 90 * DAY)]


async def test_a_mark_that_waits_for_the_stored_bodys_end_is_made_on_the_next_one(
    engine: AsyncEngine, default_playbook: Playbook
) -> None:
    """D1."""
    handler = Handler(Scoring.of(default_playbook, present.CLOCK))
    await consumer(engine, handler).process(records([act(2, "e", user_id="u1")]), lambda: None)
    async with engine.connect() as replacing, engine.connect() as marking:
        ((uid,),) = await rows(replacing, "SELECT uid FROM scorer.event")
        replaced = text("DELETE FROM scorer.event WHERE uid = :uid")
        await replacing.execute(replaced, {"uid": uid})
        mark = asyncio.create_task(Store(marking).flag_conflicts([uid]))
        await asyncio.sleep(0.2)
        await replacing.commit()
        with pytest.raises(Retry):
            await mark


async def test_another_body_is_flagged_whatever_the_batch(
    engine: AsyncEngine, default_playbook: Playbook
) -> None:
    handler = Handler(Scoring.of(default_playbook, present.CLOCK))
    bodies = [
        records([act(day, "e", user_id="u1", source=source)])[0]
        for day, source in ((2, ""), (3, "ads"), (1, ""))
    ]
    for batches in ([[bodies[0]], [bodies[1]], [bodies[2]]], [bodies], [bodies[::-1]]):
        async with engine.begin() as connection:
            await connection.exec_driver_sql(
                "TRUNCATE scorer.event, scorer.identifier, scorer.lead, scorer.lead_state"
            )
        for batch in batches:
            await consumer(engine, handler).process(batch, lambda: None)
        async with engine.connect() as connection:
            assert [
                row.conflict for row in await rows(connection, "SELECT conflict FROM scorer.event")
            ] == [True]
