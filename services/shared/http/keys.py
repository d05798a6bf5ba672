"""API keys `rl_<id>_<secret>`: hashes and scopes in the database, read again every second, so
that a revocation holds at once.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from fastapi.security import HTTPBearer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.people.audit import Actor, record
from services.shared.runtime import Heartbeat, refresh_every_second

Scope = Literal["secret", "public", "query"]
SAVE_USED_EVERY_S = 5.0  # how often the times of last use are written
# describes the header in OpenAPI documents; the key itself is checked by `ApiKeys`
BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="`rl_<id>_<secret>`")
PATTERN = re.compile(r"rl_([0-9a-z]{1,32})_([A-Za-z0-9_-]{20,100})")


@dataclass(frozen=True)
class ApiKey:
    """A key that may be used; `name` stays the same through rotations and is part of an event's
    identity.
    """

    id: str
    name: str
    scope: Scope
    hash: bytes
    expires_at: datetime | None
    origins: frozenset[str] | None = None  # None: those of the settings


def normal_origin(origin: str) -> str:
    """An origin as origins are compared: without a slash at its end, in lower case."""
    return origin.strip().rstrip("/").lower()


def new_key() -> str:
    """A new key: 12 hex digits of id and 256 random bits."""
    return f"rl_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"


def hash_of(secret: str) -> bytes:
    """The SHA-256 of a key's secret, which is random, so that neither salt nor stretching is
    needed.
    """
    return hashlib.sha256(secret.encode()).digest()


async def register(
    engine: AsyncEngine,
    key: str,
    name: str,
    scope: Scope,
    *,
    origins: Sequence[str] | None = None,
    expires_at: datetime | None = None,
    actor: Actor | None = None,
) -> str:
    """Inserts or overwrites a key and returns its id; the audit log says so of an `actor`. Raises
    Reject `key-form` when it is not of the form.
    """
    match = PATTERN.fullmatch(key)
    if not match:
        raise Reject(
            "not an API key",
            where=f"key {name}",
            remedy="make one with `ripeline keys new`",
            kind="key-form",
        )
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO access.api_key (id, name, scope, hash, origins, expires_at) "
                "VALUES (:id, :name, :scope, :hash, :origins, :expires_at) "
                "ON CONFLICT (id) DO UPDATE SET hash = excluded.hash, name = excluded.name, "
                "scope = excluded.scope"
            ),
            {
                "id": match[1],
                "name": name,
                "scope": scope,
                "hash": hash_of(match[2]),
                "origins": None if origins is None else list(map(normal_origin, origins)),
                "expires_at": expires_at,
            },
        )
        if actor:
            details = {"change": "made", "name": name, "scope": scope}
            await record(connection, actor, "key", f"key {match[1]}", details)
    return match[1]


class ApiKeys:
    """All keys that are not revoked, in memory."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._keys: dict[str, ApiKey] = {}
        self._origins: frozenset[str] = frozenset()
        self._used: set[str] = set()
        self._saved_at = 0.0
        self.loaded = False

    async def load(self) -> None:
        """Reads the keys, and every 5 seconds writes which were used. Raises Retry while the
        database is away or not migrated.
        """
        try:
            async with self._engine.begin() as connection:
                found = await connection.execute(
                    text(
                        "SELECT id, name, scope, hash, expires_at, origins FROM "
                        "access.api_key WHERE revoked_at IS NULL"
                    )
                )
                self._keys = {row.id: _key(row) for row in found}
                self.loaded = True
                await self._save_used(connection)
        except Exception as error:
            if is_transient(error):
                raise Retry("the database is away") from error
            if "access.api_key" in str(error):
                raise Retry("the database is not migrated yet: run `ripeline provision`") from error
            raise
        self._origins = frozenset[str]().union(
            *(key.origins for key in self._keys.values() if key.origins)
        )

    async def _save_used(self, connection: AsyncConnection) -> None:
        if self._used and time.monotonic() - self._saved_at > SAVE_USED_EVERY_S:
            used, self._used, self._saved_at = sorted(self._used), set(), time.monotonic()
            await connection.execute(
                text("UPDATE access.api_key SET last_used_at = now() WHERE id = ANY(:used)"),
                {"used": used},
            )

    async def refresh(self, heartbeat: Heartbeat) -> None:
        """Reads the keys again every second; while the database is away those known stay in
        force.
        """
        await refresh_every_second(self.load, heartbeat, "keys_wait")

    def in_force(self, key_id: str) -> ApiKey | None:
        """The key of this id, unless it is unknown, revoked or expired."""
        key = self._keys.get(key_id)
        return None if not key or (key.expires_at and key.expires_at < datetime.now(UTC)) else key

    def allows_origin(self, origin: str) -> bool:
        """Whether any key in force names this origin."""
        return bool(self._origins & {"*", origin})

    def authorize(self, given: str, *scopes: Scope) -> ApiKey:
        """The key in force whose text is `given`. Raises Reject `unauthorized` where there is none,
        `forbidden` where its scope is another, Retry before keys were ever read.
        """
        if not self.loaded:
            raise Retry("the database that holds the keys has not answered yet")
        match = PATTERN.fullmatch(given or "")
        key = self.in_force(match[1]) if match else None
        right = match and key and hmac.compare_digest(key.hash, hash_of(match[2]))
        if not key or not right:
            raise Reject(
                "the API key is missing or not valid",
                where="Authorization",
                remedy="send `Authorization: Bearer rl_<id>_<secret>` with a key that is in force",
                kind="unauthorized",
            )
        if key.scope not in scopes:
            raise Reject(
                f"a key of scope {key.scope!r} may not do this",
                where="Authorization",
                remedy=f"use a key of scope {' or '.join(scopes)}",
                kind="forbidden",
            )
        self._used.add(key.id)
        return key


def _key(row: Any) -> ApiKey:
    origins = None if row.origins is None else frozenset(row.origins)
    return ApiKey(row.id, row.name, row.scope, row.hash, row.expires_at, origins)


def bearer(authorization: str | None) -> str:
    """The key in an Authorization header, or ''."""
    scheme, _, given = (authorization or "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""
