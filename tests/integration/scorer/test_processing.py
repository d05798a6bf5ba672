"""The scorer's transaction on a real database: poison, absence, races, and what it announces (D1,
D2, G4, N11, O4).
"""

import asyncio
import itertools
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from services.scorer.processing.announcements import REQUESTS_AT_ONCE, announcements_due
from services.scorer.processing.handler import Decoded, Handler
from services.scorer.processing.snapshots import MAX_IDENTIFIERS, snapshot_of
from services.scorer.processing.sweeper import Sweeper
from services.scorer.scoring import Scoring
from services.scorer.store import LEAD, Store
from services.shared.clock import DAY, Clock, from_us, to_us
from services.shared.contracts.events import (
    CHANGES,
    INTERACTIONS,
    TOUCHES,
    ChangeEvent,
    Consent,
    ExternalId,
    Interaction,
    Snapshot,
    Touch,
    TouchEvent,
    decode_change,
    encode,
    envelope,
    keyed_hash,
)
from services.shared.contracts.provenance import LIVE, Provenance
from services.shared.db import copy, rows, value
from services.shared.errors import Retry
from services.shared.logs import configure_logs
from services.shared.messaging.consumer import Consumer
from services.shared.messaging.kafka import Record
from services.shared.playbook.sections import Exclusion, Playbook
from services.shared.settings import Settings
from tests.support.nurture import with_parts

NOON = to_us(datetime.fromisoformat("2026-05-13T12:00:00+00:00"))
HOUR = DAY // 24


class Stopped(Clock):
    """A clock that shows what it is set to."""

    at = NOON

    def now_us(self) -> int:
        return type(self).at


class Bench:
    """A scorer's handler on a database, fed by hand."""

    def __init__(
        self, engine: AsyncEngine, playbook: Playbook, handler: type[Handler] = Handler
    ) -> None:
        self.engine = engine
        self.clock = type("Here", (Stopped,), {})()
        self.handler = handler(Scoring.of(playbook, self.clock))
        self.offset = 0

    def at(self, moment: int) -> "Bench":
        """Sets the clock."""
        type(self.clock).at = moment
        return self

    def record(
        self,
        data: Interaction,
        at: int,
        *,
        received: int | None = None,
        posted: float = 0.0,
        provenance: Provenance = LIVE,
    ) -> Record:
        """An interaction as it comes from Kafka."""
        _, value = envelope(
            data, source="test:default", occurred_at=from_us(at),
            received_at=from_us(received or self.clock.now_us()),
            posted_at=posted, provenance=provenance,
        )  # fmt: skip
        return self.raw(value)

    def raw(self, value: bytes, topic: str = INTERACTIONS) -> Record:
        self.offset += 1
        return Record(topic, 0, self.offset, b"k", value)

    def consumer(self) -> Consumer[Decoded]:
        def never() -> Any:
            raise AssertionError("no broker here")

        return Consumer(
            self.engine, never, self.handler, "scorer", batch=100, on_commit=lambda _: None
        )

    async def take(self, *records: Record) -> int:
        return await self.consumer().process(list(records), lambda: None)

    async def said(self, type_: str, at: int, **named: Any) -> None:
        """Something happened at `at`; the clock follows where it was behind."""
        self.at(max(at, self.clock.now_us()))
        data = Interaction(id=named.pop("id", uuid.uuid4().hex), type=type_, **named)
        await self.take(self.record(data, at))

    async def ask(self, statement: str, **values: Any) -> list[Any]:
        async with self.engine.connect() as connection:
            return await rows(connection, statement, **values)

    async def one(self, statement: str, **values: Any) -> Any:
        async with self.engine.connect() as connection:
            return await value(connection, statement, **values)

    async def do(self, statement: str) -> None:
        """Changes the database as an operator would."""
        async with self.engine.begin() as connection:
            await connection.execute(text(statement))

    async def announced(self) -> list[Any]:
        return await self.ask("SELECT * FROM scorer.announcement ORDER BY announced_at, seq")

    async def outgoing(self, kind: str = "lead.stage_changed.v1") -> list[ChangeEvent]:
        found = await self.ask(
            "SELECT value FROM scorer.outbox WHERE topic = :topic ORDER BY id", topic=CHANGES
        )
        events = [decode_change(row.value) for row in found]
        return [event for event in events if event.type == kind]

    async def leads(self) -> list[Any]:
        return await self.ask("SELECT id FROM scorer.lead WHERE merged_into IS NULL")

    async def stages(self) -> list[str]:
        return [
            row.stage
            for row in await self.ask("SELECT stage FROM scorer.lead_state ORDER BY stage")
        ]

    def sweeper(self) -> Sweeper:
        return Sweeper(self.engine, self.handler, 0.1, lambda: None)


@pytest.fixture(scope="module", autouse=True)
def _plain_logs() -> None:
    """JSON lines: the console's tracebacks with all locals would take seconds."""
    configure_logs("scorer", "error")


@pytest.fixture
def bench(engine: AsyncEngine, default_playbook: Playbook) -> Bench:
    return Bench(engine, default_playbook)


class Choking(Handler):
    """A handler that cannot apply what says `poison`."""

    async def apply(self, connection: AsyncConnection, decoded: Sequence[Decoded]) -> int:
        left = await super().apply(connection, decoded)
        events = (record.event for record in decoded)
        if any(event and event.data.properties.get("poison") for event in events):
            raise ZeroDivisionError("choked")
        return left


class Broken(Handler):
    """A handler with a bug that nothing of its topic escapes."""

    is_broken = True

    async def apply(self, connection: AsyncConnection, decoded: Sequence[Decoded]) -> int:
        left = await super().apply(connection, decoded)
        if type(self).is_broken and any(record.event for record in decoded):
            raise KeyError("a bug")
        return left


