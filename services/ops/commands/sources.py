"""`ripeline sources`: who can post here, how to set it up there, and a sample through the real
door.
"""

import asyncio
import json
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest import senders
from services.ingest.registry import FORMS, MAILBOX, served
from services.ingest.source_stats import source_guide
from services.ingest.sources.contract import Source
from services.shared.clock import Clock, rfc3339
from services.shared.contracts.identity import Kind
from services.shared.db import open_engine, rows
from services.shared.errors import Reject
from services.shared.http.keys import PATTERN, new_key, register
from services.shared.playbook.loading import load
from services.shared.settings import Settings

TEST = "test"  # the name under which a sample's events stand
TEMPORARY = timedelta(minutes=5)
TAKES_EFFECT_S, PATIENCE_S = 2.5, 20.0


async def listed(settings: Settings) -> list[dict[str, Any]]:
    """Every source with its address, set-up, secrets in force, and when it last spoke."""
    engine = open_engine(settings)
    try:
        async with engine.connect() as connection:
            spoke = {row.name: row for row in await rows(connection, "SELECT * FROM access.source")}
            held = await rows(
                connection,
                "SELECT source, count(*) AS secrets FROM access.sender_secret WHERE revoked_at "
                "IS NULL "
                "AND (expires_at IS NULL OR expires_at > now()) GROUP BY source",
            )
    finally:
        await engine.dispose()
    secrets = {row.source: row.secrets for row in held}
    return [
        _told(source, settings, spoke.get(source.name), secrets.get(source.name, 0))
        for source in _sources(settings)
    ]


def _told(source: Source, settings: Settings, spoke: Any, secrets: int) -> dict[str, Any]:
    guide = source_guide(source, settings.public_url)
    return {
        "name": source.name,
        "title": guide.title,
        "address": guide.address,
        "signs": guide.signs,
        "secrets": secrets,
        "state": "heard" if spoke and spoke.first_heard_at else "waiting for the first event",
        "last_heard_at": rfc3339(spoke.last_heard_at) if spoke and spoke.last_heard_at else None,
        "accepted": spoke.accepted if spoke else 0,
        "refused": spoke.refused if spoke else 0,
        "last_refusal": (spoke.last_refusal or None) if spoke else None,
        "steps": guide.steps,
        "snippet": guide.snippet.replace(
            "{key}", settings.public_key.get_secret_value() or "PUBLIC_KEY"
        ),
    }


def _sources(settings: Settings) -> list[Source]:
    return [*served(load(settings.playbook)), FORMS, MAILBOX]


def named(settings: Settings, name: str) -> Source:
    """The source of this name. Raises Reject."""
    there = {source.name: source for source in _sources(settings)}
    if name not in there:
        raise Reject(f"no source {name!r}", remedy=f"use one of {', '.join(sorted(there))}")
    return there[name]


async def connect(
    settings: Settings, source: Source, given: str, name: str, expires_at: datetime | None
) -> tuple[str, str]:
    """Keeps a secret of a signing sender, a new one where none is given; returns its id and
    itself.
    """
    if source.verify is None or source.new_secret is None:
        raise Reject(
            f"{source.name} brings an API key", remedy="make one with `ripeline keys new secret`"
        )
    secret = given or source.new_secret()[1]
    engine = open_engine(settings)
    try:
        async with engine.begin() as connection:
            return await senders.connect(
                connection, _vault(settings), source.name, secret, name, expires_at
            ), secret
    finally:
        await engine.dispose()


async def secrets(settings: Settings) -> list[dict[str, Any]]:
    """The secrets in force, without what they say."""
    engine = open_engine(settings)
    try:
        async with engine.connect() as connection:
            found = await rows(
                connection,
                "SELECT id, source, name, created_at, expires_at FROM access.sender_secret "
                "WHERE revoked_at IS NULL "
                "AND (expires_at IS NULL OR expires_at > now()) ORDER BY source, created_at",
            )
    finally:
        await engine.dispose()
    return [
        {
            "id": row.id, "source": row.source, "name": row.name,
            "created_at": rfc3339(row.created_at),
            "expires_at": rfc3339(row.expires_at) if row.expires_at else None,
        }
        for row in found
    ]  # fmt: skip


async def disconnect(settings: Settings, ids: list[str]) -> int:
    """Revokes secrets by id; returns how many were in force."""
    engine = open_engine(settings)
    try:
        async with engine.begin() as connection:
            return await senders.disconnect(connection, ids)
    finally:
        await engine.dispose()


