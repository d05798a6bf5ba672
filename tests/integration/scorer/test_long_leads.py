"""Leads of very many events on a real database: what a late event, a merge and a look at them cost,
and that nothing depends on how the events came.
"""

import time
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ops.commands.verify import verify
from services.scorer import history, profile_parts, stored_events
from services.scorer.api import create_app
from services.scorer.model import window
from services.scorer.model.profile import MOST_MILESTONES
from services.scorer.processing.handler import Handler
from services.scorer.queries.repository import TIMELINE
from services.scorer.scoring import Scoring
from services.shared.clock import DAY, from_us, rfc3339
from services.shared.contracts.events import Interaction
from services.shared.db import rows, value
from services.shared.http.keys import ApiKeys, new_key, register
from services.shared.messaging.kafka import Publisher
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.support import present
from tests.support.long_leads import FIRST_PROFILE, long_lead, record

# of stored events and links, by this session since its statistics were collected
ROWS_READ = (
    "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables "
    "WHERE schemaname = 'scorer' AND relname IN ('event', 'timed_link')"
)
EVENTS = 100_000
APART = 300 * DAY // EVENTS
GENEROUS = 10
LATE_EVENT_S, PAGE_S = 0.05, 0.5


def now() -> int:
    return present.CLOCK.now_us()


@pytest.fixture
def handler(default_playbook: Playbook) -> Handler:
    return Handler(Scoring.of(default_playbook, present.CLOCK))


@pytest.fixture
async def site(
    engine: AsyncEngine, handler: Handler, settings: Settings
) -> AsyncIterator[httpx.AsyncClient]:
    """The scorer's HTTP, with a key that may read, signed in."""
    key, keys = new_key(), ApiKeys(engine)
    await register(engine, key, "people", "query")
    await keys.load()
    app = create_app(settings, engine, handler.scoring, keys, dict, Publisher(settings))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://scorer"
    ) as http:
        http.headers["Authorization"] = f"Bearer {key}"
        await http.get("/sign-in", params={"key": key})
        yield http


class EventsRead:
    """How many stored events were read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = 0

        async def counting(connection: Any, statement: str, **values: Any) -> list[Any]:
            found = await rows(connection, statement, **values)
            self.rows += len(found)
            return found

        for module in (history, stored_events):
            monkeypatch.setattr(module, "rows", counting)


async def apply(engine: AsyncEngine, handler: Handler, *events: tuple[Interaction, int]) -> float:
    """Applies events in one batch; returns the seconds that it took."""
    async with engine.begin() as connection:
        decoded = [handler.decode(record(data, at)) for data, at in events]
        began = time.perf_counter()
        await handler.apply(connection, decoded)
        return time.perf_counter() - began


def viewed(name: str, **named: Any) -> Interaction:
    return Interaction(id=name, type="page_viewed", **named or {"user_id": "busy"})


async def test_what_happens_to_a_lead_of_100_000_events_costs_little(
    engine: AsyncEngine,
    handler: Handler,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Late or not, another body, a visitor who turns out to be the lead, memory; and the set
    decides (D1).
    """
    first = now() - 301 * DAY
    await long_lead(engine, handler, EVENTS, first, APART)
    read = EventsRead(monkeypatch)
    for n, days in enumerate((300.5, 299.9, 150, 1, 300, 299.99)):
        read.rows = 0
        seconds = await apply(engine, handler, (viewed(f"n{n}"), first + int(days * DAY)))
        assert seconds < GENEROUS * LATE_EVENT_S
        assert read.rows <= window.WHOLE + MOST_MILESTONES
    read.rows = 0
    await apply(engine, handler, (viewed("busy/50000"), first))
    assert read.rows <= window.WHOLE + MOST_MILESTONES
    tracemalloc.start()
    try:
        await apply(engine, handler, (viewed("once more"), first + 100 * DAY))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    await apply(engine, handler, (viewed("visit", anonymous_id="v-17"), first + 2 * DAY))
    read.rows = 0
    known = viewed("known", user_id="busy", anonymous_id="v-17")
    assert await apply(engine, handler, (known, now())) < GENEROUS * LATE_EVENT_S
    assert read.rows <= window.WHOLE + MOST_MILESTONES
    assert (await verify(settings, lambda _: None)).mismatches == []


