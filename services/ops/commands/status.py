"""What is left to do, read from the database and the broker."""

import asyncio
import json
import time
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.ingest.spool_files import damaged_files, waiting_submissions
from services.scorer.checking import checks
from services.scorer.failing import NOT_FAILING
from services.scorer.models import Models
from services.shared.clock import Clock
from services.shared.contracts.events import CHANGES, CONSENTS, INTERACTIONS, TOUCHES
from services.shared.db import open_engine, rows, value
from services.shared.messaging import sending
from services.shared.messaging.kafka import EndOffsets, Log
from services.shared.messaging.progress import Schema, lost_records
from services.shared.settings import Settings

READS: dict[Schema, tuple[str, str]] = {
    "scorer": (INTERACTIONS, TOUCHES),
    "nurture": (CHANGES, CONSENTS),
}
IDLE_POLL_S = 0.3
_COUNTS = {
    "due": "SELECT count(*) FROM nurture.touch WHERE status = 'due' AND held_at IS NULL "
    "AND due_at <= to_timestamp(:now / 1e6)",
    "sending": "SELECT count(*) FROM nurture.touch WHERE status = 'sending'",
    "undecided": "SELECT count(*) FROM scorer.announcement a WHERE NOT EXISTS "
    "(SELECT 1 FROM nurture.touch t WHERE t.announcement_id = a.id)",
    "reviews": "SELECT count(*) FROM scorer.lead_state s WHERE next_review_at <= :now AND "
    f"{NOT_FAILING}",
    "failing_leads": "SELECT count(*) FROM scorer.failing_lead",
    "unknown": "SELECT count(*) FROM nurture.touch WHERE status = 'unknown'",
}

# What the write-back to the CRM is refused for is no failure of one delivery but of our settings.
STOPS = (
    "SELECT channel, why FROM access.channel_stop UNION ALL (SELECT 'crm', problem FROM "
    "scorer.writeback WHERE problem LIKE 'RIPELINE_CRM_URL: %' LIMIT 1)"
)

RECEIVERS = (
    "SELECT receiver, state, sent, complained, bounced, why FROM access.receiver "
    "ORDER BY state = 'ok', complained DESC, bounced DESC, receiver LIMIT 100"
)


class NotIdle(Exception):
    """Something is left to do that nobody will do in time, or that nobody can do."""


class Status(NamedTuple):
    """Counts of what is left to do; `idle` where nothing is.

    `lag` and `outbox` are records by service. `due` are touches whose time has come; those due
    later do not count against `idle`. `failing_leads` cannot be read or folded, and are tried again
    after a growing delay. `unknown` are touches that may have been sent, `braked` whether the kill
    switch is on, `stopped` why the server of a channel, or the CRM's, cannot be used, `receivers`
    the worst hundred that sent mails back or called them spam within seven days, `spool` records
    that ingest has not published yet. `unsendable` are records of the outboxes that were set aside,
    `gaps` those that the broker no longer had when they were to be read, at least, by
    topic, until somebody accepts it; 0 where a topic was created again and all that is known of the
    one before had been read. `waits_for` is why sending waits for an ingest, and `spool_damaged`
    are files of the spool that were put aside because not all in them could be read. `model` is the
    version in use, and `model_alarms` is what the last check of its predictions found.
    """

    lag: dict[Schema, int]
    due: int
    sending: int
    undecided: int
    reviews: int
    failing_leads: int
    unknown: int
    outbox: dict[Schema, int]
    dead_letters: int
    unsendable: int
    gaps: dict[str, int]
    braked: bool
    stopped: dict[str, str]
    receivers: list[dict[str, Any]]
    spool: int
    waits_for: list[str]
    spool_damaged: int
    model: str
    model_checked_at: str | None
    model_alarms: list[str]
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
            aside = [await _count(connection, f"{service}.unsendable") for service in READS]
            gaps = [await lost_records(connection, service) for service in READS]
            lost = {topic: count for of_service in gaps for topic, count in of_service.items()}
            held_up = await sending.read(connection)
            stops = await rows(connection, STOPS)
            model, checked = await Models(connection).in_use(), await checks(connection, most=1)
            receivers = await rows(connection, RECEIVERS)
            lag = {service: await _lag(connection, service, end) for service in READS}
    finally:
        await ends.close()
        await engine.dispose()
    has_spool = settings.spool_dir.is_dir()
    spool = waiting_submissions(settings.spool_dir) if has_spool else 0
    to_do = [counts[name] for name in ("due", "sending", "undecided", "reviews")]
    return Status(
        lag=lag,
        **counts,
        outbox=outbox,
        dead_letters=sum(dead),
        unsendable=sum(aside),
        gaps=lost,
        braked=held_up.brake is not None,
        stopped={stop.channel: stop.why for stop in stops},
        receivers=[dict(row._mapping) for row in receivers],
        spool=spool,
        waits_for=[lease.reason for lease in held_up.spools],
        spool_damaged=damaged_files(settings.spool_dir) if has_spool else 0,
        model=model,
        model_checked_at=checked[0].checked_at.isoformat() if checked else None,
        model_alarms=[alarm["what"] for each in checked for alarm in each.found["alarms"]],
        idle=not any([*lag.values(), *outbox.values(), *to_do, spool, *lost.values()]),
    )


async def wait_until_idle(settings: Settings, seconds: float) -> Status:
    """Waits until twice nothing is left to do; returns the last status. Raises NotIdle after
    `seconds`, and at once where records are gone that should have been read.
    """
    give_up, idle = time.monotonic() + seconds, 0
    while idle < 2:
        state = await read(settings)
        idle = idle + 1 if state.idle else 0
        if any(state.gaps.values()):
            gone = ", ".join(f"{count} of {topic}" for topic, count in state.gaps.items())
            raise NotIdle(f"records were lost before they were read: {gone}; see `ripeline gaps`")
        if time.monotonic() > give_up:
            raise NotIdle(f"not idle after {seconds:.0f} s: {json.dumps(state._asdict())}")
        await asyncio.sleep(IDLE_POLL_S)
    return state


async def _lag(connection: AsyncConnection, service: Schema, ends: dict[Log, int]) -> int:
    found = await rows(
        connection, f"SELECT topic, topic_id, partition, next_offset FROM {service}.progress"
    )
    applied = {Log(*row[:3]): row.next_offset for row in found}
    return sum(
        max(0, end - applied.get(of, 0)) for of, end in ends.items() if of.topic in READS[service]
    )


async def _counts(connection: AsyncConnection, now: int) -> dict[str, Any]:
    """The counts of `_COUNTS` at `now`, in µs since 1970."""
    return {
        name: await value(connection, statement, **({"now": now} if ":now" in statement else {}))
        for name, statement in _COUNTS.items()
    }


async def _count(connection: AsyncConnection, table: str) -> int:
    return int(await value(connection, f"SELECT count(*) FROM {table}"))
