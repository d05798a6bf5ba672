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


async def release_lead(engine: AsyncEngine, lead: uuid.UUID) -> None:
    """Takes back pause and stage."""
    for table in ("nurture.pause", "nurture.asserted_stage"):
        await _run(engine, f"DELETE FROM {table} WHERE lead_id = {_SURVIVING}", lead=lead)


async def _run(engine: AsyncEngine, statement: str, **values: Any) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(statement), values)


# the lead into which it was merged, if any
_SURVIVING = "coalesce((SELECT into_lead FROM nurture.merged WHERE lead_id = :lead), :lead)"
