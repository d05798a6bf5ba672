"""P13 and P14: what people and sales systems wait for, each on a database of its own: lists of
100,000 leads, and one lead of 30,000 events.
"""

import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from statistics import median
from typing import Any, NamedTuple, get_args
from urllib.parse import urlencode

from services.scorer.processing.handler import Handler
from services.scorer.queries.filters import ORDERS
from services.scorer.scoring import Scoring
from services.shared.clock import Clock
from services.shared.contracts.touch_reasons import TouchStatus
from services.shared.db import open_engine, rows, value
from services.shared.http.keys import ApiKeys, register
from services.shared.http.signin import COOKIE, PageSessions
from services.shared.messaging.consumer import Consumer
from services.shared.settings import Settings
from tests.bench import crowd, people
from tests.bench.load import Client, connect, request
from tests.bench.measure import Line, Outcome
from tests.bench.scoring import no_broker, no_heartbeat
from tests.bench.world import World

LEADS, TOUCHES, EVENTS = 100_000, 100_000, 30_000
LISTS_GOAL_MS, PAGE_GOAL_MS = 20.0, 500.0
SLOWEST, AGAIN = 20, 4  # lists that are measured once more, and how much longer
DEEP, DEEP_STEP = 20, 500  # pages, and leads a page, that lie before a deep one
STAGES = ("", "status_quo", "decision", "unknown")
FILTERS: Sequence[dict[str, float | str]] = (
    {},
    {"min_likelihood": 0.05},
    {"min_likelihood": 0.44},
    {"min_engagement": 5},
    {"min_engagement": 90},
    {"min_fit": 40},
    {"min_fit": 95},
    {"min_likelihood": 0.25, "min_fit": 40},
    {"min_likelihood": 0.05, "min_engagement": 50},
    {"min_engagement": 5, "min_fit": 80},
    {"min_likelihood": 0.44, "min_engagement": 5, "min_fit": 40},
    {"sales_status": "any"},
    {"sales_status": "none"},
    {"sales_status": "won"},
    {"sales_status": "refunded"},
    {"company": "Firm 7"},
    {"company": "nobody"},
    {"updated_since": "2020-01-01T00:00:00Z"},
    {"updated_since": "2190-01-01T00:00:00Z"},
    {"sales_status": "accepted", "updated_since": "2020-01-01T00:00:00Z", "min_fit": 95},
    {"company": "Firm 7", "sales_status": "disqualified", "min_likelihood": 0.05},
)


class Reader(NamedTuple):
    """One connection to a server that answers from a database, signed in."""

    client: Client
    key: str
    cookie: str

    async def get(self, path: str) -> bytes:
        """The answer's body."""
        asked = request("GET", path, key=self.key, headers={"Cookie": f"{COOKIE}={self.cookie}"})
        answer = await self.client.ask(asked)
        if answer.status != 200:
            raise AssertionError(f"{path} answered {answer.status}: {answer.body[:500]!r}")
        return answer.body

    async def milliseconds(self, path: str, times: int) -> float:
        """The median of so many, after one that does not count."""
        await self.get(path)
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            await self.get(path)
            taken.append(time.perf_counter() - began)
        return median(taken) * 1000


@asynccontextmanager
async def _reading(world: World, settings: Settings) -> AsyncIterator[Reader]:
    """A reader of a server over that database."""
    engine, key = open_engine(settings), world.keys["query"]
    await register(engine, key, "bench", "query")
    keys = ApiKeys(engine)
    await keys.load()
    cookie = PageSessions(keys, settings.pepper.get_secret_value().encode()).sign_in(key)
    await engine.dispose()
    url = settings.database_url.get_secret_value()
    async with world.running("tests.bench.answers", database=url) as (server,):
        client = await connect(server.url)
        yield Reader(client, key, cookie)
        client.close()


