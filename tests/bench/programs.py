"""P12: decisions of nurture, pure and stored; how long a stage change waits for one; and how fast
due touches are found and claimed.
"""

import asyncio
import itertools
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.handler import Handler
from services.nurture.planner import BATCH, Planner
from services.nurture.rules.decision import Send, decide
from services.nurture.rules.enrolment import Enrolment
from services.nurture.rules.grounds import Rules
from services.nurture.rules.lead import Had, Lead, Trigger
from services.nurture.rules.steps import step
from services.nurture.store.touches import TouchStore
from services.shared.clock import Clock
from services.shared.contracts.events import (
    CHANGES,
    Change,
    ChangeEvent,
    ConsentState,
    Snapshot,
    derived,
    encode,
)
from services.shared.db import open_engine, rows
from services.shared.messaging.kafka import Outgoing
from services.shared.playbook.sections import Playbook
from tests.bench.measure import Line, Outcome
from tests.bench.world import World

STAGES = ("status_quo", "awareness", "consideration", "decision")
TITLES = ("Plant Manager", "CFO", "Maintenance lead", "")
PURE, STORED, WAIT_MS, CLAIM_S = 5_000, 1_500, 100, 10.0
AT_ONCE = 500  # records of a batch


class P12(NamedTuple):
    """In decisions a second, milliseconds and seconds."""

    pure_per_s: float
    steps_per_s: float
    stored_per_s: float
    planned_per_s: float
    wait_p99_ms: float
    due_claimed_s: float


async def programs(world: World) -> Outcome:
    """Runs all parts; the pure ones need no server."""
    rules = Rules.of(_without_holdout(world.playbook), sink=True)
    leads = 5_000 if world.quick else 20_000
    pure, steps = _pure(rules), _steps(rules)
    stored, planned, claimed = await _stored(world, rules, leads)
    wait = await _wait(world, 300 if world.quick else 1_000)
    found = P12(pure, steps, stored, planned, wait, claimed)
    lines = [
        _rate("pure decisions on stage changes", pure, PURE),
        _rate("pure steps within a stage", steps, PURE),
        _rate(f"decisions on {leads:,} stage changes, stored", stored, STORED),
        _rate(f"next touches of {leads:,} enrolments, stored", planned, STORED),
        Line("P12", "stage change to decision, p99", f"{wait:,.0f} ms", "", f"{wait:,.0f} ms",
             f"≤ {WAIT_MS} ms", wait <= WAIT_MS),
        Line("P12", "100,000 due touches found and marked", f"{claimed:.1f} s", "",
             f"{claimed:.1f} s", f"≤ {CLAIM_S:.0f} s", claimed <= CLAIM_S),
    ]  # fmt: skip
    return Outcome({name: round(value, 1) for name, value in found._asdict().items()}, lines)


def _without_holdout(playbook: Playbook) -> Playbook:
    return playbook.model_copy(
        update={"holdout": playbook.holdout.model_copy(update={"share": 0.0})}
    )


def _rate(what: str, rate: float, goal: int) -> Line:
    shown = f"{rate:,.0f}/s"
    return Line("P12", what, shown, "", shown, f"≥ {goal:,}/s", rate >= goal)


def _people(count: int, now: datetime) -> list[Lead]:
    """Leads of four stages and two personas with a year of history."""
    given = ConsentState("given", now - timedelta(days=90))
    people = []
    for n in range(count):
        had = tuple(
            Had(str(k), "p", f"item-{k}", "email", now - timedelta(days=10 * k + 9),
                now - timedelta(days=10 * k + 8, hours=n % 20))
            for k in reversed(range(n % 6))
        )  # fmt: skip
        snapshot = Snapshot(
            stage=STAGES[n % 4],
            email=f"p{n}@firm{n % 700}.example",
            traits={"title": TITLES[n % 4], "timezone": "Europe/Berlin", "language": "en"},
            last_act_at=now - timedelta(days=n % 9, hours=3),
        )
        people.append(
            Lead(str(uuid.UUID(int=n)), snapshot, given,
                 seen=frozenset(one.content for one in had), had=had,
                 recent_sends=tuple(one.sent_at for one in had))
        )  # fmt: skip
    return people


def _pure(rules: Rules) -> float:
    """Decisions a second on stage changes."""
    now = datetime.now(UTC)
    people, made = _people(5_000, now), 0
    began = time.perf_counter()
    for lead in people:
        trigger = Trigger(lead.snapshot.stage, "default", now)
        for program in rules.library.programs(lead, trigger):
            made += isinstance(decide(rules, lead, trigger, program, now), Send)
    spent = time.perf_counter() - began
    assert made > len(people) * 0.9, "nearly everybody gets something"
    return len(people) / spent


def _steps(rules: Rules) -> float:
    """Steps of enrolments a second."""
    now = datetime.now(UTC)
    people = _people(5_000, now)
    began = time.perf_counter()
    for lead in people:
        step(rules, lead, Enrolment(lead.id, "practitioner-track", "default", now), now)
    return len(people) / (time.perf_counter() - began)


