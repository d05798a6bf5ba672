"""Who can post here, how to set it up there, and the secrets of senders who sign."""

from collections import defaultdict
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.ingest import senders
from services.ingest.registry import FORMS, MAILBOX, served
from services.ingest.source_stats import source_guide
from services.ingest.sources.contract import Remark, Source
from services.ingest.sources.remarks import sentence
from services.shared import installation
from services.shared.clock import rfc3339
from services.shared.db import open_engine, rows
from services.shared.errors import Reject
from services.shared.playbook.loading import load
from services.shared.settings import Settings

IN_FORCE = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"


class SourceStatus(NamedTuple):
    """A source with its address, its set-up, and what came from it; times as RFC 3339.

    `signs` says that its requests are signed with one of `secrets` secrets, instead of bringing an
    API key; `state` is `heard` once something came.
    """

    name: str
    title: str
    address: str
    signs: bool
    secrets: int
    state: str
    last_heard_at: str | None
    accepted: int
    refused: int
    last_refusal: str | None
    steps: list[str]
    snippet: str
    remarks: list[dict[str, Any]]


class SourceRemark(NamedTuple):
    """What was accepted otherwise than as it was written, and how often; times as RFC 3339."""

    kind: str
    field: str
    text: str
    nearest: str
    seen: int
    last_at: str
    sentence: str


class ConnectedSecret(NamedTuple):
    """A secret that is in force from now on."""

    id: str
    secret: str


class SecretInForce(NamedTuple):
    """What may be shown of a secret; times as RFC 3339."""

    id: str
    source: str
    name: str
    created_at: str
    expires_at: str | None


async def read_all(settings: Settings) -> list[SourceStatus]:
    """Every source."""
    engine = open_engine(settings)
    try:
        async with engine.connect() as connection:
            stats = await rows(connection, "SELECT * FROM access.source")
            secrets = await _count_secrets(connection)
            remarks = await _remarks(connection)
    finally:
        await engine.dispose()
    stats_of = {row.name: row for row in stats}
    return [
        _status(source, settings, stats_of.get(source.name), secrets.get(source.name, 0))._replace(
            remarks=[remark._asdict() for remark in remarks[source.name]]
        )
        for source in _sources(settings)
    ]


async def _count_secrets(connection: AsyncConnection) -> dict[str, int]:
    """Secrets in force, by source."""
    found = await rows(
        connection,
        "SELECT source, count(*) AS secrets FROM access.sender_secret "
        f"WHERE {IN_FORCE} GROUP BY source",
    )
    return {row.source: row.secrets for row in found}


async def _remarks(connection: AsyncConnection) -> defaultdict[str, list[SourceRemark]]:
    """The remarks of each source, the most frequent first."""
    found = await rows(
        connection,
        "SELECT source, kind, field, text, nearest, seen, last_at FROM access.source_remark "
        "ORDER BY seen DESC, kind, field, text",
    )
    remarks = defaultdict(list)
    for source, kind, field, text, nearest, seen, last_at in found:
        words = sentence(Remark(kind, field, text, nearest))
        remarks[source].append(
            SourceRemark(kind, field, text, nearest, seen, rfc3339(last_at), words)
        )
    return remarks


def _status(source: Source, settings: Settings, stats: Any, secrets: int) -> SourceStatus:
    """`stats` is the source's row of `access.source`, None where nothing ever came."""
    guide = source_guide(source, settings.public_url)
    key = settings.public_key.get_secret_value() or "PUBLIC_KEY"
    return SourceStatus(
        name=source.name,
        title=guide.title,
        address=guide.address,
        signs=guide.signs,
        secrets=secrets,
        state="heard" if stats and stats.first_heard_at else "waiting for the first event",
        last_heard_at=rfc3339(stats.last_heard_at) if stats and stats.last_heard_at else None,
        accepted=stats.accepted if stats else 0,
        refused=stats.refused if stats else 0,
        last_refusal=(stats.last_refusal or None) if stats else None,
        steps=guide.steps,
        snippet=guide.snippet.replace("{key}", key),
        remarks=[],
    )


def _sources(settings: Settings) -> list[Source]:
    return [*served(load(settings.playbook)), FORMS, MAILBOX]


def named(settings: Settings, name: str) -> Source:
    """The source of this name. Raises Reject."""
    sources = {source.name: source for source in _sources(settings)}
    if name not in sources:
        raise Reject(f"no source {name!r}", remedy=f"use one of {', '.join(sorted(sources))}")
    return sources[name]


async def connect(
    settings: Settings, source: Source, given: str, name: str, expires_at: datetime | None
) -> ConnectedSecret:
    """Keeps a secret of a signing sender, a new one where none is given. Raises Reject."""
    if source.verify is None or source.new_secret is None:
        raise Reject(
            f"{source.name} brings an API key", remedy="make one with `ripeline keys new secret`"
        )
    secret = given or source.new_secret()[1]
    engine = open_engine(settings)
    try:
        await installation.check(engine, settings)  # what another pepper sealed nobody can open
        async with engine.begin() as connection:
            secret_id = await senders.connect(
                connection, vault(settings), source.name, secret, name, expires_at
            )
    finally:
        await engine.dispose()
    return ConnectedSecret(secret_id, secret)


async def secrets(settings: Settings) -> list[SecretInForce]:
    """The secrets in force."""
    engine = open_engine(settings)
    try:
        async with engine.connect() as connection:
            found = await rows(
                connection,
                "SELECT id, source, name, created_at, expires_at FROM access.sender_secret "
                f"WHERE {IN_FORCE} ORDER BY source, created_at",
            )
    finally:
        await engine.dispose()
    return [
        SecretInForce(
            row.id,
            row.source,
            row.name,
            rfc3339(row.created_at),
            rfc3339(row.expires_at) if row.expires_at else None,
        )
        for row in found
    ]


async def disconnect(settings: Settings, ids: list[str]) -> int:
    """Revokes secrets by id; returns how many were in force."""
    engine = open_engine(settings)
    try:
        async with engine.begin() as connection:
            return await senders.disconnect(connection, ids)
    finally:
        await engine.dispose()


def vault(settings: Settings) -> senders.Vault:
    """What seals secrets."""
    return senders.Vault(settings.pepper.get_secret_value().encode())
