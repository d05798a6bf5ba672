"""Generated histories: interactions and touches in which everything occurs that can make a set of
events fold in another way.
"""

import random
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from services.shared.clock import from_us, to_us
from services.shared.contracts.events import (
    INTERACTIONS,
    TOUCHES,
    Consent,
    ExternalId,
    Interaction,
    Touch,
    TouchEvent,
    encode,
    envelope,
)
from services.shared.messaging.kafka import Record

BASE = to_us(datetime.fromisoformat("2026-03-02T09:00:00+00:00"))
SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 1440 * MINUTE
TYPES = (
    "page_viewed", "page_viewed", "pricing_viewed", "content_downloaded", "demo_requested",
    "enquired", "unsubscribed",
    "webinar_attended", "email_replied", "never_heard_of", "lost", "purchased", "refunded",
    "churned",
    "opportunity_opened", "email_opened",
    "email_clicked", "form_submitted", "sales_rejected", "survey_answered",
)  # fmt: skip


class Occurrence(msgspec.Struct, frozen=True):
    """An interaction and when it happened, in µs."""

    at: int
    data: Interaction


def history(rng: random.Random, people: int = 3, length: int = 30) -> list[Occurrence]:
    """Interactions of a few people whose identifiers meet, part and are shared; some ids come with
    another body.
    """
    users = [f"u{i}" for i in range(people)]
    emails = [f"p{i}@firm{i % 2}.example" for i in range(people)] + ["info@firm0.example"]
    anonymous = [f"a{i}" for i in range(people)]
    occurrences: list[Occurrence] = []
    for n in range(length):
        at = BASE + rng.randrange(60) * DAY // 2 + rng.choice([0, 5, 40]) * MINUTE
        occurrences.append(Occurrence(at, _interaction(rng, f"e{n}", users, emails, anonymous)))
        if rng.random() < 0.06:
            other = _interaction(rng, f"e{n}", users, emails, anonymous)
            occurrences.append(Occurrence(at + rng.choice([-DAY, 0, DAY]), other))
        if occurrences[-1].data.type == "email_clicked" and rng.random() < 0.7:
            occurrences += beside(rng, occurrences[-1])
    return occurrences


def beside(rng: random.Random, click: Occurrence) -> list[Occurrence]:
    """Further clicks on the same mail seconds before and after, by people and by a
    scanner.
    """
    out = []
    for n in range(rng.randrange(1, 4)):
        at = click.at + rng.choice([-31, -11, -10, -9, -2, 0, 1, 4, 10, 11, 25]) * SECOND
        more = msgspec.structs.replace(
            click.data, id=f"{click.data.id}+{n}", machine=rng.random() < 0.5
        )
        out.append(Occurrence(at, more))
    return out


def _interaction(
    rng: random.Random, id: str, users: list[str], emails: list[str], anonymous: list[str]
) -> Interaction:
    named: dict[str, Any] = {}
    pick = rng.random()
    i = rng.randrange(len(users))
    own = i if rng.random() < 0.85 else rng.randrange(len(users))
    if pick < 0.35:
        named["anonymous_id"] = anonymous[i]
    elif pick < 0.5:
        named |= {"anonymous_id": anonymous[i], "email": emails[own]}
    elif pick < 0.6:
        named |= {"user_id": users[i], "email": emails[own]}
    elif pick < 0.68:
        named |= {"user_id": users[i], "anonymous_id": anonymous[own]}
    elif pick < 0.76:
        named |= {"email": rng.choice(emails)}
    elif pick < 0.82:
        named |= {"external_id": ExternalId("crm", f"x{own}")} | (
            {"email": emails[i]} if rng.random() < 0.5 else {}
        )
    else:
        named["user_id"] = users[i]
    type_ = rng.choice(TYPES)
    if rng.random() < 0.03 and "user_id" in named:
        verdict = {"other_user_id": users[own], "verdict": rng.choice(["same", "different"])}
        return Interaction(
            id=id, type="identity_reviewed", user_id=named["user_id"], properties=verdict
        )
    return Interaction(
        id=id,
        type=type_,
        touch_id=f"0000000{rng.randrange(4)}-0000-4000-8000-000000000000"
        if type_ in ("email_opened", "email_clicked")
        else "",
        machine=rng.random() < 0.15,
        traits={"title": rng.choice(["CTO", "student", None]), "size": rng.randrange(5)}
        if rng.random() < 0.3
        else {},
        consent=(Consent(state=rng.choice(["given", "withdrawn"])),) if rng.random() < 0.15 else (),
        source=rng.choice(["", "ads", "fair"]),
        company=rng.choice(["", "Firm"]),
        **named,
    )


def sends(rng: random.Random, people: int = 3) -> list[TouchEvent]:
    """Touches that went out to those people."""
    out = []
    for n in range(4):
        at = from_us(BASE + rng.randrange(30) * DAY)
        touch = Touch(
            id=f"0000000{n}-0000-4000-8000-000000000000",
            lead="00000000-0000-4000-8000-00000000000f", status="sent",
            recipient=f"p{rng.randrange(people)}@firm{0}.example", sent_at=at, decided_at=at,
            content="x",
            opens_tracked=rng.random() < 0.6, clicks_tracked=rng.random() < 0.8,
        )  # fmt: skip
        out.append(TouchEvent(id=f"t{n}", type="touch.sent.v1", time=at, data=touch))
    return out


def resent(rng: random.Random, occurrences: Sequence[Occurrence]) -> list[Record]:
    """Some of the interactions as they were received at other times."""
    return [
        record
        for occurrence in rng.choices(occurrences, k=len(occurrences) // 3)
        for record in records(
            [occurrence],
            received=occurrence.at + rng.choice([0, MINUTE, 4 * MINUTE, 6 * MINUTE, 9 * DAY]),
        )
    ]


def records(
    occurrences: Sequence[Occurrence],
    touches: Sequence[TouchEvent] = (),
    received: int = BASE + 90 * DAY,
) -> list[Record]:
    """As they come from Kafka, received at one moment (µs)."""
    out: list[Record] = []
    for occurrence in occurrences:
        _, value = envelope(
            occurrence.data,
            source="canonical:test",
            occurred_at=from_us(occurrence.at),
            received_at=from_us(received),
            posted_at=0.0,
        )
        out.append(Record(INTERACTIONS, 0, len(out), b"k", value))
    for touch in touches:
        out.append(Record(TOUCHES, 0, len(out), b"k", encode(touch)))
    return out