async def _stored(world: World, rules: Rules, leads: int) -> tuple[float, float, float]:
    """Decisions and next touches a second on a database of its own, and the seconds in which
    100,000 due touches are found and claimed.
    """
    settings = await world.database("programs")
    engine = open_engine(settings)
    clock = Clock.parse("")
    handler = Handler(rules, clock, settings.pepper.get_secret_value().encode())
    events = [event for event, _ in zip(_changes(), range(leads), strict=False)]
    began = time.perf_counter()
    for start in range(0, leads, AT_ONCE):
        async with engine.begin() as connection:
            await handler.apply(connection, events[start : start + AT_ONCE])
    stored = leads / (time.perf_counter() - began)
    planned = await _planned(settings, engine, rules, clock, leads)
    claimed = await _claimed(engine)
    await engine.dispose()
    return stored, planned, claimed


async def _planned(
    settings: Any, engine: AsyncEngine, rules: Rules, clock: Clock, leads: int
) -> float:
    """After all first touches went out eight days ago."""
    async with engine.begin() as connection:
        for statement in (
            "UPDATE nurture.touch SET status = 'sent', sent_at = now() - interval '8 days'",
            "INSERT INTO nurture.seen (lead_id, content) SELECT lead_id, content FROM nurture.touch"
            " ON CONFLICT DO NOTHING",
            "UPDATE nurture.enrolment SET next_at = now() - interval '1 day'",
        ):
            await connection.execute(text(statement))
    planner = Planner(settings, engine, rules, clock, lambda: None)
    began = time.perf_counter()
    done = 0
    while taken := await planner.plan():
        done += taken
    assert done >= leads // BATCH * BATCH, "every enrolment has its step"
    return done / (time.perf_counter() - began)


async def _claimed(engine: AsyncEngine) -> float:
    """Finds and locks 100,000 due touches by the scheduler's own statement, in batches."""
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM nurture.touch"))
        await connection.execute(
            text(
                "INSERT INTO nurture.touch (id, announcement_id, program, lead_id, product, stage,"
                " content, channel, status, decided_at, due_at) SELECT gen_random_uuid(),"
                " gen_random_uuid(), 'p', gen_random_uuid(), 'default', 'decision', 'c', 'email',"
                " 'due', now(), now() - n * interval '1 second' FROM generate_series(1, 100000) n"
            )
        )
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE nurture.touch"))
    now = datetime.now(UTC)
    began = time.perf_counter()
    async with engine.begin() as connection:
        store = TouchStore(connection)
        taken = 0
        while due := await store.due(now, 5_000):
            await store.checked([(replace(touch, status="sending"), "", "") for touch in due])
            taken += len(due)
    assert taken == 100_000
    return time.perf_counter() - began


def _changes() -> Iterator[ChangeEvent]:
    """Stage changes of ever new leads."""
    for n in itertools.count():
        yield _change(str(uuid.uuid4()), n)


def _change(lead: str, n: int) -> ChangeEvent:
    now = datetime.now(UTC)
    snapshot = Snapshot(
        stage=STAGES[n % 4], email=f"p{lead}@firm{n % 700}.example",
        traits={"title": TITLES[n % 4], "timezone": "Europe/Berlin"},
        consents={"email:marketing": ConsentState("given", now - timedelta(days=1))},
    )  # fmt: skip
    change = Change(
        lead=lead, version=1, seq=1, stage=STAGES[n % 4], cause="event", cause_at=now,
        snapshot=snapshot,
    )  # fmt: skip
    return ChangeEvent(
        id=derived("bench", lead), type="lead.stage_changed.v1", time=now, data=change,
        postedat=time.time(),
    )  # fmt: skip


async def _wait(world: World, count: int) -> float:
    """p99 of the milliseconds from a stage change, as it is published, to its stored decision, at
    100 a second.
    """
    settings = await world.database("programs_wait")
    async with world.running("services.nurture", database=settings.database_url.get_secret_value()):
        leads: list[str] = []
        for n in range(count):
            event = _change(str(uuid.uuid4()), n)
            leads.append(event.data.lead)
            await world.publish([Outgoing(CHANGES, event.data.lead, encode(event))])
            await asyncio.sleep(0.01)
        engine = open_engine(settings)
        waits = await _waits(engine, leads)
        await engine.dispose()
    return waits[min(len(waits) - 1, round(len(waits) * 0.99))]


async def _waits(engine: AsyncEngine, leads: Sequence[str]) -> list[float]:
    """Sorted, once all decisions are stored."""
    for _ in range(600):
        async with engine.connect() as connection:
            found = await rows(
                connection,
                "SELECT decision_ms FROM nurture.touch WHERE lead_id = ANY(:ids) AND NOT follows",
                ids=[uuid.UUID(lead) for lead in leads],
            )
        if len(found) >= len(leads):
            return sorted(row.decision_ms for row in found)
        await asyncio.sleep(0.1)
    raise AssertionError(f"{len(found)} of {len(leads)} stage changes were decided in a minute")
