"""Records that the broker no longer had when they were to be read."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ops.commands.status import READS
from services.shared.db import rows


class OpenGap(NamedTuple):
    """Offsets from `first` to before `end` of a partition; `why` as in `messaging.progress.Gap`."""

    service: str
    topic: str
    partition: int
    first: int
    end: int
    why: str
    noticed_at: datetime


async def open_gaps(engine: AsyncEngine) -> list[OpenGap]:
    """Those that nobody has accepted, the oldest first."""
    async with engine.connect() as connection:
        found = [
            OpenGap(service, **row._mapping)
            for service in READS
            for row in await rows(
                connection,
                "SELECT topic, partition, first, log_end AS end, why, noticed_at "
                f"FROM {service}.gap WHERE accepted_at IS NULL",
            )
        ]
    return sorted(found, key=lambda gap: gap.noticed_at)


async def accept_gaps(engine: AsyncEngine, gaps: Sequence[OpenGap]) -> None:
    """Somebody answers for these gaps: sending and `idle` are held up by them no more."""
    async with engine.begin() as connection:
        for service in READS:
            await connection.execute(
                text(
                    f"UPDATE {service}.gap SET accepted_at = now() "
                    "WHERE accepted_at IS NULL AND noticed_at = ANY(:noticed)"
                ),
                {"noticed": [gap.noticed_at for gap in gaps]},
            )
