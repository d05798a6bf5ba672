"""What is left to do, read from the database and the broker."""

from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.ingest.spool_files import waiting_submissions
from services.scorer.failing import NOT_FAILING
from services.shared.clock import Clock
from services.shared.contracts.events import CHANGES, CONSENTS, INTERACTIONS, TOUCHES
from services.shared.db import open_engine, rows, value
from services.shared.messaging.kafka import EndOffsets
from services.shared.settings import Settings

READS = {"scorer": (INTERACTIONS, TOUCHES), "nurture": (CHANGES, CONSENTS)}
_COUNTS = {
    "due": "SELECT count(*) FROM nurture.touch WHERE status = 'due' AND due_at <= "
    "to_timestamp(:now / 1e6)",
    "sending": "SELECT count(*) FROM nurture.touch WHERE status = 'sending'",
    "undecided": "SELECT count(*) FROM scorer.announcement a WHERE NOT EXISTS "
    "(SELECT 1 FROM nurture.touch t WHERE t.announcement_id = a.id)",
    "reviews": "SELECT count(*) FROM scorer.lead_state s WHERE next_review_at <= :now AND "
    f"{NOT_FAILING}",
    "failing_leads": "SELECT count(*) FROM scorer.failing_lead",
    "unknown": "SELECT count(*) FROM nurture.touch WHERE status = 'unknown'",
}


class Status(NamedTuple):
    """Counts of what is left to do; `idle` where nothing is.

    `lag` and `outbox` are records by service. `due` are touches whose time has come; those due
    later do not count against `idle`. `failing_leads` cannot be read or folded, and are tried
    again after a growing delay. `unknown` are touches that may have been sent, `braked`
    whether the kill switch is on, `stopped` why the server of a channel cannot be used, `spool`
    records that ingest has not published yet.
    """

    lag: dict[str, int]
    due: int
    sending: int
    undecided: int
    reviews: int
    failing_leads: int
    unknown: int
    outbox: dict[str, int]
    dead_letters: int
    braked: bool
    stopped: dict[str, str]
    spool: int
    idle: bool


async def read(settings: Settings) -> Status:
    """Raises Retry while the broker is away, a database error while that is."""
    engine, ends = open_engine(settings), EndOffsets(settings)
    try:
        end = await ends.of([topic for topics in READS.values() for topic in topics])
        async with engine.connect() as connection:
            counts = await _counts(connection, Clock.parse(settings.clock).now_us())
            outbox = {service: await _count(connection, f"{service}.outbox") for service in READS}
            dead = [await _count(connection, f"{service}.dead_letter") for service in READS]
            braked = bool(await _count(connection, "nurture.brake"))
            stops = await rows(connection, "SELECT channel, why FROM access.channel_stop")
            lag = {service: await _lag(connection, service, end) for service in READS}
    finally:
        await ends.close()
        await engine.dispose()
    spool = waiting_submissions(settings.spool_dir) if settings.spool_dir.is_dir() else 0
    to_do = [counts[name] for name in ("due", "sending", "undecided", "reviews")]
    return Status(
        lag=lag,
        **counts,
        outbox=outbox,
        dead_letters=sum(dead),
        braked=braked,
        stopped={stop.channel: stop.why for stop in stops},
        spool=spool,
        idle=not any([*lag.values(), *outbox.values(), *to_do, spool]),
    )


async def _lag(connection: AsyncConnection, service: str, ends: dict[tuple[str, int], int]) -> int:
    found = await rows(connection, f"SELECT topic, partition, next_offset FROM {service}.progress")
    applied = {(row.topic, row.partition): row.next_offset for row in found}
    return sum(
        max(0, end - applied.get(partition, 0))
        for partition, end in ends.items()
        if partition[0] in READS[service]
    )


async def _counts(connection: AsyncConnection, now: int) -> dict[str, Any]:
    """The counts of `_COUNTS` at `now`, in µs since 1970."""
    return {
        name: await value(connection, statement, **({"now": now} if ":now" in statement else {}))
        for name, statement in _COUNTS.items()
    }


async def _count(connection: AsyncConnection, table: str) -> int:
    return int(await value(connection, f"SELECT count(*) FROM {table}"))
