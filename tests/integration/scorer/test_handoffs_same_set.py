"""The same set of events opens the same hand-offs, in whatever order and however often it comes and
people turn out to be one or several; a process that dies at any step changes nothing (H0, H1, D1).
"""

import random
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.handoffs import answers, telling
from services.scorer.handoffs.telling import Teller
from services.scorer.processing import handing_over
from services.shared.clock import from_us
from services.shared.messaging.kafka import Record
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from services.shared.staff_mail import StaffMail
from tests.support import histories
from tests.support.handoffs import HandoffBench, SetClock, demo, playbook_with, prices

TABLES = (
    "event, identifier, link, verdict, lead, lead_state, announcement, touch, outbox, dead_letter, "
    "progress, handoff, handoff_step, handoff_due, handoff_notice"
)
OWNERS = [{"email": "ana@ours.example"}, {"email": "ben@ours.example"}]


async def empty(bench: HandoffBench) -> None:
    await bench.run("TRUNCATE " + ", ".join(f"scorer.{one.strip()}" for one in TABLES.split(",")))


def arrivals(rng: random.Random) -> list[Record]:
    """A history whose events are received soon after they happened, some of them twice."""
    happened = histories.history(rng, people=rng.choice([2, 4]), length=rng.choice([15, 40]))
    return [
        record
        for each in [*happened, *rng.choices(happened, k=len(happened) // 4)]
        for record in histories.records(
            [each], received=each.at + rng.choice([0, 1, 50]) * histories.MINUTE
        )
    ]


async def opened(bench: HandoffBench, *kinds: str) -> dict[Any, Any]:
    """By hand-off that waits its kind, and whose it is by that lead's events."""
    found = await bench.rows(
        "SELECT h.id, h.kind, h.lead_id, array_agg(e.uid ORDER BY e.uid) AS events "
        "FROM scorer.handoff h LEFT JOIN scorer.event e ON e.lead_id = h.lead_id "
        "WHERE h.status = 'open' AND h.kind = ANY(:kinds) GROUP BY h.id, h.kind, h.lead_id",
        kinds=list(kinds),
    )
    assert len({row.lead_id for row in found}) == len(found), "a lead has two clocks"
    return {row.id: (row.kind, tuple(row.events)) for row in found}


@pytest.mark.parametrize("seed", range(16))
async def test_any_arrival_of_the_same_set_opens_the_same(
    seed: int, settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> None:
    """Examined at the end all are the same; examined in between requests are."""
    rng = random.Random(seed)
    bench = HandoffBench(settings, engine, playbook_with(default_playbook))
    records = arrivals(rng)
    SetClock.at = from_us(histories.BASE + 32 * histories.DAY)
    await bench.apply(records)
    await bench.settle()
    all_of_them = await opened(bench, "raised_hand", "ready", "reawakened")
    raised = await opened(bench, "raised_hand")
    for often in (False, True):
        await empty(bench)
        again = records + rng.choices(records, k=len(records) // 3)
        rng.shuffle(again)
        while again:
            size = rng.choice([1, 3, 9])
            batch, again = again[:size], again[size:]
            await bench.apply(batch)
            if often:
                await bench.settle()
        await bench.settle()
        if not often:
            assert await opened(bench, "raised_hand", "ready", "reawakened") == all_of_them
        assert await opened(bench, "raised_hand") == raised


class Killed(BaseException):
    """Ends what runs as a dying process would: nothing of its transaction stays."""


async def story(bench: HandoffBench, teller: Teller) -> None:
    """Opened, told, answered too late, given to another, reminded, taken, undone, expired."""

    async def step() -> None:
        await alive(bench.settle)
        await alive(teller.tell_due)
        await bench.run("UPDATE scorer.handoff_notice SET due_at = now() WHERE due_at IS NOT NULL")
        await alive(teller.tell_due)

    looks = [
        replace(item, id=f"b{n}") for n, item in enumerate(prices("bob@other.example", times=8))
    ]
    await bench.apply(bench.records(demo("ann@firm.example", id="a"), *looks))
    await step()
    for span in (timedelta(hours=3), timedelta(days=4), timedelta(minutes=1)):
        SetClock.at += span
        await step()
    (ann,) = (each for each in await bench.listed() if each["kind"] == "raised_hand")
    for what in ("accept", "undo", "reject"):
        await alive(lambda what=what: bench.answer(ann["id"], what, by="ana"))
        SetClock.at += timedelta(minutes=1)
        await step()
    for _ in range(2):  # there is room for the other one, and its time passes
        SetClock.at += timedelta(days=12)
        await step()


async def alive(work: Any) -> None:
    """Does the work, again where it is killed."""
    try:
        await work()
    except Killed:
        await work()


async def outcome(bench: HandoffBench) -> Any:
    """All that is stored and was told, but for ids that are drawn."""
    handoffs = await bench.rows(
        "SELECT kind, status, owner, opened_at, respond_by, expires_at, reminded_at, answer, "
        "answered_at, owners_tried, missed, steps FROM scorer.handoff ORDER BY kind"
    )
    steps = await bench.rows(
        "SELECT h.kind, s.step, s.at, s.what, s.by FROM scorer.handoff_step s "
        "JOIN scorer.handoff h ON h.id = s.handoff_id ORDER BY h.kind, s.step"
    )
    notices = await bench.rows(
        "SELECT h.kind, n.what, n.channel, n.recipient, n.sent_at IS NOT NULL AS sent "
        "FROM scorer.handoff_notice n JOIN scorer.handoff h ON h.id = n.handoff_id "
        "ORDER BY h.kind, n.what, n.channel, n.recipient"
    )
    events = await bench.rows(
        "SELECT body::jsonb->>'type' AS type FROM scorer.event WHERE body LIKE '%sales_%' "
        "ORDER BY occurred_at"
    )
    published = sorted(
        (each.data.handoff.kind, each.data.handoff.what, str(each.data.handoff.at))
        for each in bench.published
        if each.data.handoff
    )
    return [*map(tuple, [*handoffs, *steps, *notices, *events])], published


POINTS = [
    (handing_over, "before_handoff_is_kept"),
    (handing_over, "after_handoff_is_kept"),
    (handing_over, "before_room_is_given"),
    (telling, "between_telling_and_note"),
    (answers, "before_answer_is_kept"),
]


async def test_a_process_that_dies_at_any_step_changes_nothing(
    settings: Settings,
    engine: AsyncEngine,
    default_playbook: Playbook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mails: list[str] = []

    async def send(self: StaffMail, message_id: str, *_: object) -> None:
        mails.append(message_id)

    monkeypatch.setattr(StaffMail, "send", send)
    playbook = playbook_with(default_playbook, owners=OWNERS, capacity_per_week=1)
    fatal, passed = ("", 0), 0

    def passes(name: str) -> None:
        nonlocal passed
        if name == fatal[0]:
            passed += 1
            if passed == fatal[1]:
                raise Killed

    for module in {module for module, _ in POINTS}:
        monkeypatch.setattr(module, "fault_point", passes)

    async def told() -> Any:
        nonlocal passed
        passed = 0
        bench = HandoffBench(settings, engine, playbook)
        await empty(bench)
        await bench.run("DELETE FROM access.api_key")
        await bench.open()
        mails.clear()
        await story(bench, Teller(settings, engine, bench.scoring.clock))
        await bench.http.aclose()
        return await outcome(bench), set(mails)

    undisturbed = await told()
    steps = {row[3] for row in undisturbed[0][0] if len(row) == 5}
    assert steps >= {
        "opened", "reassigned", "reminded", "accepted", "undone", "rejected", "expired",
    }  # fmt: skip
    for _, name in POINTS:
        for n in (1, 2, 4):
            fatal = name, n
            assert await told() == undisturbed, fatal
