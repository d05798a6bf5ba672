"""The traffic of the benchmarks: plain, seeded, in order, each body of a usual size."""

import itertools
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from services.scorer.model.state import Event
from services.shared.clock import rfc3339, to_us
from services.shared.contracts.events import (
    INTERACTIONS,
    Interaction,
    envelope,
    event_uid,
    keyed_hash,
)
from services.shared.messaging.kafka import Outgoing, Record

ACTS = (
    "page_viewed",
    "content_downloaded",
    "page_viewed",
    "pricing_viewed",
    "email_replied",
    "webinar_attended",
    "enquired",
)
STEPS_TO_A_DEMO = (
    "page_viewed",
    "content_downloaded",
    "pricing_viewed",
    "webinar_attended",
    "demo_requested",
)
encode, decode = msgspec.json.encode, msgspec.json.decode


def item(n: int) -> dict[str, Any]:
    """A canonical interaction as a site would post it."""
    return {
        "id": f"bench-{n:09d}",
        "type": ACTS[n % len(ACTS)],
        "occurred_at": rfc3339(datetime.now(UTC)),
        "email": f"person{n % 5000}@firm{n % 500}.example",
        "anonymous_id": f"browser-{n % 5000}",
        "url": f"https://www.example.com/articles/{n % 40}?utm_source=newsletter",
        "source": "newsletter",
        "properties": {"title": "How a first article is written", "seconds": n % 300},
    }


def call(n: int) -> dict[str, Any]:
    """The like as a call of Segment's."""
    now = rfc3339(datetime.now(UTC))
    return {
        "type": "track",
        "messageId": f"bench-{n:09d}",
        "event": "Pricing Viewed",
        "timestamp": now,
        "userId": f"user-{n % 5000}",
        "anonymousId": f"browser-{n % 5000}",
        "properties": {"title": "How a first article is written", "seconds": n % 300},
        "context": {
            "page": {"url": f"https://www.example.com/articles/{n % 40}"},
            "library": {"name": "bench", "version": "1"},
        },
    }


def mail_event(n: int) -> dict[str, Any]:
    """An event of a mail as SendGrid posts it."""
    return {
        "email": f"person{n % 5000}@firm{n % 500}.example",
        "timestamp": int(time.time()),
        "event": ("delivered", "open", "click")[n % 3],
        "sg_event_id": f"bench-{n:09d}",
        "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
        "smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>",
        "useragent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
        "ip": "203.0.113.7",
        "url": f"https://www.example.com/articles/{n % 40}",
        "category": ["newsletter"],
    }


def people(
    prefix: str, leads: int, events: int, seed: int = 1
) -> list[tuple[datetime, Interaction]]:
    """Interactions of so many people over sixty days, in order."""
    rng, start = random.Random(seed), datetime.now(UTC) - timedelta(days=61)
    moments = sorted(rng.uniform(0, 60 * 86_400) for _ in range(events))
    return [
        (
            start + timedelta(seconds=second),
            _interaction(f"{prefix}-{n}", rng.randrange(leads) if n >= leads else n, prefix, rng),
        )
        for n, second in enumerate(moments)
    ]


def _interaction(id: str, person: int, prefix: str, rng: random.Random) -> Interaction:
    return Interaction(
        id=id,
        type=rng.choice(ACTS),
        email=f"{prefix}-{person}@firm{person % 50}.example",
        url=f"https://www.example.com/articles/{rng.randrange(40)}",
        source="newsletter",
        properties={"title": "How a first article is written", "seconds": rng.randrange(300)},
    )


def outgoing(interactions: list[tuple[datetime, Interaction]], pepper: bytes) -> list[Outgoing]:
    """As ingest would write them."""
    now = datetime.now(UTC)
    return [
        Outgoing(
            INTERACTIONS,
            keyed_hash(pepper, f"email:{data.email}"),
            envelope(
                data,
                source="canonical:bench",
                occurred_at=at,
                received_at=now,
                posted_at=time.time(),
            )[1],
        )
        for at, data in interactions
    ]


def records(interactions: list[tuple[datetime, Interaction]]) -> list[Record]:
    """As the scorer would read them."""
    return [
        Record(INTERACTIONS, 0, n, b"", record.value)
        for n, record in enumerate(outgoing(interactions, b"bench"))
    ]


def sets(leads: int, each: int) -> list[list[Event]]:
    """Sets of events as the fold takes them: so many leads with so many events each, in order."""
    interactions = people("fold", leads, leads * each)
    events: list[list[Event]] = [[] for _ in range(leads)]
    for n, (at, data) in enumerate(interactions):
        events[n % leads].append(Event(to_us(at), event_uid("canonical:bench", data.id), data))
    return events


def visits(rng: random.Random) -> Iterator[bytes]:
    """Bodies of single posts without end: people go through the stages in five acts and are gone; a
    fifth agree to mail.
    """
    crowd = [(n, 0) for n in range(300)]
    newcomers = itertools.count(len(crowd))
    for n in itertools.count():
        place = rng.randrange(len(crowd))
        person, act = crowd[place]
        crowd[place] = (person, act + 1) if act + 1 < len(STEPS_TO_A_DEMO) else (next(newcomers), 0)
        consent = (
            [{"channel": "email", "purpose": "marketing", "state": "given"}]
            if person % 5 == 0 and not act
            else []
        )
        yield encode(
            {
                "id": f"visit-{n}",
                "type": STEPS_TO_A_DEMO[act],
                "email": f"visitor{person}@company{person % 400}.example",
                "url": f"https://www.example.com/articles/{n % 40}",
                "consent": consent,
                "properties": {"title": "How a first article is written"},
            }
        )
