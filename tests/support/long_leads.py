"""Leads of very many events, written past the consumer in seconds."""

import random
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.model.profile import Profile
from services.scorer.processing.handler import Handler
from services.scorer.processing.sweeper import Sweeper
from services.scorer.store import EVENT
from services.shared.clock import from_us
from services.shared.contracts.events import (
    INTERACTIONS,
    Interaction,
    encode_bytes,
    envelope,
    event_uid,
)
from services.shared.db import copy, rows
from services.shared.messaging.kafka import Record

SOURCE = "test"
# the profile of nobody, in the nine fields of the first release
FIRST_PROFILE = msgspec.msgpack.encode(msgspec.structs.astuple(Profile())[:9])
TYPES = ("page_viewed", "pricing_viewed", "video_watched", "link_clicked", "email_opened")


def record(data: Interaction, at: int) -> Record:
    """An interaction that happened at `at` (µs), as it comes from Kafka."""
    moment = from_us(at)
    _, body = envelope(data, source=SOURCE, occurred_at=moment, received_at=moment, posted_at=0.0)
    return Record(INTERACTIONS, 0, 0, b"k", body)


async def long_lead(
    engine: AsyncEngine,
    handler: Handler,
    events: int,
    first: int,
    apart: int,
    user: str = "busy",
    *,
    kind: str = "user_id",
) -> uuid.UUID:
    """Makes a lead of so many events, `apart` µs from `first` (µs) on, under this identifier;
    returns its id.
    """
    named: dict[str, Any] = {kind: user}
    opening = record(Interaction(id=f"{user}/0", type="enquired", **named), first)
    async with engine.begin() as connection:
        await handler.apply(connection, [handler.decode(opening)])
        uid = uuid.UUID(event_uid(SOURCE, f"{user}/0"))
        ((lead, anchor),) = await rows(
            connection, "SELECT lead_id, anchor FROM scorer.event WHERE uid = :uid", uid=uid
        )
        rng, received = random.Random(user), datetime.now(UTC)
        stored: list[tuple[Any, ...]] = []
        for n in range(1, events):
            traits = {"visits": n} if n % 50 == 0 else {}
            data = Interaction(
                id=f"{user}/{n}", type=rng.choice(TYPES),
                url=f"https://www.firm.example/{n % 97}", traits=traits, **named,
            )  # fmt: skip
            stored.append((
                uuid.UUID(event_uid(SOURCE, data.id)), lead, anchor, [], first + n * apart,
                received, SOURCE, b"\0", False, "", encode_bytes(data).decode(),
            ))  # fmt: skip
        await copy(connection, EVENT, stored)
        # As the first release left it: folded by other rules, and uncounted.
        await connection.execute(
            text("UPDATE scorer.lead SET profile = :old WHERE id = :lead"),
            {"old": FIRST_PROFILE, "lead": lead},
        )
        await connection.execute(
            text("UPDATE scorer.lead_state SET fold_hash = '' WHERE lead_id = :lead"),
            {"lead": lead},
        )
    sweeper = Sweeper(engine, handler, 1.0, lambda: None)
    while await sweeper.refold():
        pass
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE scorer.event"))
    return uuid.UUID(str(lead))
