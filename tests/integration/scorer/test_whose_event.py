"""Who an event belongs to, on the real store, against the rules applied to the whole set at once
(D1, D2).
"""

import random
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ops.commands.verify import verify
from services.scorer.processing.handler import Handler
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.shared.contracts.events import Interaction
from services.shared.db import rows
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.integration.scorer.test_same_set_same_state import consumer, feed, snapshot
from tests.support import present
from tests.support.histories import BASE, DAY, Occurrence, records, sends
from tests.support.ownership_reference import owners, tangled

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
    "also where a third person stays": [
        *SPLIT, [act(6, "c", user_id="u3", anonymous_id="A")], [act(9.5, "x", anonymous_id="A")],
        [act(8, "b", user_id="u9")],
    ],
}  # fmt: skip


async def agrees(
    engine: AsyncEngine, settings: Settings, handler: Handler, arrived: list[Any]
) -> None:
    assert {frozenset(events) for events in await snapshot(engine, handler)} == owners(
        arrived, handler.scoring.cleaner
    )
    checked = await verify(settings, lambda _: None)
    assert checked.mismatches == []


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


@pytest.mark.parametrize("seed", range(30))
async def test_tangled_people_are_told_apart_whatever_the_arrival(
    seed: int, engine: AsyncEngine, settings: Settings, default_playbook: Playbook
) -> None:
    rng = random.Random(seed)
    handler = Handler(Scoring.of(default_playbook, present.CLOCK))
    arrived = records(
        tangled(rng, rng.choice([3, 4, 6]), rng.choice([8, 15, 30])),
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
