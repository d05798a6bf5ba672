"""What a person decides about sending: the kill switch, and pauses or stages of single leads."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.messaging import sending


async def stop_sending(engine: AsyncEngine) -> None:
    """Turns the kill switch on: nothing is sent any more."""
    async with engine.begin() as connection:
        await sending.stop(connection, "the command line")


async def resume_sending(engine: AsyncEngine) -> None:
    """Turns the kill switch off."""
    async with engine.begin() as connection:
        await sending.resume(connection)


async def release_receiver(engine: AsyncEngine, receiver: str, now: datetime) -> bool:
    """Lets mails go to a receiver again, and counts its complaints from `now` on; returns whether
    it is known.
    """
    async with engine.begin() as connection:
        values = {"receiver": receiver, "now": now}
        known = await connection.execute(text(_RELEASED), values)
        for statement in _RELEASE:
            await connection.execute(text(statement), values)
    return bool(known.rowcount)


async def pause_lead(engine: AsyncEngine, lead: uuid.UUID, until: datetime) -> None:
    """Sends the lead nothing until then but what it asks for."""
    await _run(
        engine,
        f"INSERT INTO nurture.pause VALUES ({_SURVIVING}, :until) "
        "ON CONFLICT (lead_id) DO UPDATE SET until = excluded.until",
        lead=lead,
        until=until,
    )


async def assert_stage(engine: AsyncEngine, lead: uuid.UUID, stage: str, until: datetime) -> None:
    """Has nurture take this stage for the lead's until then."""
    await _run(
        engine,
        f"INSERT INTO nurture.asserted_stage VALUES ({_SURVIVING}, :stage, :until) "
        "ON CONFLICT (lead_id) DO UPDATE SET stage = excluded.stage, until = excluded.until",
        lead=lead,
        stage=stage,
        until=until,
    )
    await _ask_again(engine, lead)


async def release_lead(engine: AsyncEngine, lead: uuid.UUID) -> None:
    """Takes back pause and stage."""
    for table in ("nurture.pause", "nurture.asserted_stage"):
        await _run(engine, f"DELETE FROM {table} WHERE lead_id = {_SURVIVING}", lead=lead)
    await _ask_again(engine, lead)


async def _ask_again(engine: AsyncEngine, lead: uuid.UUID) -> None:
    """Has nurture decide again what waits for the lead."""
    for statement in _ASK_AGAIN:
        await _run(engine, statement, lead=lead)


async def _run(engine: AsyncEngine, statement: str, **values: Any) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(statement), values)


# the lead into which it was merged, if any
_SURVIVING = "coalesce((SELECT into_lead FROM nurture.merged WHERE lead_id = :lead), :lead)"
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
