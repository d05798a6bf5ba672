"""Channels that are paused because their server cannot be used; taking one up again."""

from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.store.channel_stops import ChannelStops
from services.shared.clock import rfc3339
from services.shared.people.audit import command_line, record


class PausedChannel(NamedTuple):
    """Times as RFC 3339."""

    channel: str
    why: str
    since: str
    retry_at: str
    attempts: int


async def paused(engine: AsyncEngine) -> list[PausedChannel]:
    """Every paused channel."""
    async with engine.connect() as connection:
        stops = await ChannelStops(connection).current()
    return [
        PausedChannel(
            each.channel, each.why, rfc3339(each.since), rfc3339(each.retry_at), each.attempts
        )
        for each in stops
    ]


async def resume(engine: AsyncEngine, channel: str) -> bool:
    """Takes a channel up again; returns whether it was paused."""
    async with engine.begin() as connection:
        paused = await ChannelStops(connection).release(channel)
        if paused:
            await record(connection, command_line(), "release", f"channel {channel}")
        return paused
