"""What a person decides about sending: the kill switch, and pauses or stages of single leads."""

import uuid
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine


async def stop_sending(engine: AsyncEngine) -> None:
    """Turns the kill switch on: nothing is sent any more."""
    async with engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO nurture.brake (held) VALUES (true) ON CONFLICT DO NOTHING")
        )


async def resume_sending(engine: AsyncEngine) -> None:
    """Turns the kill switch off."""
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM nurture.brake"))


async def pause_lead(engine: AsyncEngine, lead: uuid.UUID, until: datetime) -> None:
    """Sends the lead nothing until then but what it asks for; a stage asserted before stays."""
    await _override(engine, lead, until, stage="", paused=True)


async def assert_stage(engine: AsyncEngine, lead: uuid.UUID, stage: str, until: datetime) -> None:
    """Has nurture take this stage for the lead's until then; a pause set before stays."""
    await _override(engine, lead, until, stage=stage, paused=False)


async def release_lead(engine: AsyncEngine, lead: uuid.UUID) -> None:
    """Takes back pause and stage."""
    async with engine.begin() as connection:
        await connection.execute(
            text("DELETE FROM nurture.override WHERE lead_id = :lead"), {"lead": lead}
        )


async def _override(
    engine: AsyncEngine, lead: uuid.UUID, until: datetime, *, stage: str, paused: bool
) -> None:
    statement = """INSERT INTO nurture.override VALUES (
            coalesce((SELECT into_lead FROM nurture.merged WHERE lead_id = :lead), :lead),
            :stage, :paused, :until)
        ON CONFLICT (lead_id) DO UPDATE SET
            stage = CASE WHEN excluded.paused THEN override.stage ELSE excluded.stage END,
            paused = override.paused OR excluded.paused, until = excluded.until"""
    values = {"lead": lead, "stage": stage, "paused": paused, "until": until}
    async with engine.begin() as connection:
        await connection.execute(text(statement), values)