async def lists(world: World) -> Outcome:
    """P13: the slowest of all lists, in every order and filter, at their beginning and deep in
    them.
    """
    settings = await world.database("lists")
    engine = open_engine(settings)
    await crowd.fill(engine, Scoring.of(world.playbook, Clock()), LEADS, TOUCHES)
    async with engine.connect() as connection:
        lead = str(await value(connection, "SELECT lead_id FROM nurture.touch LIMIT 1"))
    await engine.dispose()
    times = 7 if world.quick else 15  # from the sixth on a plan may be one for any values
    async with _reading(world, settings) as reader:
        paths = [*_lists_of_leads(), *_pages(), *_lists_of_touches(lead)]
        paths += [path async for path in _deep_paths(reader)]
        taken = {path: await reader.milliseconds(path, times) for path in paths}
        # of hundreds of medians the largest are mostly noise
        for path in sorted(taken, key=lambda path: -taken[path])[:SLOWEST]:
            taken[path] = min(taken[path], await reader.milliseconds(path, AGAIN * times))
    worst = max(taken, key=lambda path: taken[path])
    value_ = {
        "worst_ms": round(taken[worst], 1),
        "worst": worst.partition("cursor=")[0],
        "median_ms": round(median(taken.values()), 1),
        "lists": len(taken),
    }
    what = f"the slowest of {len(taken)} lists at {LEADS:,} leads"
    return Outcome(value_, [_line("P13", what, taken[worst], LISTS_GOAL_MS)])


def _lists_of_leads() -> Iterator[str]:
    for order, stage, filters in itertools.product(ORDERS, STAGES, FILTERS):
        yield _leads(order=order, **({"stage": stage} if stage else {}), **filters)


def _pages() -> Iterator[str]:
    for order, stage in itertools.product(ORDERS, STAGES):
        yield f"/?{urlencode({'order': order, 'stage': stage})}"
    yield "/mail"
    yield "/sources"


def _lists_of_touches(lead: str) -> Iterator[str]:
    for status in ("", *get_args(TouchStatus)):
        yield f"/nurture/v1/touches?{urlencode({'status': status})}"
        yield f"/nurture/v1/touches?{urlencode({'status': status, 'lead': lead})}"


async def _deep_paths(reader: Reader) -> AsyncIterator[str]:
    """Pages far into lists."""
    for order, filters in itertools.product(ORDERS, ({}, {"min_fit": 40})):
        cursor = await _cursor(reader, _leads(order=order, limit=DEEP_STEP, **filters), DEEP)
        yield _leads(order=order, **filters, cursor=cursor)
        if not filters:
            yield f"/?{urlencode({'order': order, 'stage': '', 'cursor': cursor})}"
    for status in ("", "sent"):
        path = f"/nurture/v1/touches?{urlencode({'status': status, 'limit': DEEP_STEP})}"
        cursor = await _cursor(reader, path, DEEP)
        yield f"/nurture/v1/touches?{urlencode({'status': status, 'cursor': cursor})}"


async def _cursor(reader: Reader, path: str, pages: int) -> str:
    """The cursor behind so many pages."""
    cursor = ""
    for _ in range(pages):
        body = await reader.get(f"{path}&{urlencode({'cursor': cursor})}")
        cursor = str(people.decode(body)["next"])
    return cursor


def _leads(**asked: Any) -> str:
    return f"/v1/leads?{urlencode(asked)}"


async def long_lead_page(world: World) -> Outcome:
    """P14: the page, the summary and the explanation of one lead with 30,000 events."""
    settings = await world.database("page")
    engine, handler = open_engine(settings), Handler(Scoring.of(world.playbook, Clock()))
    consumer = Consumer(engine, no_broker, handler, "scorer", batch=1_000, on_commit=lambda _: None)
    records = people.records(people.people("page", 1, EVENTS))
    for start in range(0, EVENTS, 1_000):
        await consumer.process(records[start : start + 1_000], no_heartbeat)
    async with engine.connect() as connection:
        lead = (await rows(connection, "SELECT id FROM scorer.lead"))[0].id
    await engine.dispose()
    times = 3 if world.quick else 7
    async with _reading(world, settings) as reader:
        page = await reader.milliseconds(f"/leads/{lead}", times)
        summary = await reader.milliseconds(f"/v1/leads/{lead}?summary=true", times)
        explanation = await reader.milliseconds(f"/v1/leads/{lead}/explain", times)
    what = f"of a lead with {EVENTS:,} events"
    return Outcome(
        {
            "page_ms": round(page, 1),
            "summary_ms": round(summary, 1),
            "explanation_ms": round(explanation, 1),
        },
        [
            _line("P14", f"the page {what}", page, PAGE_GOAL_MS),
            _line("P14", f"the summary {what}", summary, PAGE_GOAL_MS),
            _line("P14", f"the explanation {what}", explanation, PAGE_GOAL_MS),
        ],
    )


def _line(name: str, what: str, ms: float, goal: float) -> Line:
    return Line(name, what, f"{ms:,.1f} ms", "", f"{ms:,.0f} ms", f"≤ {goal:g} ms", ms <= goal)