async def test_what_leaves_a_lead_of_100_000_events_is_taken_out_of_its_part(
    engine: AsyncEngine,
    handler: Handler,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another body of an event of which the profile keeps something, the last link of a visitor,
    an address that turns out to be two people's, one whose events go to another long lead (D1, D2).
    """
    first = now() - 301 * DAY
    for user, many in (("busy", EVENTS), ("other", 4000)):
        await long_lead(engine, handler, many, first, APART, user)
    read = EventsRead(monkeypatch)
    linked = {"user_id": "busy", "anonymous_id": "v-1"}
    several = [(viewed(f"of v-2/{n}", anonymous_id="v-2"), first + n * DAY) for n in range(9)]
    for n, batch in enumerate((
        [(viewed("busy/99950"), first)],
        [(viewed("busy/99900", user_id="busy", traits={"visits": 1}), first + 7 * DAY)],
        [(viewed("busy/99999"), first)],
        [(viewed("busy/2000"), first), (viewed("busy/7000"), first)],
        [(viewed("link", **linked), first + 90 * DAY)],
        [(viewed("link"), first)],
        [*several, (viewed("l2", user_id="busy", anonymous_id="v-2"), first + 9 * DAY)],
        [(viewed("l3", user_id="other", anonymous_id="v-2"), first + 3 * DAY)],
        [(viewed("mail", user_id="busy", email="a@firm.example"), first + 20 * DAY)],
        [(viewed("asked", email="a@firm.example", traits={"size": 3}), first + 30 * DAY)],
        [(viewed("her", user_id="other", email="a@firm.example"), first + 40 * DAY)],
    )):  # fmt: skip
        read.rows = 0
        seconds = await apply(engine, handler, *batch)
        assert seconds < GENEROUS * LATE_EVENT_S, n
        assert read.rows <= 2 * (window.WHOLE + MOST_MILESTONES) + 9 * profile_parts.PART, n
    assert (await verify(settings, lambda _: None)).mismatches == []


@pytest.mark.parametrize("visitor", [200, 4000])
async def test_a_long_history_that_joins_another_brings_its_parts(
    visitor: int, engine: AsyncEngine, handler: Handler, settings: Settings
) -> None:
    """A visitor of few or many events turns out to be a person of few or many (D1)."""
    first = now() - 301 * DAY
    for user, many in (("few", 300), ("many", 4000)):
        name = f"v-{user}"
        await long_lead(engine, handler, many, first, DAY // 20, user)
        await long_lead(engine, handler, visitor, first, DAY // 30, name, kind="anonymous_id")
        known = viewed(f"known {user}", user_id=user, anonymous_id=name)
        await apply(engine, handler, (known, first + 30 * DAY))
        for other in (f"{name}/150", f"{user}/250", f"{name}/199"):
            smaller = viewed(other, user_id=user)
            await apply(engine, handler, (smaller, first))
    async with engine.connect() as connection:
        assert await value(connection, "SELECT count(*) FROM scorer.profile_part") >= 2
    assert (await verify(settings, lambda _: None)).mismatches == []


async def test_long_leads_are_divided_and_mended_in_constant_memory(
    engine: AsyncEngine, handler: Handler, settings: Settings
) -> None:
    """D2: a visitor's events go to the person of the nearest link; a smaller body under a known id
    takes the stored one's place.
    """
    first = now() - 301 * DAY
    people = [await long_lead(engine, handler, 3000, first, DAY // 20, user) for user in "ab"]
    visits = [viewed(f"v{n}", anonymous_id="v-17") for n in range(3000)]
    for n in range(0, 3000, 1000):
        batch = visits[n : n + 1000]
        at = first + n * DAY // 20
        await apply(
            engine, handler, *((visit, at + m * DAY // 20) for m, visit in enumerate(batch))
        )
    for days, user in ((10, "a"), (100, "b")):
        link = viewed(f"link{user}", user_id=user, anonymous_id="v-17")
        await apply(engine, handler, (link, first + days * DAY))
    async with engine.connect() as connection:
        counts = {
            row.lead_id: row.count
            for row in await rows(
                connection, "SELECT lead_id, count(*) FROM scorer.event GROUP BY lead_id"
            )
        }
    assert [counts[lead] for lead in people] == [3000 + 2000 + 1, 3000 + 1000 + 1]
    smaller = viewed("a/2000", user_id="a", traits={"seats": 4})
    await apply(engine, handler, (smaller, first))
    assert (await verify(settings, lambda _: None)).mismatches == []


async def test_an_event_of_a_visitor_whom_two_share_reads_what_is_near_in_time(
    engine: AsyncEngine, handler: Handler, settings: Settings
) -> None:
    """D2: of 20,000 stored events of the visitor and the same number of the people as many are read
    as two folds weigh, also where 33 of them change hands, and where an earlier release divided
    them.
    """
    first, apart = now() - 301 * DAY, 300 * DAY // 20_000
    weighed = 2 * (window.WHOLE + MOST_MILESTONES)  # of two people
    for user in "ab":
        await long_lead(engine, handler, 10_000, first, 2 * apart, user)
    await long_lead(engine, handler, 20_000, first, apart, "v-17", kind="anonymous_id")

    async def rows_read(name: str, days: float, user: str = "") -> int:
        named = {"user_id": user} if user else {}
        data = viewed(name, anonymous_id="v-17", **named)
        decoded = handler.decode(record(data, first + int(days * DAY)))
        async with engine.begin() as connection:
            before = await value(connection, ROWS_READ)
            await handler.apply(connection, [decoded])
            return int(await value(connection, ROWS_READ) - before)

    await rows_read("a", 20, "a")
    await rows_read("b", 298, "b")
    for name, days, user in (
        ("new", 300.5, ""),
        ("late", 150, ""),
        ("first", -1, ""),
        ("a again", 150, "a"),
        ("b again", 299, "b"),
        ("a last", 300.6, "a"),
        ("half a day of b", 297.5, "b"),
    ):
        assert await rows_read(name, days, user) <= weighed, name
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM scorer.timed_link"))
    await rows_read("as before", 150)
    assert await rows_read("once more", 151) <= weighed
    assert (await verify(settings, lambda _: None)).mismatches == []


async def test_a_lead_of_an_earlier_release_is_counted_with_its_next_event(
    engine: AsyncEngine, handler: Handler, settings: Settings
) -> None:
    """Also before everybody is folded anew."""
    at = now() - DAY
    await apply(engine, handler, *((viewed(f"e{n}"), at + n) for n in range(5)))
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE scorer.lead SET profile = :old"), {"old": FIRST_PROFILE}
        )
    await apply(engine, handler, (viewed("next"), at + 10))
    assert (await verify(settings, lambda _: None)).mismatches == []


async def test_a_lead_of_30_000_events_is_shown_at_once(
    engine: AsyncEngine, handler: Handler, site: httpx.AsyncClient
) -> None:
    """U2, U3: its page, its numbers now and in the past, why, and its timeline."""
    lead = await long_lead(engine, handler, 30_000, now() - 301 * DAY, APART)
    api = f"/v1/leads/{lead}"
    past = rfc3339(from_us(now() - 200 * DAY))
    await site.get(f"/leads/{lead}")  # reads the templates
    for path in (
        f"/leads/{lead}",
        f"/leads/{lead}?all=1",
        api,
        f"{api}?summary=true",
        f"{api}?at={past}",
        f"{api}/explain",
        f"{api}/explain?at={past}",
        f"{api}/timeline",
    ):
        began = time.perf_counter()
        answer = await site.get(path)
        assert time.perf_counter() - began < GENEROUS * PAGE_S, path
        assert answer.status_code == 200, answer.text
    page = (await site.get(f"/leads/{lead}")).text
    unweighed = 30_000 - window.count(30_000) - 1  # the enquiry is never forgotten
    assert f"{unweighed} older events" in page
    ledger = (await site.get(f"{api}/explain")).json()
    assert ledger["unweighed"] == unweighed
    assert ledger["likelihood"] == pytest.approx((await site.get(api)).json()["likelihood"])


async def test_a_timeline_of_30_000_is_read_page_by_page_without_reading_it_all(
    engine: AsyncEngine, handler: Handler, site: httpx.AsyncClient
) -> None:
    lead = await long_lead(engine, handler, 3_000, now() - 301 * DAY, APART)
    found: list[str] = []
    cursor = ""
    while cursor is not None:
        query = {"limit": 500, "cursor": cursor}
        page = (await site.get(f"/v1/leads/{lead}/timeline", params=query)).json()
        found += [item["id"] for item in page["items"] if item["kind"] == "event"]
        cursor = page["next"]
    assert found == [f"busy/{n}" for n in range(3000)]
    statement = TIMELINE.format(
        event_after="AND (occurred_at, uid) > (0, :lead)", change_after="", touch_after=""
    )
    async with engine.connect() as connection:
        plan = [
            row[0]
            for row in await rows(
                connection, f"EXPLAIN (ANALYZE, COSTS OFF) {statement}", lead=lead, limit=51
            )
        ]
    (scan,) = [line for line in plan if "event_lead" in line]
    assert "rows=51" in scan