# -- poison and absence ---------------------------------------------------------------------------


async def test_poison_is_buried_alone_with_its_bytes_and_its_reason(
    engine: AsyncEngine, default_playbook: Playbook
) -> None:
    """O3: found by halves; every neighbour is applied, once, and the offset moves past all."""
    bench = Bench(engine, default_playbook, Choking)
    sound = [Interaction(id=f"s{n}", type="page_viewed", user_id=f"u{n}") for n in range(20)]
    records = [bench.record(one, NOON - n * HOUR) for n, one in enumerate(sound)]
    choking = bench.record(
        Interaction(id="p", type="page_viewed", user_id="u3", properties={"poison": True}), NOON
    )
    unreadable = [
        bench.raw(b"{}"),
        bench.raw(b"\xff\x00"),
        bench.raw(encode(_touch()), INTERACTIONS),
        bench.raw(b"[]", TOUCHES),
    ]
    mixed = [
        *records[:7],
        unreadable[0],
        unreadable[1],
        *records[7:15],
        choking,
        *records[15:],
        unreadable[2],
        unreadable[3],
    ]
    await bench.take(*mixed)
    letters = {
        row.offset: row
        for row in await bench.ask('SELECT topic, "offset", value, reason FROM scorer.dead_letter')
    }
    assert set(letters) == {record.offset for record in (choking, *unreadable)}
    assert letters[choking.offset].reason == "ZeroDivisionError: choked"
    assert letters[choking.offset].value == choking.value
    assert all(letters[record.offset].value == record.value for record in unreadable)
    assert "interaction.v1" in letters[unreadable[0].offset].reason
    assert letters[unreadable[3].offset].topic == TOUCHES
    assert await bench.one("SELECT count(*) FROM scorer.event") == 20
    assert len(await bench.leads()) == 20
    assert (
        await bench.one("SELECT next_offset FROM scorer.progress WHERE topic = :t", t=INTERACTIONS)
        == bench.offset
    )
    await bench.take(*mixed)
    assert await bench.one("SELECT count(*) FROM scorer.dead_letter") == 5
    assert await bench.one("SELECT count(*) FROM scorer.event") == 20


async def test_what_the_database_itself_refuses_is_poison_too(bench: Bench) -> None:
    """An identifier that fits into no index; nothing of ours looks at its length here."""
    long = "".join(uuid.uuid4().hex for _ in range(400))
    await bench.take(
        bench.record(Interaction(id="1", type="page_viewed", user_id="u"), NOON),
        bench.record(Interaction(id="2", type="page_viewed", user_id=long), NOON),
        bench.record(Interaction(id="3", type="page_viewed", user_id="u"), NOON),
    )
    reasons = [row.reason for row in await bench.ask("SELECT reason FROM scorer.dead_letter")]
    assert len(reasons) == 1
    assert "index" in reasons[0]
    assert await bench.one("SELECT count(*) FROM scorer.event") == 2


async def test_a_database_that_is_away_fills_no_dead_letters(
    bench: Bench, settings: Settings
) -> None:
    """The batch waits, and is applied once it is back."""
    url, _, name = settings.database_url.get_secret_value().rpartition("/")
    admin = create_async_engine(
        f"{url.replace('postgresql:', 'postgresql+asyncpg:')}/postgres",
        isolation_level="AUTOCOMMIT",
    )

    async def allow(yes: bool) -> None:
        async with admin.connect() as connection:
            await connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {yes}"))
            if not yes:
                gone = (
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
                )
                await connection.execute(text(gone), {"name": name})

    await bench.said("page_viewed", NOON, user_id="u")
    await allow(False)
    batch = [
        bench.record(Interaction(id=f"e{n}", type="page_viewed", user_id="u"), NOON + n)
        for n in range(8)
    ]
    waiting = asyncio.create_task(bench.take(*batch))
    await asyncio.sleep(1.0)
    assert not waiting.done()
    await allow(True)
    await asyncio.wait_for(waiting, 45)
    await admin.dispose()
    assert await bench.one("SELECT count(*) FROM scorer.event") == 9
    assert await bench.one("SELECT count(*) FROM scorer.dead_letter") == 0


FAILING = """CREATE FUNCTION scorer.fail() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$"""


def failing(state: str) -> tuple[str, str, str]:
    """Statements that make inserting an event fail so, and one that ends it."""
    return (
        FAILING.format(state=state),
        "CREATE TRIGGER fail BEFORE INSERT ON scorer.event EXECUTE FUNCTION scorer.fail()",
        "DROP FUNCTION scorer.fail CASCADE",
    )