async def tried(settings: Settings, source: Source, url: str) -> dict[str, Any]:
    """Sends a signed sample through the real door and follows it into a lead.

    It makes a key or a secret of its own for the purpose and takes it back. Returns {source,
    status, answer, lead, stage, events, seconds, ok}.
    """
    if source.sample is None:
        raise Reject(f"{source.name} has no sample", remedy="let the sender itself send a test")
    engine = open_engine(settings)
    began = time.monotonic()
    address = f"sample-{uuid.uuid4().hex[:12]}@{source.name}.example"
    try:
        found = await (_signed if source.verify else _keyed)(engine, settings, source, address, url)
        lead = await _lead(engine, address) if found["status"] == 200 else None
    finally:
        await engine.dispose()
    seconds = round(time.monotonic() - began, 2)
    return {
        "source": source.name,
        **found,
        **(lead or {"lead": None}),
        "seconds": seconds,
        "ok": lead is not None,
    }


async def _signed(
    engine: AsyncEngine, settings: Settings, source: Source, address: str, url: str
) -> dict[str, Any]:
    if source.new_secret is None or source.sign is None or source.sample is None:
        raise Reject(
            f"no sample of {source.name} can be signed", remedy="let the sender itself send a test"
        )
    signer, verifier = source.new_secret()
    async with engine.begin() as connection:
        expires_at = datetime.now(UTC) + TEMPORARY
        number = await senders.connect(
            connection, _vault(settings), source.name, verifier, TEST, expires_at
        )
    try:
        await asyncio.sleep(TAKES_EFFECT_S)
        now = Clock.parse(settings.clock).now()
        public = settings.public_url.rstrip("/") + source.paths[0]
        sample = source.sign(source.sample(address, now), signer, public, now)
        return await _post(settings, source, sample, url, {})
    finally:
        async with engine.begin() as connection:
            await senders.disconnect(connection, [number])


async def _keyed(
    engine: AsyncEngine, settings: Settings, source: Source, address: str, url: str
) -> dict[str, Any]:
    assert source.sample
    key = new_key()
    await register(engine, key, TEST, "secret")
    try:
        await asyncio.sleep(TAKES_EFFECT_S)
        sample = source.sample(address, Clock.parse(settings.clock).now())
        return await _post(settings, source, sample, url, {"Authorization": f"Bearer {key}"})
    finally:
        match = PATTERN.fullmatch(key)
        async with engine.begin() as connection:
            await connection.execute(
                text("UPDATE access.api_key SET revoked_at = now() WHERE id = :id"),
                {"id": match[1] if match else ""},
            )


async def _post(
    settings: Settings, source: Source, sample: Any, url: str, extra: dict[str, str]
) -> dict[str, Any]:
    base = (url or settings.ingest_url or settings.public_url).rstrip("/")
    headers = (
        dict(sample.headers)
        | extra
        | {"Content-Type": sample.headers.get("Content-Type", sample.media)}
    )
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE_S)) as http,
            http.post(
                base + (sample.path or source.paths[0]), data=sample.body, headers=headers,
                params=dict(sample.query),
                allow_redirects=False,
            ) as answer,
        ):  # fmt: skip
            return {"status": answer.status, "answer": _read(await answer.text())}
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Reject(
            f"nobody answers at {base}: {type(error).__name__}",
            remedy="start ingest, or say where it is with --url",
        ) from error


def _read(answer: str) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        return f"a page of {len(answer):,} characters"


async def _lead(engine: AsyncEngine, address: str) -> dict[str, Any] | None:
    """The lead of the address, once the scorer has one."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        async with engine.connect() as connection:
            found = await rows(
                connection,
                "SELECT i.lead_id, s.stage, (SELECT count(*) FROM scorer.event e WHERE "
                "e.lead_id = i.lead_id) AS events "
                "FROM scorer.identifier i JOIN scorer.lead_state s ON s.lead_id = i.lead_id "
                "WHERE i.kind = :kind AND i.value = :address LIMIT 1",
                kind=int(Kind.EMAIL), address=address,
            )  # fmt: skip
        if found:
            return {
                "lead": str(found[0].lead_id),
                "stage": found[0].stage,
                "events": found[0].events,
            }
        await asyncio.sleep(0.1)
    return None


def _vault(settings: Settings) -> senders.Vault:
    return senders.Vault(settings.pepper.get_secret_value().encode())
