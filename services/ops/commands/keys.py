"""API keys: made, listed, rotated and revoked, each of it in force within a second."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.clock import rfc3339
from services.shared.db import rows
from services.shared.errors import Reject
from services.shared.http.keys import Scope, new_key, normal_origin, register
from services.shared.people.audit import command_line, record


class NewKey(NamedTuple):
    """A key that was made now; it is shown once, for only its hash is kept."""

    id: str
    key: str
    name: str
    scope: str
    origins: list[str] | None
    expires_at: str | None


class KeyInForce(NamedTuple):
    """What is kept of a key; times as RFC 3339. Without origins those of the settings count."""

    id: str
    name: str
    scope: str
    origins: list[str] | None
    created_at: str | None
    last_used_at: str | None
    expires_at: str | None


async def make(
    engine: AsyncEngine,
    name: str,
    scope: Scope,
    origins: Sequence[str] | None = None,
    expires_at: datetime | None = None,
) -> NewKey:
    """Makes a key; without origins those of the settings count."""
    key, own = new_key(), [normal_origin(origin) for origin in origins or ()] or None
    key_id = await register(
        engine, key, name, scope, origins=own, expires_at=expires_at, actor=command_line()
    )
    return NewKey(key_id, key, name, scope, own, _time(expires_at))


async def in_force(engine: AsyncEngine) -> list[KeyInForce]:
    """All keys that are not revoked, newest first."""
    async with engine.connect() as connection:
        found = await rows(
            connection,
            "SELECT id, name, scope, origins, created_at, last_used_at, expires_at "
            "FROM access.api_key WHERE revoked_at IS NULL ORDER BY created_at DESC, id",
        )
    return [_key_in_force(row) for row in found]


async def rotate(engine: AsyncEngine, key_id: str, grace: timedelta) -> NewKey:
    """Makes a key of the same name, scope and origins; the old one expires after the grace period.
    Raises Reject.
    """
    async with engine.connect() as connection:
        found = await rows(
            connection,
            "SELECT * FROM access.api_key WHERE id = :id AND revoked_at IS NULL",
            id=key_id,
        )
    if not found:
        raise _unknown(key_id)
    old = found[0]
    made = await make(engine, old.name, old.scope, old.origins)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE access.api_key SET expires_at = least(expires_at, :until) WHERE id = :id"),
            {"id": key_id, "until": datetime.now(UTC) + grace},
        )
        details = {"change": "rotated", "to": made.id}
        await record(connection, command_line(), "key", f"key {key_id}", details)
    return made


async def revoke(engine: AsyncEngine, key_id: str) -> None:
    """Takes a key out of force. Raises Reject."""
    async with engine.begin() as connection:
        done = await connection.execute(
            text(
                "UPDATE access.api_key SET revoked_at = now() WHERE id = :id AND revoked_at IS NULL"
            ),
            {"id": key_id},
        )
        if not done.rowcount:
            raise _unknown(key_id)
        await record(connection, command_line(), "key", f"key {key_id}", {"change": "revoked"})


def _key_in_force(row: Any) -> KeyInForce:
    return KeyInForce(
        row.id,
        row.name,
        row.scope,
        row.origins,
        _time(row.created_at),
        _time(row.last_used_at),
        _time(row.expires_at),
    )


def _time(at: datetime | None) -> str | None:
    return rfc3339(at) if at else None


def _unknown(key_id: str) -> Reject:
    return Reject(
        f"no key {key_id[:40]!r} in force",
        where="id",
        remedy="see `ripeline keys list`",
        kind="not-found",
    )
