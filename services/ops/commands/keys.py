"""API keys from the command line: made, listed, rotated and revoked, each of it in force within a
second.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.clock import rfc3339
from services.shared.db import rows
from services.shared.errors import Reject
from services.shared.http.keys import Scope, new_key, normal_origin, register


class Made(NamedTuple):
    """A key that was made now; it is shown once, for only its hash is kept."""

    id: str
    key: str
    name: str
    scope: str
    origins: list[str] | None
    expires_at: str | None


async def make(
    engine: AsyncEngine,
    name: str,
    scope: Scope,
    origins: Sequence[str] | None = None,
    expires_at: datetime | None = None,
) -> Made:
    """A new key; without origins those of the settings count."""
    key, own = new_key(), [normal_origin(one) for one in origins or ()] or None
    number = await register(engine, key, name, scope, origins=own, expires_at=expires_at)
    return Made(number, key, name, scope, own, rfc3339(expires_at) if expires_at else None)


async def listed(engine: AsyncEngine) -> list[dict[str, Any]]:
    """All keys that are not revoked, newest first; none of them can be read again."""
    async with engine.connect() as connection:
        found = await rows(
            connection,
            "SELECT id, name, scope, origins, created_at, last_used_at, expires_at FROM "
            "access.api_key "
            "WHERE revoked_at IS NULL ORDER BY created_at DESC, id",
        )
    return [
        {
            "id": row.id,
            "name": row.name,
            "scope": row.scope,
            "origins": row.origins,
            **{
                time: (at := getattr(row, time)) and rfc3339(at)
                for time in ("created_at", "last_used_at", "expires_at")
            },
        }
        for row in found
    ]


async def rotate(engine: AsyncEngine, number: str, grace: timedelta) -> Made:
    """A new key of the same name, scope and origins; the old one expires after the grace period.
    Raises Reject.
    """
    async with engine.connect() as connection:
        found = await rows(
            connection,
            "SELECT * FROM access.api_key WHERE id = :id AND revoked_at IS NULL",
            id=number,
        )
    if not found:
        raise _unknown(number)
    old = found[0]
    made = await make(engine, old.name, old.scope, old.origins)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE access.api_key SET expires_at = least(expires_at, :until) WHERE id = :id"),
            {"id": number, "until": datetime.now(UTC) + grace},
        )
    return made


async def revoke(engine: AsyncEngine, number: str) -> None:
    """Takes a key out of force. Raises Reject."""
    async with engine.begin() as connection:
        done = await connection.execute(
            text(
                "UPDATE access.api_key SET revoked_at = now() WHERE id = :id AND revoked_at IS NULL"
            ),
            {"id": number},
        )
    if not done.rowcount:
        raise _unknown(number)


def _unknown(number: str) -> Reject:
    return Reject(
        f"no key {number[:40]!r} in force",
        where="id",
        remedy="see `ripeline keys list`",
        kind="not-found",
    )
