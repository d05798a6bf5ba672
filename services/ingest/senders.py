"""Secrets shared with senders who sign: sealed in the database, in memory reloaded every second."""

import base64
import hashlib
import secrets as random
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.ingest.sources.contract import InboundRequest, Secret, Source
from services.shared.db import is_transient, rows
from services.shared.errors import Reject, Retry
from services.shared.runtime import Heartbeat, refresh_every_second

TOKENS_KEPT = "interval '2 days'"  # longer than any sender repeats a request


class ActiveSecret(NamedTuple):
    """A secret that is not revoked, until it expires."""

    secret: Secret
    expires_at: datetime | None


class Vault:
    """Seals what has to be read again: a copy of the database without the pepper reveals no
    secret.
    """

    def __init__(self, pepper: bytes) -> None:
        self._fernet = Fernet(
            base64.urlsafe_b64encode(hashlib.sha256(b"sender secrets\0" + pepper).digest())
        )

    def seal(self, value: str) -> bytes:
        """The sealed value."""
        return self._fernet.encrypt(value.encode())

    def unseal(self, sealed: bytes) -> str:
        """The value; '' where another pepper sealed it."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            return ""


class SenderSecrets:
    """The secrets of connected senders, and which single-use tokens have been used."""

    def __init__(self, engine: AsyncEngine, pepper: bytes) -> None:
        self._engine, self._vault = engine, Vault(pepper)
        self._active: dict[str, list[ActiveSecret]] = {}
        self.loaded = False

    async def load(self) -> None:
        """Loads the secrets that are not revoked, and forgets old tokens. Raises Retry while the
        database is away.
        """
        active: dict[str, list[ActiveSecret]] = defaultdict(list)
        try:
            async with self._engine.begin() as connection:
                found = await rows(
                    connection,
                    "SELECT source, name, sealed, expires_at FROM access.sender_secret WHERE "
                    "revoked_at IS NULL "
                    "ORDER BY created_at DESC, id",
                )
                await connection.execute(
                    text(f"DELETE FROM access.used_token WHERE used_at < now() - {TOKENS_KEPT}")
                )
        except Exception as error:
            if is_transient(error):
                raise Retry("the database is away") from error
            raise
        for row in found:
            if value := self._vault.unseal(row.sealed):
                active[row.source].append(ActiveSecret(Secret(row.name, value), row.expires_at))
        self._active, self.loaded = active, True

    async def refresh(self, heartbeat: Heartbeat) -> None:
        """Reloads them every second; while the database is away those loaded stay in force."""
        await refresh_every_second(self.load, heartbeat, "sender_secrets_wait")

    def in_force(self, source: str) -> list[Secret]:
        """The secrets of a source, newest first. Raises Retry before they were ever loaded."""
        if not self.loaded:
            raise Retry("the database that holds the senders' secrets has not answered yet")
        now = datetime.now(UTC)
        return [
            secret
            for secret, expires_at in self._active.get(source, ())
            if not expires_at or expires_at > now
        ]

    async def use_token(self, source: Source, request: InboundRequest) -> None:
        """Marks the request's single-use token, if its scheme has one, as used by this body. Raises
        Reject `replayed` where another body used it.
        """
        token = source.single_use_token(request) if source.single_use_token else ""
        if not token:
            return
        body = hashlib.sha256(request.body).digest()
        statement = (
            "INSERT INTO access.used_token AS t (source, token, body) VALUES (:source, :token, "
            ":body) "
            "ON CONFLICT (source, token) DO UPDATE SET used_at = t.used_at RETURNING body"
        )
        values = {
            "source": source.name,
            "token": hashlib.sha256(token.encode()).digest(),
            "body": body,
        }
        async with self._engine.begin() as connection:
            before = (await connection.execute(text(statement), values)).scalar()
        if before != body:
            remedy = "sign every request with a token of its own"
            raise Reject(
                "this token has been used for another body",
                where="token",
                remedy=remedy,
                kind="replayed",
            )


async def connect(
    connection: AsyncConnection,
    vault: Vault,
    source: str,
    value: str,
    name: str = "default",
    expires_at: datetime | None = None,
) -> str:
    """Adds a secret of a source; returns the id under which it can be revoked."""
    secret_id = random.token_hex(4)
    await connection.execute(
        text(
            "INSERT INTO access.sender_secret (id, source, name, sealed, expires_at) "
            "VALUES (:id, :source, :name, :sealed, :expires_at)"
        ),
        {
            "id": secret_id,
            "source": source,
            "name": name,
            "sealed": vault.seal(value),
            "expires_at": expires_at,
        },
    )
    return secret_id


async def disconnect(connection: AsyncConnection, ids: Sequence[str]) -> int:
    """Revokes secrets; returns how many were in force."""
    done = await connection.execute(
        text(
            "UPDATE access.sender_secret SET revoked_at = now() WHERE id = ANY(:ids) AND "
            "revoked_at IS NULL"
        ),
        {"ids": list(ids)},
    )
    return int(done.rowcount)
