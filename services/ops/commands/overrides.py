"""What a person decides about sending: the kill switch, and pauses or stages of single leads."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.shared.clock import rfc3339
from services.shared.messaging import sending
from services.shared.people.audit import command_line, record


async def stop_sending(engine: AsyncEngine) -> None:
    """Turns the kill switch on: nothing is sent any more."""
    async with engine.begin() as connection:
        await sending.stop(connection, "the command line")
        await record(connection, command_line(), "brake", "sending", {"to": "on"})


async def resume_sending(engine: AsyncEngine) -> None:
    """Turns the kill switch off."""
    async with engine.begin() as connection:
        await sending.resume(connection)
        await record(connection, command_line(), "brake", "sending", {"to": "off"})


async def release_receiver(engine: AsyncEngine, receiver: str, now: datetime) -> bool:
    """Lets mails go to a receiver again, and counts its complaints from `now` on; returns whether
    it is known.
    """
    async with engine.begin() as connection:
        values = {"receiver": receiver, "now": now}
        known = await connection.execute(text(_RELEASED), values)
        for statement in _RELEASE:
            await connection.execute(text(statement), values)
        if known.rowcount:
            await record(connection, command_line(), "release", f"receiver {receiver}")
    return bool(known.rowcount)


async def pause_lead(engine: AsyncEngine, lead: uuid.UUID, until: datetime) -> None:
    """Sends the lead nothing until then but what it asks for."""
    async with engine.begin() as connection:
        await _run(connection, _PAUSE, lead=lead, until=until)
        details = {"until": rfc3339(until)}
        await record(connection, command_line(), "pause", f"lead {lead}", details)


async def assert_stage(engine: AsyncEngine, lead: uuid.UUID, stage: str, until: datetime) -> None:
    """Has nurture take this stage for the lead's until then."""
    async with engine.begin() as connection:
        await _run(connection, _ASSERT, lead=lead, stage=stage, until=until)
        await _ask_again(connection, lead)
        details = {"stage": stage, "until": rfc3339(until)}
        await record(connection, command_line(), "assertion", f"lead {lead}", details)


async def release_lead(engine: AsyncEngine, lead: uuid.UUID) -> None:
    """Takes back pause and stage."""
    async with engine.begin() as connection:
        for table in ("nurture.pause", "nurture.asserted_stage"):
            await _run(connection, f"DELETE FROM {table} WHERE lead_id = {_SURVIVING}", lead=lead)
        await _ask_again(connection, lead)
        await record(connection, command_line(), "release", f"lead {lead}")


async def _ask_again(connection: AsyncConnection, lead: uuid.UUID) -> None:
    """Has nurture decide again what waits for the lead."""
    for statement in _ASK_AGAIN:
        await _run(connection, statement, lead=lead)


async def _run(connection: AsyncConnection, statement: str, **values: Any) -> None:
    await connection.execute(text(statement), values)


# the lead into which it was merged, if any
_SURVIVING = "coalesce((SELECT into_lead FROM nurture.merged WHERE lead_id = :lead), :lead)"
_PAUSE = (
    f"INSERT INTO nurture.pause VALUES ({_SURVIVING}, :until) "
    "ON CONFLICT (lead_id) DO UPDATE SET until = excluded.until"
)
_ASSERT = (
    f"INSERT INTO nurture.asserted_stage VALUES ({_SURVIVING}, :stage, :until) "
    "ON CONFLICT (lead_id) DO UPDATE SET stage = excluded.stage, until = excluded.until"
)
# the epoch lies before now on any clock of nurture's
_ASK_AGAIN = (
    "UPDATE nurture.enrolment SET next_at = to_timestamp(0) "
    f"WHERE state IN ('active', 'left') AND lead_id = {_SURVIVING}",
    "UPDATE nurture.touch SET due_at = least(due_at, now()) "
    f"WHERE status = 'due' AND reason = 'paused' AND lead_id = {_SURVIVING}",
)
_RELEASED = """INSERT INTO nurture.receiver_release SELECT receiver, :now FROM (
        SELECT receiver FROM access.receiver
        UNION SELECT receiver FROM nurture.receiver_refusal) known WHERE receiver = :receiver
    ON CONFLICT (receiver) DO UPDATE SET at = excluded.at"""
_RELEASE = (
    "DELETE FROM nurture.receiver_refusal WHERE receiver = :receiver",
    "DELETE FROM access.receiver WHERE receiver = :receiver",
    "UPDATE nurture.touch SET due_at = least(due_at, :now) "
    "WHERE status = 'due' AND reason = 'receiver_stopped'",
)
