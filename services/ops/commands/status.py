"""What is left to do, read from the database's own notes and the broker's ends."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from services.ingest.spool_files import waiting_submissions
from services.shared.clock import Clock
from services.shared.contracts.events import CHANGES, CONSENTS, INTERACTIONS, TOUCHES
from services.shared.db import open_engine, rows, value
from services.shared.messaging.kafka import EndOffsets
from services.shared.settings import Settings

READS = {"scorer": (INTERACTIONS, TOUCHES), "nurture": (CHANGES, CONSENTS)}


async def read(settings: Settings) -> dict[str, Any]:
    """Lag and outbox by service, due, undecided, spool, dead letters; `idle` where nothing is left
    to do now.

    `due` are touches whose time has come; those due later do not count against `idle`. Raises Retry
    while the broker is away, a database error while that is.
    """
    engine, ends = open_engine(settings), EndOffsets(settings)
    try:
        end = await ends.of([topic for topics in READS.values() for topic in topics])
        async with engine.connect() as connection:
            found = await _counts(connection, Clock.parse(settings.clock).now_us())
            lag = {service: await _lag(connection, service, end) for service in READS}
    finally:
        await ends.close()
        await engine.dispose()
    spool = waiting_submissions(settings.spool_dir) if settings.spool_dir.is_dir() else 0
    busy = [
        *lag.values(),
        *found["outbox"].values(),
        found["due"],
        found["sending"],
        found["undecided"],
        found["reviews"],
        spool,
    ]
    return {"lag": lag, **found, "spool": spool, "idle": not any(busy)}


async def _lag(connection: AsyncConnection, service: str, ends: dict[tuple[str, int], int]) -> int:
    found = await rows(connection, f"SELECT topic, partition, next_offset FROM {service}.progress")
    applied = {(row.topic, row.partition): row.next_offset for row in found}
    return sum(
        max(0, end - applied.get(part, 0))
        for part, end in ends.items()
        if part[0] in READS[service]
    )


async def _counts(connection: AsyncConnection, now: int) -> dict[str, Any]:
    asks = {
        "due": "SELECT count(*) FROM nurture.touch WHERE status = 'due' AND due_at <= "
        "to_timestamp(:now / 1e6)",
        "sending": "SELECT count(*) FROM nurture.touch WHERE status = 'sending'",
        "undecided": "SELECT count(*) FROM scorer.announcement a WHERE NOT EXISTS "
        "(SELECT 1 FROM nurture.touch t WHERE t.announcement_id = a.id)",
        "reviews": "SELECT count(*) FROM scorer.lead_state WHERE next_review_at <= :now",
        "unknown": "SELECT count(*) FROM nurture.touch WHERE status = 'unknown'",
    }
    found: dict[str, Any] = {}
    for name, ask in asks.items():
        found[name] = await value(connection, ask, **({"now": now} if ":now" in ask else {}))
    found["outbox"] = {
        s: await value(connection, f"SELECT count(*) FROM {s}.outbox") for s in READS
    }
    letters = [await value(connection, f"SELECT count(*) FROM {s}.dead_letter") for s in READS]
    found["dead_letters"] = sum(letters)
    found["braked"] = bool(await value(connection, "SELECT count(*) FROM nurture.brake"))
    return found
