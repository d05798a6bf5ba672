"""A sample of a source, posted to the running ingest as its sender would, marked as a test, and
followed to what the scorer would make of it.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import aiohttp
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.datastructures import Headers

from services.ingest import senders
from services.ingest.sources.contract import InboundRequest, Sample, Secret, Source
from services.ops.commands.sources import IN_FORCE, vault
from services.shared.clock import Clock
from services.shared.contracts import trial_marks
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


SecretKind = Literal["connected", "temporary", "key"]


class SampleLead(NamedTuple):
    """The lead that a sample became; nothing of it stayed."""

    lead: str
    stage: str
    events: int


class Result(NamedTuple):
    """What became of a sample about `address`, after so many seconds; no lead where it did not
    arrive. `secret` says by what it was let in, `note` says so in words.
    """

    source: str
    status: int
    answer: Any
    lead: SampleLead | None
    seconds: float
    secret: SecretKind
    note: str
    address: str

    def as_json(self) -> dict[str, Any]:
        """As `ripeline sources test --json` prints it."""
        lead = self.lead._asdict() if self.lead else {"lead": None}
        is_ok = self.lead is not None
        return {**self._asdict(), **lead, "seconds": self.seconds, "ok": is_ok, "test": True}


class Signing(NamedTuple):
    """A secret to sign with, and where it is from."""

    value: str
    kind: SecretKind
    note: str
    verifying: str = ""  # of a temporary one


async def send(settings: Settings, source: Source, url: str) -> Result:
    """Sends a sample to ingest at `url`, else at its own address, and waits until the scorer has
    tried it: then no lead remains.

    A signing sender's is signed with the connected secret; where none is connected, or the secret
    verifies only, one is made for the purpose and revoked afterwards, as a key is for others.
    Raises Reject where the source has no sample or nobody answers.
    """
    if source.sample is None:
        raise Reject(f"{source.name} has no sample", remedy="let the sender itself send a test")
    engine = open_engine(settings)
    began = time.monotonic()
    address = f"sample-{uuid.uuid4().hex[:12]}@{source.name}.example"
    try:
        if source.verify:
            signing = await _signing(engine, settings, source)
            posted = await _post_signed(engine, settings, source, address, url, signing)
            by: tuple[SecretKind, str] = signing.kind, signing.note
        else:
            posted = await _post_with_key(engine, settings, source, address, url)
            by = "key", f"{source.name} brings an API key: one was made for the test and revoked"
        lead = await _lead(engine, address) if posted.status == 200 else None
    finally:
        await engine.dispose()
    return Result(source.name, *posted, lead, round(time.monotonic() - began, 2), *by, address)


async def _signing(engine: AsyncEngine, settings: Settings, source: Source) -> Signing:
    """The newest connected secret of the source, where it can sign; else a new one."""
    if source.new_secret is None or source.sign is None:
        raise Reject(
            f"no sample of {source.name} can be signed", remedy="let the sender itself send a test"
        )
    async with engine.connect() as connection:
        found = await rows(
            connection,
            "SELECT id, name, sealed FROM access.sender_secret "
            f"WHERE source = :source AND name <> :ours AND {IN_FORCE} ORDER BY created_at DESC, id",
            source=source.name,
            ours=NAME,
        )
    for row in found:
        value = vault(settings).unseal(row.sealed)
        if value and _can_sign(settings, source, value):
            note = f"signed with the connected secret {row.id} ({row.name})"
            return Signing(value, "connected", note)
    signing, verifying = source.new_secret()
    made = "it was signed with one made for the test and taken back"
    if found:
        note = f"what is connected verifies only, the sender alone can sign with its half: {made}"
    else:
        note = (
            f"no secret of {source.name} is connected: {made}. What the sender itself posts is "
            f"refused until `ripeline sources connect {source.name} --secret …`"
        )
    return Signing(signing, "temporary", note, verifying)


def _can_sign(settings: Settings, source: Source, secret: str) -> bool:
    """Whether what is signed with a secret is verified by the same."""
    assert source.verify
    now = Clock.parse(settings.clock).now()
    try:
        sample = _signed(settings, source, f"sample@{source.name}.example", secret, now)
        request = InboundRequest(
            sample.path or source.paths[0],
            sample.body,
            now,
            headers=Headers({**sample.headers}),
            query=sample.query,
            address=_public(settings, source),
        )
        source.verify(request, [Secret("", secret)])
    except (Reject, ValueError, TypeError):
        return False
    return True


def _signed(settings: Settings, source: Source, address: str, secret: str, now: datetime) -> Sample:
    assert source.sign
    assert source.sample
    return source.sign(source.sample(address, now), secret, _public(settings, source), now)


def _public(settings: Settings, source: Source) -> str:
    return settings.public_url.rstrip("/") + source.paths[0]


async def _post_signed(
    engine: AsyncEngine,
    settings: Settings,
    source: Source,
    address: str,
    url: str,
    signing: Signing,
) -> Posted:
    async with AsyncExitStack() as stack:
        if signing.verifying:
            await stack.enter_async_context(
                _temporary_secret(engine, settings, source, signing.verifying)
            )
        now = Clock.parse(settings.clock).now()
        sample = _signed(settings, source, address, signing.value, now)
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
    mark = trial_marks.mark(settings.pepper.get_secret_value().encode(), time.time())
    headers = {**sample.headers, **extra, "Content-Type": media, trial_marks.HEADER: mark}
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
    """What the scorer made of the sample, once it has tried it; nothing of it stays."""
    give_up = time.monotonic() + TIMEOUT_S
    while time.monotonic() < give_up:
        async with engine.begin() as connection:
            found = await rows(
                connection,
                "DELETE FROM scorer.trial WHERE address = :address "
                "RETURNING lead_id, stage, events",
                address=address,
            )
        if found:
            return SampleLead(str(found[0].lead_id), found[0].stage, found[0].events)
        await asyncio.sleep(0.1)
    return None
