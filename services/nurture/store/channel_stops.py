"""Channels whose server is away or refuses us: why, since when, and when it is tried again.

The page and the command line read them too.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.shared.db import rows

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=10), timedelta(hours=1)
WAIT_FACTOR = 3  # between one attempt and the next


class ChannelStop(NamedTuple):
    """Nothing goes out over the channel until `retry_at`, and then one touch as a trial."""

    channel: str
    why: str
    since: datetime
    retry_at: datetime
    attempts: int


class ChannelStops:
    """Stops within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def current(self) -> list[ChannelStop]:
        """Every stop."""
        found = await rows(
            self._connection,
            "SELECT channel, why, since, retry_at, attempts FROM access.channel_stop",
        )
        return [ChannelStop(*row) for row in found]

    async def stop(self, channel: str, why: str, now: datetime) -> None:
        """Stops a channel, or notes a failed trial: the next one waits longer. Failures of touches
        that went out together count once.
        """
        await self._connection.execute(
            text(
                """INSERT INTO access.channel_stop AS s
                VALUES (:channel, :why, :now, CAST(:now AS timestamptz) + :first, 1)
                ON CONFLICT (channel) DO UPDATE SET why = excluded.why, attempts = s.attempts + 1,
                    retry_at = CAST(:now AS timestamptz) + least(
                        CAST(:longest AS interval),
                        :first * power(:factor, least(s.attempts, 30)))
                WHERE s.retry_at <= :now"""
            ),
            {
                "channel": channel, "why": why, "now": now, "first": FIRST_WAIT,
                "longest": LONGEST_WAIT, "factor": WAIT_FACTOR,
            },
        )  # fmt: skip

    async def release(self, channel: str) -> bool:
        """Lifts a stop; returns whether there was one."""
        done = await self._connection.execute(
            text("DELETE FROM access.channel_stop WHERE channel = :channel"), {"channel": channel}
        )
        return bool(done.rowcount)