BREAKAGES = {
    "a full disk": failing("53100"),
    "a missing privilege": failing("42501"),
    "something that PostgreSQL has no support for": failing("0A000"),
    "a renamed column": (
        "ALTER TABLE scorer.lead RENAME version TO version_2",
        "ALTER TABLE scorer.lead RENAME version_2 TO version",
    ),
    "a renamed column of what is copied": (
        "ALTER TABLE scorer.event RENAME digest TO digest_2",
        "ALTER TABLE scorer.event RENAME digest_2 TO digest",
    ),
    "a type of another width": (
        "ALTER TABLE scorer.event ALTER anchor TYPE text",
        "ALTER TABLE scorer.event ALTER anchor TYPE bigint USING anchor::bigint",
    ),
    "a changed type of what is read": (
        "ALTER TABLE scorer.lead ALTER version TYPE text",
        "ALTER TABLE scorer.lead ALTER version DROP DEFAULT, "
        "ALTER version TYPE bigint USING version::bigint, ALTER version SET DEFAULT 0",
    ),
    "a missing table": (
        "ALTER TABLE scorer.outbox RENAME TO outbox_2",
        "ALTER TABLE scorer.outbox_2 RENAME TO outbox",
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_a_live_migration_fills_no_dead_letters(bench: Bench, breakage: str) -> None:
    """O3, O4: while statements and types are cached, a schema that does not fit is waited out, for
    a batch and for a single record.
    """
    *there, back = BREAKAGES[breakage]
    await bench.said("page_viewed", NOON, user_id="u")
    for count in (8, 1):
        batch = [
            bench.record(
                Interaction(id=f"e{count}-{n}", type="demo_requested", user_id=f"u{n}"), NOON + n
            )
            for n in range(count)
        ]
        for statement in there:
            await bench.do(statement)
        waiting = asyncio.create_task(bench.consumer().process(batch, lambda: None))
        await asyncio.sleep(0.7)
        await bench.do(back)
        with suppress(Retry):
            await asyncio.wait_for(waiting, 45)
        await bench.take(*batch)
    assert await bench.one("SELECT count(*) FROM scorer.event") == 10
    assert await bench.one("SELECT count(*) FROM scorer.dead_letter") == 0


async def test_every_connection_forgets_the_types_of_a_migration(bench: Bench) -> None:
    """O4: two idle connections remember a type that the table no longer has."""
    there, back = BREAKAGES["a changed type of what is read"]
    await bench.do(there)
    async with bench.engine.connect() as first, bench.engine.connect() as second:
        for connection in (first, second):
            await copy(connection, LEAD, [])
    await bench.do(back)
    record = bench.record(Interaction(id="e1", type="demo_requested", user_id="u"), NOON)
    await asyncio.wait_for(bench.take(record), 20)
    assert await bench.one("SELECT count(*) FROM scorer.event") == 1


async def test_a_type_that_was_changed_for_good_is_learned(bench: Bench) -> None:
    """Statements and types of before are remembered by every connection."""
    await bench.said("page_viewed", NOON, user_id="u")
    await bench.do("ALTER TABLE scorer.identifier ALTER kind TYPE int")
    await bench.do("ALTER TABLE scorer.event ALTER flags TYPE varchar(200)")
    await bench.said("page_viewed", NOON + 1, user_id="v")
    assert await bench.one("SELECT count(*) FROM scorer.event") == 2
    assert await bench.one("SELECT count(*) FROM scorer.dead_letter") == 0


async def test_a_constraint_that_nothing_meets_buries_nothing(bench: Bench) -> None:
    """The sibling: PostgreSQL says that the data are at fault, of every record."""
    await bench.do("ALTER TABLE scorer.event ADD CONSTRAINT c CHECK (length(source) < 2) NOT VALID")
    batch = [
        bench.record(Interaction(id=f"e{n}", type="page_viewed", user_id=f"u{n}"), NOON)
        for n in range(20)
    ]
    with pytest.raises(Retry):
        await bench.take(*batch)
    await bench.do("ALTER TABLE scorer.event DROP CONSTRAINT c")
    await bench.take(*batch)
    assert await bench.one("SELECT count(*) FROM scorer.event") == 20
    assert await bench.one("SELECT count(*) FROM scorer.dead_letter") == 0


async def test_a_bug_that_hits_everything_buries_nothing(
    engine: AsyncEngine, default_playbook: Playbook
) -> None:
    """O3: no record is at fault where none of its topic is sound; the progress waits too."""
    bench = Bench(engine, default_playbook, Broken)
    batch = [
        bench.record(Interaction(id=f"e{n}", type="page_viewed", user_id=f"u{n}"), NOON)
        for n in range(40)
    ]
    letter = bench.raw(encode(_touch()), TOUCHES)
    for records in (batch, batch[:1], [*batch, letter]):
        with pytest.raises(Retry, match="KeyError"):
            await bench.take(*records)
    assert await bench.one("SELECT count(*) FROM scorer.dead_letter") == 0
    assert await bench.one("SELECT count(*) FROM scorer.event") == 0
    assert not await bench.one(
        "SELECT sum(next_offset) FROM scorer.progress WHERE topic = :t AND next_offset > 1",
        t=INTERACTIONS,
    )
    Broken.is_broken = False
    await bench.take(*batch)
    Broken.is_broken = True
    assert await bench.one("SELECT count(*) FROM scorer.event") == 40


async def test_racing_handlers_count_everything_once(bench: Bench) -> None:
    """O4: the same batches in several processes at once, as after a rebalance; strangers meet and
    merge meanwhile.
    """
    people = range(6)
    batches = [
        [
            bench.record(
                Interaction(id=f"v{b}-{n}", type="pricing_viewed", anonymous_id=f"a{n}"),
                NOON - b * HOUR,
            )
            if b % 3
            else bench.record(
                Interaction(
                    id=f"v{b}-{n}",
                    type="demo_requested",
                    anonymous_id=f"a{n}",
                    email=f"p{n}@f.example",
                ),
                NOON,
            )
            for n in people
        ]
        for b in range(9)
    ]

    async def process(order: int) -> None:
        for batch in batches[order:] + batches[:order]:
            await bench.take(*(batch if order % 2 else reversed(batch)))

    await asyncio.wait_for(asyncio.gather(*(process(order) for order in (0, 3, 5, 8))), 60)
    assert await bench.one("SELECT count(*) FROM scorer.event") == 54
    assert len(await bench.leads()) == 6
    assert await bench.stages() == ["decision"] * 6
    assert await bench.one("SELECT count(*) FROM scorer.dead_letter") == 0
    said = await bench.announced()
    assert len({(row.lead_id, row.product, row.seq) for row in said}) == len(said)
    per_lead = await bench.ask("SELECT lead_id, announced_seq FROM scorer.lead_state")
    numbers = {
        row.lead_id: sorted(one.seq for one in said if one.lead_id == row.lead_id)
        for row in per_lead
    }
    assert all(numbers[row.lead_id] == list(range(1, row.announced_seq + 1)) for row in per_lead)
    assert len(await bench.outgoing()) == len(said)


# -- announcements --------------------------------------------------------------------------------


async def test_a_stage_is_announced_once_with_its_cause_and_a_snapshot(bench: Bench) -> None:
    """G4, N11."""
    demo = bench.record(
        Interaction(id="d", type="demo_requested", email="a@f.example", traits={"name": "Ann"}),
        NOON,
        posted=7.5,
    )
    await bench.take(demo)
    await bench.take(demo, demo)
    said = await bench.announced()
    assert [(row.seq, row.from_stage, row.stage, row.cause, row.cause_event) for row in said] == [
        (1, "unknown", "decision", "event", "d")
    ]
    assert said[0].cause_at == from_us(NOON)
    (event,) = await bench.outgoing()
    assert (event.id, event.postedat, event.data.stage, event.data.seq) == (
        str(said[0].id),
        7.5,
        "decision",
        1,
    )
    snapshot = event.data.snapshot
    assert snapshot
    assert (snapshot.stage, snapshot.email, snapshot.traits["name"]) == (
        "decision",
        "a@f.example",
        "Ann",
    )
    assert sum(snapshot.belief.values()) == pytest.approx(1)


async def test_an_act_without_news_is_published_only_of_known_leads_and_every_five_minutes(
    bench: Bench,
) -> None:
    """What nobody was told of a stranger comes with the snapshot of the first thing that is worth
    telling.
    """
    minute = HOUR // 60
    await bench.said(
        "identified", NOON - 20 * minute, email="a@f.example", traits={"title": "Plant manager"}
    )
    await bench.said(
        "identified", NOON - 10 * minute, email="a@f.example", traits={"country": "DE"}
    )
    assert await bench.outgoing("lead.engaged.v1") == []
    await bench.said("demo_requested", NOON, email="a@f.example")
    for later in (1, 6, 7, 12):
        await bench.said("page_viewed", NOON + later * minute, email="a@f.example")
    told = await bench.outgoing("lead.engaged.v1")
    assert [event.time for event in told] == [
        from_us(NOON + minutes * minute) for minutes in (0, 6, 12)
    ]
    assert [request.type for request in told[0].data.requests] == ["demo_requested"]
    assert [event.data.snapshot and event.data.snapshot.traits.get("title") for event in told] == [
        "Plant manager"
    ] * 3


async def last_published(bench: Bench) -> dict[str, Snapshot]:
    """By lead the snapshot that nurture goes by: that of the highest version."""
    found = await bench.ask(
        "SELECT value FROM scorer.outbox WHERE topic = :topic ORDER BY id", topic=CHANGES
    )
    changes = [decode_change(row.value).data for row in found]
    newest = sorted((change for change in changes if change.snapshot), key=lambda c: c.version)
    merged = {old for change in changes for old in change.merged}
    return {c.lead: c.snapshot for c in newest if c.snapshot and c.lead not in merged}


async def current(bench: Bench) -> dict[str, Snapshot]:
    """By lead what is known of it."""
    scoring = bench.handler.scoring
    async with bench.engine.connect() as connection:
        store = Store(connection)
        leads = await store.lock([row.id for row in await bench.leads()])
        states, names = await store.states(leads), await store.identifiers(leads)
    for lead in leads.values():
        lead.states, lead.identifiers = states[lead.id], names.get(lead.id, [])
    announcements_due(scoring, [*leads.values()], bench.clock.now_us(), {})
    return {
        str(lead.id): snapshot_of(lead, state, state.view, scoring.pepper)
        for lead in leads.values()
        for state in lead.states.values()
        if state.view
    }


def facts(snapshot: Snapshot) -> tuple[object, ...]:
    """What a snapshot says of the lead itself, apart from the estimate, which moves with time."""
    return (
        snapshot.email, snapshot.user_id, snapshot.traits, snapshot.sales_status,
        snapshot.consents, snapshot.last_act_at, snapshot.excluded, sorted(snapshot.identifiers),
    )  # fmt: skip


async def test_the_last_of_what_came_within_five_minutes_is_published_when_they_are_over(
    bench: Bench,
) -> None:
    """N6: without any further event; once."""
    minute = HOUR // 60
    await bench.said("demo_requested", NOON, email="a@f.example")
    for later, zone in ((1, "Asia/Tokyo"), (2, "Europe/Berlin")):
        at = NOON + later * minute
        await bench.said("identified", at, email="a@f.example", traits={"timezone": zone})
    assert len(await bench.outgoing("lead.engaged.v1")) == 1
    bench.at(NOON + 5 * minute - 1)
    assert await bench.sweeper().sweep() == 0
    bench.at(NOON + 5 * minute)
    assert await bench.sweeper().sweep() == 1
    assert await bench.sweeper().sweep() == 0
    _, last = await bench.outgoing("lead.engaged.v1")
    assert last.data.snapshot
    assert last.data.snapshot.traits["timezone"] == "Europe/Berlin"
    assert (last.data.content, last.data.requests) == ((), ())
    assert len({event.id for event in await bench.outgoing("lead.engaged.v1")}) == 2


async def test_an_exclusion_is_published_at_once(bench: Bench) -> None:
    """D7: by an event of the lead, by another address, and by an edited playbook."""
    await bench.said("demo_requested", NOON, email="a@f.example", user_id="1")
    await bench.said("identified", NOON + 1, user_id="1", traits={"note": "nothing"})
    assert {s.excluded for s in (await last_published(bench)).values()} == {""}
    exclusions = [
        Exclusion(reason="employee", domains=["g.example"]),
        Exclusion(reason="partner", trait="note", one_of=["nothing"]),
    ]
    playbook = bench.handler.scoring.playbook
    other = Bench(bench.engine, with_parts(playbook, exclusions=exclusions[:1]))
    other.at(NOON + 2)
    await other.said("identified", NOON + 2, email="b@g.example", user_id="1")
    assert {s.excluded for s in (await last_published(bench)).values()} == {"employee"}
    third = Bench(bench.engine, with_parts(playbook, exclusions=exclusions[1:]))
    third.at(NOON + 3)
    while await third.sweeper().refold():
        pass
    assert {s.excluded for s in (await last_published(bench)).values()} == {"partner"}


async def test_a_merged_lead_leaves_nothing_to_publish(bench: Bench) -> None:
    minute = HOUR // 60
    await bench.said("demo_requested", NOON, anonymous_id="x1", email="a@f.example")
    await bench.said("demo_requested", NOON, user_id="1")
    await bench.said("identified", NOON + minute, user_id="1", traits={"k": "v"})
    await bench.said("identified", NOON + minute, user_id="1", email="a@f.example")
    bench.at(NOON + 10 * minute)
    await bench.sweeper().sweep()
    assert await bench.one("SELECT count(*) FROM scorer.lead WHERE publish_at IS NOT NULL") == 0
    assert await bench.sweeper().sweep() == 0


@pytest.mark.parametrize("seed", range(6))
async def test_others_know_what_is_known_five_minutes_later_at_the_latest(
    bench: Bench, seed: int
) -> None:
    """Whatever happens in whatever order, of each lead of which anything was published."""
    minute, random = HOUR // 60, Random(seed)
    names = [
        {"email": "a@f.example"}, {"email": "b@f.example"}, {"user_id": "1"}, {"user_id": "2"},
        {"anonymous_id": "x1"}, {"anonymous_id": "x2"}, {"user_id": "1", "email": "a@f.example"},
        {"user_id": "2", "email": "b@f.example"}, {"user_id": "2", "email": "a@f.example"},
        {"anonymous_id": "x1", "user_id": "1"}, {"anonymous_id": "x1", "email": "b@f.example"},
    ]  # fmt: skip
    kinds = ["page_viewed", "identified", "identified", "demo_requested", "email_unsubscribed"]
    for _ in range(25):
        moment = bench.clock.now_us() + random.randrange(3 * minute)
        late = random.randrange(20 * minute) if random.random() < 0.3 else 0
        traits = {random.choice(["timezone", "title"]): str(random.randrange(9))}
        machine = random.random() < 0.2
        bench.at(moment)
        data = Interaction(
            id=uuid.uuid4().hex, type=random.choice(kinds), machine=machine,
            traits=traits, **random.choice(names),  # type: ignore[arg-type]
        )  # fmt: skip
        await bench.take(bench.record(data, moment - late))
        if random.random() < 0.3:
            await bench.sweeper().sweep()
    bench.at(bench.clock.now_us() + 5 * minute)
    await bench.sweeper().sweep()
    known, published = await current(bench), await last_published(bench)
    compared = set(known) & set(published)
    assert compared
    assert {lead: facts(published[lead]) for lead in compared} == {
        lead: facts(known[lead]) for lead in compared
    }


async def test_the_snapshot_of_a_qualified_lead_says_that_it_is_qualified(bench: Bench) -> None:
    await bench.said(
        "identified",
        NOON,
        email="a@f.example",
        traits={"title": "Plant manager", "company_size": 300},
    )
    (event,) = await bench.outgoing("lead.qualified.v1")
    assert event.data.snapshot
    assert event.data.snapshot.qualified


async def test_a_late_event_that_changes_the_stage_is_announced_once_as_late_evidence(
    bench: Bench,
) -> None:
    await bench.said("demo_requested", NOON - 3 * DAY, email="a@f.example")
    await bench.said("page_viewed", NOON, email="a@f.example")
    assert [row.stage for row in await bench.announced()] == ["decision"]
    bought = bench.record(
        Interaction(id="late", type="purchased", email="a@f.example"), NOON - 2 * DAY
    )
    await bench.take(bought)
    await bench.take(bought)
    said = await bench.announced()
    assert [(row.seq, row.stage, row.cause, row.cause_event) for row in said[1:]] == [
        (2, "customer", "late_evidence", "late")
    ]
    assert said[1].cause_at == from_us(NOON - 2 * DAY)


async def test_a_late_event_that_changes_no_stage_announces_nothing(bench: Bench) -> None:
    await bench.said("demo_requested", NOON - DAY, email="a@f.example")
    await bench.said("page_viewed", NOON - 3 * DAY, email="a@f.example")
    assert len(await bench.announced()) == 1
    assert await bench.one("SELECT count(*) FROM scorer.event") == 2


async def test_a_cause_of_long_ago_is_announced_with_its_time_and_one_too_old_not_at_all(
    bench: Bench,
) -> None:
    """Eight days make `history` of it at nurture; 400 days make it nothing."""
    bench.at(NOON)
    await bench.said("purchased", NOON - 8 * DAY, email="a@f.example")
    await bench.said("purchased", NOON - 401 * DAY, email="b@f.example")
    said = await bench.announced()
    assert [(row.stage, row.cause_at) for row in said] == [("customer", from_us(NOON - 8 * DAY))]
    assert await bench.stages() == ["customer", "customer"]


async def test_a_lead_known_by_another_systems_id_alone_announces_nothing_until_it_is_linked(
    bench: Bench,
) -> None:
    """D6."""
    crm = ExternalId("crm", "77")
    await bench.said("demo_requested", NOON - HOUR, external_id=crm)
    await bench.said("pricing_viewed", NOON - HOUR // 2, external_id=crm)
    assert await bench.stages() == ["decision"]
    assert await bench.announced() == []
    assert await bench.one("SELECT bool_and(provisional) FROM scorer.lead") is True
    await bench.said("identified", NOON, external_id=crm, email="a@f.example")
    said = await bench.announced()
    assert [(row.stage, row.seq) for row in said] == [("decision", 1)]
    (lead,) = await bench.leads()
    assert said[0].lead_id == lead.id
    assert (
        await bench.one("SELECT count(*) FROM scorer.event WHERE lead_id = :lead", lead=lead.id)
        == 3
    )
    (event,) = await bench.outgoing()
    assert event.data.snapshot
    assert event.data.snapshot.email == "a@f.example"


async def test_a_role_address_with_an_external_id_alone_stays_what_it_is(bench: Bench) -> None:
    """D2: a desk's mailbox is a lead that may be told of."""
    await bench.said(
        "demo_requested", NOON, email="info@f.example", external_id=ExternalId("crm", "1")
    )
    assert [row.stage for row in await bench.announced()] == ["decision"]
    assert await bench.one("SELECT count(*) FROM scorer.identifier") == 1


async def test_the_same_id_with_another_body_is_flagged_and_the_smaller_wins(bench: Bench) -> None:
    first = bench.record(Interaction(id="x", type="page_viewed", email="a@f.example"), NOON - HOUR)
    earlier = bench.record(
        Interaction(id="x", type="demo_requested", email="b@f.example"), NOON - 2 * HOUR
    )
    await bench.take(first)
    assert await bench.ask("SELECT 1 FROM scorer.event WHERE conflict") == []
    await bench.take(earlier)
    await bench.take(first)
    events = await bench.ask("SELECT occurred_at, conflict, body FROM scorer.event")
    assert [(row.occurred_at, row.conflict) for row in events] == [(NOON - 2 * HOUR, True)]
    assert "b@f.example" in events[0].body
    owners = await bench.ask(
        "SELECT i.value, (SELECT count(*) FROM scorer.event e WHERE e.lead_id = i.lead_id) AS n "
        "FROM scorer.identifier i ORDER BY 1"
    )
    assert [(row.value, row.n) for row in owners] == [("a@f.example", 0), ("b@f.example", 1)]


async def test_after_a_merge_the_latest_announcement_of_both_is_the_last_one(bench: Bench) -> None:
    """Each said something; the union continues from the later word, under the number of the lead
    that lives.
    """
    bench.at(NOON - DAY)
    await bench.said("demo_requested", NOON - 5 * HOUR, email="a@f.example")
    await bench.said("purchased", NOON - 4 * HOUR, anonymous_id="c")
    before = {row.stage: row for row in await bench.announced()}
    assert set(before) == {"decision", "customer"}
    await bench.said("identified", NOON, email="a@f.example", anonymous_id="c")
    (lead,) = await bench.leads()
    assert lead.id == before["decision"].lead_id
    assert len(await bench.announced()) == 2
    (state,) = await bench.ask(
        "SELECT stage, announced_stage, announced_seq, announced_at FROM scorer.lead_state"
    )
    assert (state.stage, state.announced_stage, state.announced_seq) == ("customer", "customer", 1)
    assert state.announced_at == before["customer"].announced_at
    (merged,) = await bench.outgoing("lead.merged.v1")
    assert merged.data.lead == str(lead.id)
    assert merged.data.merged == (str(before["customer"].lead_id),)
    await bench.said("lost", NOON + HOUR, email="a@f.example")
    numbers = [(row.seq, row.lead_id) for row in await bench.announced() if row.lead_id == lead.id]
    assert len(numbers) == len(set(numbers))


async def test_a_merge_that_changes_the_stage_says_so(bench: Bench) -> None:
    await bench.said("page_viewed", NOON - 5 * HOUR, email="a@f.example")
    await bench.said("demo_requested", NOON - 4 * HOUR, anonymous_id="c")
    await bench.said("noted", NOON, email="a@f.example", anonymous_id="c")
    (lead,) = await bench.leads()
    last = (await bench.announced())[-1]
    assert last.stage == "decision"
    (state,) = await bench.ask(
        "SELECT stage, announced_stage FROM scorer.lead_state WHERE lead_id = :lead", lead=lead.id
    )
    assert (state.stage, state.announced_stage) == ("decision", "decision")


# -- silence --------------------------------------------------------------------------------------


async def silent_until(bench: Bench, days: int) -> None:
    """Sweeps on every day until then."""
    start = bench.clock.now_us()
    for day in range(1, days + 1):
        bench.at(start + day * DAY)
        await bench.sweeper().sweep()


async def test_silence_is_announced_once_however_often_and_late_the_sweeper_comes(
    bench: Bench, engine: AsyncEngine, default_playbook: Playbook
) -> None:
    """S4: twice at once, daily, or after months in one go: the last word and its time are
    the same.
    """
    await bench.said("demo_requested", NOON, email="daily@f.example")
    await silent_until(bench, 200)
    daily = [(row.stage, row.cause, row.cause_at) for row in await bench.announced()]
    assert daily[0][0] == "decision"
    assert len(daily) > 1
    assert {cause for _, cause, _ in daily[1:]} == {"silence"}
    stages = [stage for stage, _, _ in daily]
    assert all(one != other for one, other in itertools.pairwise(stages))

    bench.at(NOON)
    await bench.said("demo_requested", NOON, email="late@f.example")
    bench.at(NOON + 200 * DAY)
    while True:
        swept = await asyncio.gather(*(bench.sweeper().sweep() for _ in range(3)))
        if not any(swept):
            break
    late = await bench.ask(
        "SELECT a.* FROM scorer.announcement a JOIN scorer.identifier i USING (lead_id) "
        "WHERE i.value = 'late@f.example' ORDER BY seq"
    )
    assert [(row.seq, row.stage) for row in late] == [(1, "decision"), (2, daily[-1][0])]
    assert (late[1].cause, late[1].cause_at) == ("silence", daily[-1][2])
    before = len(await bench.announced())
    await bench.sweeper().sweep()
    assert len(await bench.announced()) == before
    records = await bench.ask("SELECT record, pending, stage FROM scorer.lead_state")
    assert len({(row.record, row.pending, row.stage) for row in records}) == 1


async def test_a_send_that_stays_without_answer_lowers_the_likelihood_and_never_raises_it(
    bench: Bench,
) -> None:
    """S4."""
    await bench.said("demo_requested", NOON, email="a@f.example")
    likelihood = "SELECT likelihood FROM scorer.lead_state"
    before = await bench.one(likelihood)
    bench.at(NOON + HOUR)
    await bench.take(bench.raw(encode(_touch(sent_at=NOON + HOUR)), TOUCHES))
    sent = await bench.one(likelihood)
    assert sent <= before
    await silent_until(bench, 9)
    silent = await bench.one(likelihood)
    other = Bench(bench.engine, bench.handler.scoring.playbook)
    await other.said("demo_requested", NOON, email="b@f.example")
    other.at(NOON + HOUR)
    await silent_until(other, 9)
    unsent = await other.one(
        "SELECT likelihood FROM scorer.lead_state s JOIN scorer.identifier i USING (lead_id) "
        "WHERE i.value = 'b@f.example'"
    )
    assert silent < unsent


def _touch(sent_at: int = NOON) -> TouchEvent:
    touch = Touch(
        id=str(uuid.uuid4()), lead=str(uuid.uuid4()), status="sent", recipient="a@f.example",
        content="case-study-bottling",
        decided_at=from_us(sent_at) - timedelta(minutes=1), sent_at=from_us(sent_at),
        clicks_tracked=True, opens_tracked=True,
    )  # fmt: skip
    return TouchEvent(id=str(uuid.uuid4()), type="touch.sent.v1", time=from_us(sent_at), data=touch)


# -- by which identifiers others know a lead -----------------------------------------------------


def hashes(*names: str) -> set[str]:
    return {keyed_hash(b"", name) for name in names}


async def known_identifiers(bench: Bench) -> set[str]:
    """Those of the last snapshot that was published, whatever for."""
    found = await bench.ask(
        "SELECT value FROM scorer.outbox WHERE topic = :topic ORDER BY id", topic=CHANGES
    )
    snapshot = decode_change(found[-1].value).data.snapshot
    assert snapshot
    return set(snapshot.identifiers)


async def test_others_know_a_lead_by_hashes_of_all_its_identifiers_at_once(bench: Bench) -> None:
    """N6: a refusal may name any of them; an act of a minute ago delays nothing."""
    own = {"user_id": "u", "email": "a@f.example"}
    await bench.said("demo_requested", NOON, **own)
    assert await known_identifiers(bench) == hashes("user:u", "email:a@f.example")
    await bench.said("page_viewed", NOON + 1, anonymous_id="v", **own)
    more = hashes("user:u", "email:a@f.example", "anonymous:v")
    assert await known_identifiers(bench) == more
    await bench.said("page_viewed", NOON + 2, user_id="u", external_id=ExternalId("crm", "7"))
    assert await known_identifiers(bench) == more | hashes("external:crm\t7")


async def test_who_loses_its_address_is_told_of_at_once(bench: Bench) -> None:
    """N6: it belongs to several users now, and is nobody's to write to."""
    await bench.said("demo_requested", NOON, user_id="u", email="a@f.example")
    await bench.said("page_viewed", NOON + 1, user_id="other", email="a@f.example")
    changes = [event.data for event in await bench.outgoing("lead.engaged.v1")]
    first = (await bench.outgoing())[0].data.lead
    lost = [change.snapshot for change in changes if change.lead == first][-1]
    assert lost
    assert (lost.email, set(lost.identifiers)) == ("", hashes("user:u"))


async def test_our_own_mails_are_no_identifiers(bench: Bench) -> None:
    await bench.said("demo_requested", NOON, email="a@f.example")
    before = len(await bench.outgoing("lead.engaged.v1"))
    await bench.take(bench.raw(encode(_touch()), TOUCHES))
    assert len(await bench.outgoing("lead.engaged.v1")) == before
    assert await known_identifiers(bench) == hashes("email:a@f.example")


async def test_who_has_more_identifiers_than_others_are_told_has_no_address(bench: Bench) -> None:
    """N6: no refusal could be traced to it."""
    await bench.said("demo_requested", NOON, email="a@f.example")
    visits = [
        bench.record(
            Interaction(id=str(n), type="seen", email="a@f.example", anonymous_id=f"v{n}"), NOON + n
        )
        for n in range(MAX_IDENTIFIERS)
    ]
    await bench.take(*visits)
    last = (await bench.outgoing("lead.engaged.v1"))[-1].data.snapshot
    assert last
    assert (last.email, len(last.identifiers)) == ("", MAX_IDENTIFIERS)


async def test_a_request_dated_ahead_outruns_no_refusal(bench: Bench) -> None:
    """N6: what is asked for is withheld from who refuses after the request was received."""
    asked = Interaction(id="r", type="demo_requested", email="a@f.example")
    await bench.take(bench.record(asked, NOON + 4 * HOUR // 60, received=NOON))
    requests = [event.data.requests for event in await bench.outgoing("lead.engaged.v1")]
    assert [request.at for told in requests for request in told] == [from_us(NOON)]


async def test_a_lead_of_many_ids_changes_hands_in_few_statements(bench: Bench) -> None:
    """As many as anybody likes may be posted with one address."""
    await bench.take(
        *(
            bench.record(
                Interaction(
                    id=f"e{n}", type="page_viewed", email="x@f.example", anonymous_id=f"a{n}"
                ),
                NOON + n,
            )
            for n in range(80)
        )
    )
    statements: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    sync = bench.engine.sync_engine
    sqlalchemy_event.listen(sync, "before_cursor_execute", note)
    try:
        await bench.said("page_viewed", NOON + HOUR, user_id="u1", email="x@f.example")
    finally:
        sqlalchemy_event.remove(sync, "before_cursor_execute", note)
    assert len(statements) < 50
    assert await bench.one("SELECT count(DISTINCT lead_id) FROM scorer.event") == 1
    assert await bench.one("SELECT count(*) FROM scorer.lead WHERE merged_into IS NULL") == 1


async def test_a_lead_that_takes_in_one_that_others_know_is_known_to_them(bench: Bench) -> None:
    consent = [Consent(channel="email", purpose="marketing", state="given")]
    await bench.said("consent_given", NOON, email="x@f.example", consent=consent)
    assert len(await bench.outgoing("lead.engaged.v1")) == 1
    await bench.said("identified", NOON + HOUR, user_id="u1")
    await bench.said("identified", NOON + 2 * HOUR, user_id="u1", email="x@f.example")
    told = await bench.outgoing("lead.engaged.v1")
    pause = {"mail_paused_until": "2027-01-01T00:00:00+00:00"}
    await bench.said("identified", NOON + 3 * HOUR, user_id="u1", traits=pause)
    after = await bench.outgoing("lead.engaged.v1")
    assert len(after) == len(told) + 1
    assert after[-1].data.snapshot
    assert after[-1].data.snapshot.traits == pause


async def test_what_is_told_of_a_lead_is_bounded_whatever_is_posted(bench: Bench) -> None:
    """Contents that the playbook does not know are nobody's concern, and many requests are told in
    portions.
    """
    at = NOON
    views = [
        Interaction(id=f"v{n}", type="page_viewed", email="x@f.example", content_id=f"{n:04}" * 126)
        for n in range(20)
    ]
    asked = [
        Interaction(id=f"d{n}", type="demo_requested", email="x@f.example")
        for n in range(REQUESTS_AT_ONCE + 1)
    ]
    await bench.take(*(bench.record(data, at) for data in (*views, *asked)))
    told = [event.data for event in await bench.outgoing("lead.engaged.v1")]
    assert {event.content for event in told} == {()}
    assert [len(event.requests) for event in told] == [REQUESTS_AT_ONCE, 1]
    assert len({request.uid for event in told for request in event.requests}) == len(asked)
    ids = await bench.ask("SELECT value FROM scorer.outbox WHERE topic = :t", t=CHANGES)
    assert len({decode_change(row.value).id for row in ids}) == len(ids)


async def test_no_more_ids_of_a_lead_are_read_than_tell_that_it_is_no_person(bench: Bench) -> None:
    await bench.said("page_viewed", NOON, user_id="u1")
    await bench.do(
        "INSERT INTO scorer.identifier (kind, value, lead_id) SELECT 3, 'a' || n, id "
        "FROM scorer.lead, generate_series(1, 3000) n"
    )
    (lead,) = await bench.leads()
    async with bench.engine.connect() as connection:
        found = (await Store(connection).identifiers([lead.id]))[lead.id]
    assert len(found) == MAX_IDENTIFIERS + 2
    assert found == sorted(found, key=lambda name: name.rank)
    assert found[0].value == "u1"


async def test_a_test_shows_what_would_come_of_it_and_leaves_nothing(bench: Bench) -> None:
    """Neither among others' events, nor delivered again, nor where its lead has others."""
    tables = ("lead", "event", "identifier", "lead_state", "announcement", "outbox", "dead_letter")

    async def counts() -> list[int]:
        return [await bench.one(f"SELECT count(*) FROM scorer.{table}") for table in tables]

    def test(id: str, **named: Any) -> Record:
        data = Interaction(id=id, type=named.pop("type", "demo_requested"), **named)
        return bench.record(data, NOON, provenance=Provenance(test=True))

    await bench.said("page_viewed", NOON, email="ann@firm.example", id="real-1")
    before = await counts()
    sample = [
        test("t-1", user_id="sample", email="sample@tool.example", type="identified"),
        test("t-2", user_id="sample"),
        test("t-3", email="ann@firm.example", anonymous_id="sample"),
    ]
    await bench.take(*sample)
    assert await counts() == before
    found = await bench.ask("SELECT address, stage, events FROM scorer.trial ORDER BY address")
    assert [tuple(row) for row in found] == [
        ("ann@firm.example", "decision", 2),
        ("sample@tool.example", "decision", 2),
    ]
    data = Interaction(id="real-2", type="page_viewed", email="bob@firm.example")
    await bench.take(sample[0], bench.record(data, NOON), sample[1])
    assert len(await bench.leads()) == 2
    assert await bench.one("SELECT count(*) FROM scorer.event") == 2
