"""API keys `rl_<id>_<secret>`: kept hashed, scoped, read again every second so that a revocation
holds at once.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.runtime import Heartbeat

log = structlog.get_logger()
Scope = Literal["secret", "public", "query"]
REFRESH_S = 0.8  # so that what is changed holds within a second
NOTED_EVERY_S = 5.0
FORM = re.compile(r"rl_([0-9a-z]{1,32})_([A-Za-z0-9_-]{20,100})")


@dataclass(frozen=True)
class Key:
    """A key that may be used; `name` stays the same through rotations and is part of an event's
    identity.
    """

    id: str
    name: str
    scope: Scope
    hash: bytes
    expires_at: datetime | None
    origins: frozenset[str] | None = None  # None: those of the settings


def plain_origin(origin: str) -> str:
    """An origin as it is compared."""
    return origin.strip().rstrip("/").lower()


def new_key() -> str:
    """A new key: 12 hex digits of id and 256 random bits."""
    return f"rl_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"


def hashed(secret: str) -> bytes:
    """What is kept of a secret; it is random, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).digest()


async def register(
    engine: AsyncEngine,
    key: str,
    name: str,
    scope: Scope,
    *,
    origins: Sequence[str] | None = None,
    expires_at: datetime | None = None,
) -> str:
    """Makes a key usable and returns its id; twice is once. Raises Reject when it is not of the
    form.
    """
    match = FORM.fullmatch(key)
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
                "hash": hashed(match[2]),
                "origins": None if origins is None else [plain_origin(one) for one in origins],
                "expires_at": expires_at,
            },
        )
    return match[1]


class Keys:
    """The keys in force, in memory."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._keys: dict[str, Key] = {}
        self._origins: frozenset[str] = frozenset()
        self._used: set[str] = set()
        self._noted_at = 0.0
        self.loaded = False

    async def load(self) -> None:
        """Reads them, and now and then writes down which were used; raises Retry while the database
        is away.
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
                await self._note_used(connection)
        except Exception as error:
            if is_transient(error):
                raise Retry("the database is away") from error
            if "access.api_key" in str(error):
                raise Retry("the database is not migrated yet: run `ripeline provision`") from error
            raise
        self._origins = frozenset[str]().union(
            *(key.origins for key in self._keys.values() if key.origins)
        )

    async def _note_used(self, connection: AsyncConnection) -> None:
        if self._used and time.monotonic() - self._noted_at > NOTED_EVERY_S:
            used, self._used, self._noted_at = sorted(self._used), set(), time.monotonic()
            await connection.execute(
                text("UPDATE access.api_key SET last_used_at = now() WHERE id = ANY(:used)"),
                {"used": used},
            )

    async def refresh(self, heartbeat: Heartbeat) -> None:
        """Reads them again every second; while the database is away those known stay in force."""
        await refreshed(self.load, heartbeat, "keys_wait")

    def in_force(self, key_id: str) -> Key | None:
        """The key of this id, unless it is unknown, revoked or expired."""
        key = self._keys.get(key_id)
        return None if not key or (key.expires_at and key.expires_at < datetime.now(UTC)) else key

    def serves(self, origin: str) -> bool:
        """Whether any key in force names this origin."""
        return bool(self._origins & {"*", origin})

    def check(self, given: str, *scopes: Scope) -> Key:
        """The key that `given` is. Raises Reject of kind `unauthorized` or `forbidden`, Retry
        before keys were ever read.
        """
        if not self.loaded:
            raise Retry("the database that holds the keys has not answered yet")
        match = FORM.fullmatch(given or "")
        key = self.in_force(match[1]) if match else None
        right = match and key and hmac.compare_digest(key.hash, hashed(match[2]))
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


def _key(row: Any) -> Key:
    origins = None if row.origins is None else frozenset(row.origins)
    return Key(row.id, row.name, row.scope, row.hash, row.expires_at, origins)


async def refreshed(load: Callable[[], Awaitable[None]], heartbeat: Heartbeat, waits: str) -> None:
    """Calls `load` once a second until cancelled; while it raises Retry what was loaded before
    stays.
    """
    told = ""
    while True:
        heartbeat()
        try:
            await load()
            told = ""
        except Retry as error:
            if str(error) != told:
                log.warning(waits, reason=str(error))
            told = str(error)
        await asyncio.sleep(REFRESH_S)


def bearer(authorization: str | None) -> str:
    """The key in an Authorization header, or ''."""
    scheme, _, given = (authorization or "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""
