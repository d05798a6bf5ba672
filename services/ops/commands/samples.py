"""A sample of a source, posted to the running ingest as its sender would, and followed into a
lead.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import aiohttp
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest import senders
from services.ingest.sources.contract import Sample, Source
from services.ops.commands.sources import vault
from services.shared.clock import Clock
from services.shared.contracts.identity import Kind
from services.shared.db import open_engine, rows
from services.shared.errors import Reject
from services.shared.http.keys import PATTERN, new_key, register
from services.shared.settings import Settings

NAME = "test"  # of the key or secret under which a sample is posted
EXPIRES_AFTER = timedelta(minutes=5)
TAKES_EFFECT_S = 2.5  # until every ingest has read a new key or secret
TIMEOUT_S = 20.0


class Posted(NamedTuple):
    """What ingest answered: its status, and its JSON or a description of what else it was."""

    status: int
    answer: Any


class SampleLead(NamedTuple):
    """The lead that a sample has become."""

    lead: str
    stage: str
    events: int


class Result(NamedTuple):
    """What became of a sample, after so many seconds; no lead where it did not arrive."""

    source: str
    status: int
    answer: Any
    lead: SampleLead | None
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """As `ripeline sources test --json` prints it."""
        lead = self.lead._asdict() if self.lead else {"lead": None}
        return {**self._asdict(), **lead, "seconds": self.seconds, "ok": self.lead is not None}


async def send(settings: Settings, source: Source, url: str) -> Result:
    """Sends a sample to ingest at `url`, else at its own address, and waits for the lead.

    A key or a secret is made for the purpose and revoked afterwards. Raises Reject where the source
    has no sample or nobody answers.
    """
    if source.sample is None:
        raise Reject(f"{source.name} has no sample", remedy="let the sender itself send a test")
    engine = open_engine(settings)
    began = time.monotonic()
    address = f"sample-{uuid.uuid4().hex[:12]}@{source.name}.example"
    try:
        post = _post_signed if source.verify else _post_with_key
        posted = await post(engine, settings, source, address, url)
        lead = await _lead(engine, address) if posted.status == 200 else None
    finally:
        await engine.dispose()
    return Result(source.name, *posted, lead, round(time.monotonic() - began, 2))


async def _post_signed(
    engine: AsyncEngine, settings: Settings, source: Source, address: str, url: str
) -> Posted:
    if source.new_secret is None or source.sign is None or source.sample is None:
        raise Reject(
            f"no sample of {source.name} can be signed", remedy="let the sender itself send a test"
        )
    signing, verifying = source.new_secret()
    async with _temporary_secret(engine, settings, source, verifying):
        now = Clock.parse(settings.clock).now()
        public = settings.public_url.rstrip("/") + source.paths[0]
        sample = source.sign(source.sample(address, now), signing, public, now)
        return await _post(settings, source, sample, url, {})


async def _post_with_key(
    engine: AsyncEngine, settings: Settings, source: Source, address: str, url: str
) -> Posted:
    assert source.sample
    async with _temporary_key(engine) as key:
        sample = source.sample(address, Clock.parse(settings.clock).now())
        return await _post(settings, source, sample, url, {"Authorization": f"Bearer {key}"})


@asynccontextmanager
async def _temporary_secret(
    engine: AsyncEngine, settings: Settings, source: Source, secret: str
) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        expires_at = datetime.now(UTC) + EXPIRES_AFTER
        secret_id = await senders.connect(
            connection, vault(settings), source.name, secret, NAME, expires_at
        )
    try:
        await asyncio.sleep(TAKES_EFFECT_S)
        yield
    finally:
        async with engine.begin() as connection:
            await senders.disconnect(connection, [secret_id])


@asynccontextmanager
async def _temporary_key(engine: AsyncEngine) -> AsyncIterator[str]:
    key = new_key()
    await register(engine, key, NAME, "secret")
    try:
        await asyncio.sleep(TAKES_EFFECT_S)
        yield key
    finally:
        match = PATTERN.fullmatch(key)
        async with engine.begin() as connection:
            await connection.execute(
                text("UPDATE access.api_key SET revoked_at = now() WHERE id = :id"),
                {"id": match[1] if match else ""},
            )


async def _post(
    settings: Settings, source: Source, sample: Sample, url: str, extra: Mapping[str, str]
) -> Posted:
    base = (url or settings.ingest_url or settings.public_url).rstrip("/")
    media = sample.headers.get("Content-Type", sample.media)
    headers = {**sample.headers, **extra, "Content-Type": media}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as http,
            http.post(
                base + (sample.path or source.paths[0]),
                data=sample.body,
                headers=headers,
                params=dict(sample.query),
                allow_redirects=False,
            ) as response,
        ):
            return Posted(response.status, _decoded(await response.text()))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Reject(
            f"nobody answers at {base}: {type(error).__name__}",
            remedy="start ingest, or say where it is with --url",
        ) from error


def _decoded(answer: str) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        return f"a page of {len(answer):,} characters"


async def _lead(engine: AsyncEngine, address: str) -> SampleLead | None:
    """The lead of the address, once the scorer has one."""
    give_up = time.monotonic() + TIMEOUT_S
    while time.monotonic() < give_up:
        async with engine.connect() as connection:
            found = await rows(
                connection,
                """SELECT i.lead_id, s.stage,
                    (SELECT count(*) FROM scorer.event e WHERE e.lead_id = i.lead_id) AS events
                FROM scorer.identifier i JOIN scorer.lead_state s ON s.lead_id = i.lead_id
                WHERE i.kind = :kind AND i.value = :address LIMIT 1""",
                kind=int(Kind.EMAIL),
                address=address,
            )
        if found:
            return SampleLead(str(found[0].lead_id), found[0].stage, found[0].events)
        await asyncio.sleep(0.1)
    return None
