"""Leads are examined in bulk, and those alone of which an examination may change something (H0)."""

import random
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.handoffs.rules import examine
from services.scorer.processing import examination
from services.scorer.processing.candidates import CALM
from services.scorer.processing.handing_over import BATCH, PUT_OFF
from services.scorer.processing.sweeper import Sweeper
from services.shared.clock import from_us
from services.shared.playbook.sections import Exclusion, Fit, FitRule, Playbook
from services.shared.settings import Settings
from tests.support import histories
from tests.support.handoffs import HandoffBench, SetClock, demo, playbook_with

OWNERS = [{"email": "ana@ours.example", "per_week": 3}, {"email": "ben@ours.example"}]
SIZE = Fit(base=50, qualified_at=60, rules=[FitRule(trait="size", points=20, why="", at_least=2)])
STUDENTS = Exclusion(reason="a student", trait="title", one_of=["student"])


async def everything(bench: HandoffBench) -> dict[str, list[Any]]:
    """All that examinations write, but for what describes the moment of the last one."""
    handoffs = await bench.rows("SELECT to_jsonb(h) AS row FROM scorer.handoff h ORDER BY id")
    of_a_moment = {"reasons", "stage", "likelihood"}
    return {
        "handoffs": [
            {name: value for name, value in each.row.items() if name not in of_a_moment}
            for each in handoffs
        ],
        "steps": await bench.rows("SELECT * FROM scorer.handoff_step ORDER BY handoff_id, step"),
        "notices": await bench.rows("SELECT id FROM scorer.handoff_notice ORDER BY id"),
        "marks": await bench.rows("SELECT id, handoff FROM scorer.lead ORDER BY id"),
    }


@pytest.mark.parametrize("seed", range(6))
async def test_of_those_who_are_left_out_an_examination_changes_nothing(
    seed: int, settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> None:
    """Events in time and late ones, merges, changes of fit, exclusions, long silences."""
    rng = random.Random(seed)
    ready = ["awareness", "consideration", "decision"][rng.randrange(3) :]
    playbook = playbook_with(default_playbook, owners=OWNERS, ready_stages=ready, reawaken_days=7)
    more = {"fit": SIZE, "exclusions": [STUDENTS]} if seed % 2 else {}
    bench = HandoffBench(settings, engine, playbook.model_copy(update=more))
    sweeper = Sweeper(engine, bench.handler, 0.01, lambda: None)
    happened = histories.history(rng, people=5, length=40)
    arrivals = sorted(
        (each.at + rng.choice([1, 1, 1, 90, 3 * 1440, 10 * 1440]) * histories.MINUTE, n)
        for n, each in enumerate(happened)
    )
    while arrivals:
        size = rng.choice([1, 2, 5])
        some, arrivals = arrivals[:size], arrivals[size:]
        SetClock.at = from_us(some[-1][0])
        for at, n in some:
            await bench.apply(histories.records([happened[n]], received=at))
        SetClock.at += CALM
        while await sweeper.sweep():
            pass
        await bench.settle()
        before = await everything(bench)
        await bench.run(
            "INSERT INTO scorer.handoff_due SELECT id, :now FROM scorer.lead "
            "ON CONFLICT (lead_id) DO UPDATE SET due_at = excluded.due_at",
            now=SetClock.at,
        )
        await bench.settle()
        assert await everything(bench) == before


async def test_many_are_examined_by_few_statements(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> None:
    bench = HandoffBench(settings, engine, playbook_with(default_playbook))
    counts = []
    for many in (5, BATCH):
        items = [demo(f"p{n}@firm{many}.example") for n in range(many)]
        await bench.apply(bench.records(*items))
        statements: list[str] = []
        listening = engine.sync_engine, "before_cursor_execute"

        def count(*told: Any, statements: list[str] = statements) -> None:
            statements.append(told[2])

        event.listen(*listening, count)
        assert await bench.examiner.examine_due() == many
        event.remove(*listening, count)
        counts.append(len(statements))
    assert counts[0] == counts[1] < 20
    assert len(await bench.rows("SELECT 1 FROM scorer.handoff WHERE status = 'open'")) == 5 + BATCH


async def test_one_that_fails_is_put_off_and_the_others_of_its_batch_are_handed_over(
    settings: Settings,
    engine: AsyncEngine,
    default_playbook: Playbook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """O3."""
    bench = HandoffBench(settings, engine, playbook_with(default_playbook, owners=OWNERS[1:]))
    await bench.apply(bench.records(*(demo(f"p{n}@firm.example") for n in range(4))))
    leads = [row.id for row in await bench.rows("SELECT id FROM scorer.lead ORDER BY id")]

    def failing(rules: Any, lead: Any, *more: Any) -> Any:
        if lead == leads[1]:
            raise ValueError("its data")
        return examine(rules, lead, *more)

    monkeypatch.setattr(examination, "examine", failing)
    assert await bench.examiner.examine_due() == 4
    found = await bench.rows("SELECT lead_id, owner FROM scorer.handoff WHERE status = 'open'")
    assert {row.lead_id for row in found} == {*leads} - {leads[1]}
    assert {row.owner for row in found} == {"ben@ours.example"}
    (waiting,) = await bench.rows("SELECT lead_id, due_at FROM scorer.handoff_due")
    assert tuple(waiting) == (leads[1], SetClock.at + PUT_OFF)
    monkeypatch.setattr(examination, "examine", examine)
    SetClock.at += PUT_OFF + timedelta(seconds=1)
    assert await bench.examiner.examine_due() == 1
    assert len(await bench.rows("SELECT 1 FROM scorer.handoff WHERE status = 'open'")) == 4
