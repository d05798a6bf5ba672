"""A hundred thousand leads, folded here and copied straight into the scorer's tables."""

import random
import uuid
from collections.abc import Iterator, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scorer.list_keys import company_key, company_of
from services.scorer.model.profile import profile_of
from services.scorer.model.state import Event
from services.scorer.records import LeadRow
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.shared.clock import DAY, from_us
from services.shared.contracts.events import (
    Interaction,
    Touch,
    encode_bytes,
    event_uid,
)
from services.shared.contracts.identity import Kind
from services.shared.contracts.touch_reasons import TouchStatus
from services.shared.db import Table, copy

AT_ONCE = 5_000
ACTS = (
    *("page_viewed",) * 8, *("content_downloaded",) * 3, "pricing_viewed", "webinar_attended",
    "enquired", "email_replied", "demo_requested", "purchased", "lost",
    "won", "sales_accepted", "sales_disqualified",
)  # fmt: skip
TITLES = ("Head of Marketing", "CTO", "Buyer", "Managing Director", "student", "")
COUNTRIES = ("DE", "FR", "GB", "NL", "US")
IDENTIFIER = Table("scorer", "identifier", {"kind": "smallint", "value": "text", "lead_id": "uuid"})
SCORER_TOUCH = Table("scorer", "touch", {
    "id": "uuid", "lead_id": "uuid", "status": "text", "reason": "text", "content": "text",
    "at": "timestamptz", "body": "text",
})  # fmt: skip
NURTURE_TOUCH = Table("nurture", "touch", {
    "id": "uuid", "announcement_id": "uuid", "program": "text", "lead_id": "uuid",
    "product": "text", "stage": "text", "status": "text", "decided_at": "timestamptz",
})  # fmt: skip
STATUSES: Sequence[TouchStatus] = (
    *("withheld",) * 700, *("sent",) * 280, *("due",) * 17, "failed", "unknown", "sending",
)  # fmt: skip


async def fill(engine: AsyncEngine, scoring: Scoring, leads: int, touches: int) -> None:
    """Fills an empty database, and lets PostgreSQL look at it as its autovacuum would."""
    ids: list[uuid.UUID] = []
    for start in range(0, leads, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, leads))
        made = list(_leads(scoring, numbers))
        ids += (lead.id for lead in made)
        async with engine.begin() as connection:
            await Store(connection).write(made, scoring.playbook.fold_hash)
            await copy(connection, IDENTIFIER, (
                (int(Kind.EMAIL), _address(number), lead.id)
                for number, lead in zip(numbers, made, strict=True)
            ))  # fmt: skip
    async with engine.begin() as connection:
        await _touches(connection, scoring, ids, touches)
    async with engine.connect() as connection:
        outside = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await outside.execute(text("VACUUM ANALYZE"))


def _address(number: int) -> str:
    return f"person{number}@firm{number % 5000}.example"


def _leads(scoring: Scoring, numbers: Sequence[int]) -> Iterator[LeadRow]:
    """Leads as the handler would write them now."""
    now, product = scoring.clock.now_us(), scoring.playbook.products[0]
    sets = [_events(random.Random(number), number, now) for number in numbers]
    folds = scoring.fold.refold(product, sets)
    profiles = [profile_of(events) for events in sets]
    fits = [scoring.fold.fit.points(profile.fit_traits()) for profile in profiles]
    views = scoring.fold.view(folds, [now] * len(folds), fits)
    for profile, fold, view in zip(profiles, folds, views, strict=True):
        state = scoring.initial(product)
        state.fold, state.view, state.as_of = fold, view, profile.last_at
        state.qualified = scoring.fold.fit.qualified(view.fit)
        state.sales = profile.sales_of(product, [product])
        yield LeadRow(
            uuid.uuid4(), 1, profile, states={product: state}, created=True,
            company_key=company_key(company_of(profile, scoring.cleaner)),
        )  # fmt: skip


def _events(rng: random.Random, number: int, now: int) -> list[Event]:
    """One to eight acts of one person within ninety days."""
    moments = sorted(now - rng.randrange(90 * DAY) for _ in range(rng.randrange(1, 9)))
    traits = {"title": rng.choice(TITLES), "country": rng.choice(COUNTRIES)}
    return [
        Event(at, event_uid("bench", f"{number}-{n}"), Interaction(
            id=f"{number}-{n}", type=rng.choice(ACTS), email=_address(number), traits=traits,
            company=f"Firm {number % 5000}",
        ))
        for n, at in enumerate(moments)
    ]  # fmt: skip


async def _touches(
    connection: AsyncConnection, scoring: Scoring, leads: Sequence[uuid.UUID], touches: int
) -> None:
    """Touches of these leads over thirty days, few of them in the rare statuses."""
    rng, now = random.Random(3), scoring.clock.now_us()
    made = [
        (
            uuid.uuid4(),
            rng.choice(leads),
            rng.choice(STATUSES),
            from_us(now - rng.randrange(30 * DAY)),
        )
        for _ in range(touches)
    ]
    await copy(connection, NURTURE_TOUCH, (
        (id, uuid.uuid4(), "bench", lead, "default", "decision", status, at)
        for id, lead, status, at in made
    ))  # fmt: skip
    await copy(connection, SCORER_TOUCH, (
        (id, lead, status, "", "", at, _body(id, lead, status)) for id, lead, status, at in made
    ))  # fmt: skip


def _body(id: uuid.UUID, lead: uuid.UUID, status: TouchStatus) -> str:
    touch = Touch(
        id=str(id), lead=str(lead), product="default", announcement=str(id), program="bench",
        stage="decision", status=status,
    )  # fmt: skip
    return encode_bytes(touch).decode()
