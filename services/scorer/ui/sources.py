"""What the page shows of the sources that ingest serves: how to set each up, and when it last
spoke.
"""

from datetime import datetime

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.db import rows

KEY_TO_MAKE = "rl_…"  # a secret key stands on no page


class SourceView(msgspec.Struct, frozen=True):
    """A source; `connected` where a signing sender's secret is in force."""

    name: str
    title: str
    address: str
    signs: bool
    connected: bool
    steps: list[str]
    snippet: str
    first_heard_at: datetime | None
    last_heard_at: datetime | None
    accepted: int
    refused: int
    last_refusal: str


async def sources(engine: AsyncEngine, public_key: str) -> list[SourceView]:
    """The sources that are served: those that speak first, then those that sign and wait for a
    secret last.
    """
    async with engine.connect() as connection:
        found = await rows(
            connection,
            "SELECT s.*, EXISTS (SELECT 1 FROM access.sender_secret k WHERE k.source = s.name "
            "AND k.revoked_at IS NULL "
            "AND (k.expires_at IS NULL OR k.expires_at > now())) AS connected FROM "
            "access.source s WHERE s.served "
            "ORDER BY s.first_heard_at IS NULL, CAST(s.about ->> 'signs' AS boolean), s.name",
        )
    return [
        SourceView(
            name=row.name,
            title=row.about["title"],
            address=row.about["address"],
            signs=row.about["signs"],
            connected=row.connected,
            steps=[_filled(step, public_key) for step in row.about["steps"]],
            snippet=_filled(row.about["snippet"], public_key),
            first_heard_at=row.first_heard_at,
            last_heard_at=row.last_heard_at,
            accepted=row.accepted,
            refused=row.refused,
            last_refusal=row.last_refusal,
        )
        for row in found
    ]


def _filled(words: str, public_key: str) -> str:
    return words.replace("{key}", public_key or KEY_TO_MAKE).replace("{secret}", KEY_TO_MAKE)
