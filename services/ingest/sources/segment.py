"""Segment's HTTP API: track, identify, page, screen, group, alias, and batches of them.

Browsers post to paths of one letter (`/v1/t` is `track`), as text, so that no preflight is needed.
An event may have 32 KB, a batch 500 KB, as at Segment.

An event's name in snake case is its type, so "Demo Requested" is `demo_requested`; names that
Segment's own e-mail and shop specifications fix are translated. Times follow Segment's rule:
received − (sentAt − timestamp).
"""

import hashlib
import re
import uuid
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import msgspec

from services.ingest.sources.contract import About, Foreign, Item, Post, Refused, Sample, Source
from services.ingest.sources.reading.json import (
    TOO_DEEP,
    UNREADABLE,
    counted,
    cut_by_hand,
    is_deep,
    mistake,
    pieces,
    refused,
)
from services.shared.clock import rfc3339
from services.shared.errors import Reject

CALLS = ("track", "identify", "page", "screen", "group", "alias")
LETTERS = {call[0]: call for call in (*CALLS, "batch")}
PATHS = tuple(f"/v1/{call}" for call in (*LETTERS.values(), *LETTERS))
MAX_CALL, MAX_BATCH = 32 * 1024, 500 * 1024  # bytes
FIXED_NAMES = {
    "order_completed": "purchased", "email_link_clicked": "email_clicked",
    "email_marked_as_spam": "email_complained",
    "email_unsubscribed": "unsubscribed", "unsubscribe": "unsubscribed",
}  # fmt: skip
OPENING = re.compile(rb'"batch"\s*:\s*\[')
WORD = re.compile(r"[^\W_]+")
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

Text = str | int | None
Fields = dict[str, Any] | None


class Page(msgspec.Struct):
    """Where a browser was."""

    url: str | None = None


class Campaign(msgspec.Struct):
    """What brought somebody."""

    name: str | None = None
    source: str | None = None


class Context(msgspec.Struct):
    """What a client adds by itself."""

    page: Page | None = None
    campaign: Campaign | None = None
    traits: Fields = None


class Call(msgspec.Struct, rename="camel"):
    """A call of any kind."""

    type: str | None = None
    message_id: Text = None
    user_id: Text = None
    anonymous_id: Text = None
    previous_id: Text = None
    group_id: Text = None
    event: str | None = None
    name: str | None = None
    properties: Fields = None
    traits: Fields = None
    context: Context | None = None
    timestamp: datetime | None = None
    sent_at: datetime | None = None


class Batch(msgspec.Struct, rename="camel"):
    """The body of /v1/batch."""

    batch: list[msgspec.Raw]
    sent_at: datetime | None = None
    context: Context | None = None


class _Authorised(msgspec.Struct, rename="camel"):
    write_key: str | None = None


_call = msgspec.json.Decoder(Call).decode
_batch = msgspec.json.Decoder(Batch).decode
_authorised = msgspec.json.Decoder(_Authorised).decode


def parse(post: Post) -> list[Item | Refused]:
    """Every call of the body, in order."""
    kind = post.path.rpartition("/")[2]
    kind = LETTERS.get(kind, kind)
    if len(post.body) > MAX_BATCH:
        raise _too_large("batch", MAX_BATCH)
    if kind != "batch":
        return [read(piece, kind, post.received_at) for piece in pieces(post.body)]
    batch, calls = _opened(post.body)
    return [read(piece, "", post.received_at, batch) for piece in counted(calls)]


def _opened(body: bytes) -> tuple[Batch, list[bytes]]:
    """A batch and its calls; one call that is no JSON does not take the others with it."""
    try:
        batch = _batch(body)
        return batch, [bytes(raw) for raw in batch.batch]
    except UNREADABLE as error:
        opening = OPENING.search(body)
        if not opening:
            raise mistake(body, error) from None
    calls, end = cut_by_hand(body, opening.end() - 1)
    try:
        return _batch(body[: opening.end()] + b"]" + body[end:]), calls
    except UNREADABLE as error:
        raise mistake(body, error) from None


def write_key(body: bytes) -> str:
    """The key that some clients put into the body; '' without one."""
    try:
        return _authorised(body).write_key or ""
    except UNREADABLE:
        return ""


def answer(_: list[str], rejected: list[dict[str, Any]]) -> dict[str, Any]:
    """What Segment's clients expect; calls that were refused beside others are listed."""
    return {"success": True, "rejected": rejected} if rejected else {"success": True}


def read(
    piece: bytes, kind: str, received_at: datetime, batch: Batch | None = None
) -> Item | Refused:
    """One call; in a batch its kind is its type."""
    if is_deep(piece):
        return refused(piece, TOO_DEEP)
    if len(piece) > MAX_CALL:
        return refused(piece, _too_large("call", MAX_CALL))
    try:
        call = _call(piece)
        fields = _fields(
            call, kind or call.type or "", call.context or (batch.context if batch else None)
        )
    except (Reject, *UNREADABLE) as error:
        return refused(piece, error)
    said_at = _aware(call.timestamp)
    sent_at = _aware(call.sent_at or (batch.sent_at if batch else None))
    if call.message_id is not None:
        fields["id"] = str(call.message_id)
    elif said_at:
        fields["id"] = hashlib.sha256(piece).hexdigest()[:32]
    return Foreign(**fields, said_at=said_at, occurred_at=_corrected(said_at, sent_at, received_at))


def _fields(call: Call, kind: str, context: Context | None) -> dict[str, Any]:
    """The interaction's fields: those that all calls have, and those of this kind."""
    if kind not in _SHAPES:
        raise Reject(
            f"no call {kind[:50]!r}", where="/type", remedy=f"use one of {', '.join(CALLS)}"
        )
    properties = call.properties or {}
    fields: dict[str, Any] = {
        "user_id": _text(call.user_id),
        "anonymous_id": _text(call.anonymous_id),
        "email": _email(
            call.traits if kind == "identify" else None,
            context.traits if context else None,
            properties,
        ),
        "properties": properties,
    }
    if context:
        if context.campaign:
            fields |= {
                "campaign": context.campaign.name or "",
                "source": context.campaign.source or "",
            }
        if context.page and context.page.url:
            fields["url"] = context.page.url
    for name in ("url", "content_id", "touch_id"):
        if isinstance(value := properties.get(name), str):
            fields[name] = value
    return fields | _SHAPES[kind](call, properties)


def _track(call: Call, _: dict[str, Any]) -> dict[str, Any]:
    if not call.event:
        raise Reject(
            "a track call without an event",
            where="/event",
            remedy='name it: "event": "Demo Requested"',
        )
    return {"type": snake(call.event)}


def _identify(call: Call, _: dict[str, Any]) -> dict[str, Any]:
    traits = call.traits or {}
    company = traits.get("company")
    company = company.get("name") if isinstance(company, dict) else company
    return {
        "type": "identified",
        "traits": traits,
        "company": company if isinstance(company, str) else "",
    }


def _page(call: Call, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "page_viewed",
        "properties": {"name": call.name, **properties} if call.name else properties,
    }


def _screen(call: Call, properties: dict[str, Any]) -> dict[str, Any]:
    return _page(call, properties) | {"type": "screen_viewed"}


def _group(call: Call, _: dict[str, Any]) -> dict[str, Any]:
    traits, group = call.traits or {}, _text(call.group_id)
    name = traits.get("name")
    company = name if isinstance(name, str) and name else group
    return {
        "type": "grouped",
        "company": company,
        "properties": {"group_id": group, "traits": traits},
    }


def _alias(call: Call, _: dict[str, Any]) -> dict[str, Any]:
    return {"type": "aliased", "anonymous_id": _text(call.previous_id)}


_SHAPES = {
    "track": _track,
    "identify": _identify,
    "page": _page,
    "screen": _screen,
    "group": _group,
    "alias": _alias,
}


def _too_large(what: str, limit: int) -> Reject:
    remedy = f"send at most {limit // 1024} KB; Segment's own limit is the same"
    return Reject(
        f"the {what} is over {limit // 1024} KB", where="body", remedy=remedy, kind="too-large"
    )


@lru_cache(maxsize=4096)
def snake(name: str) -> str:
    """An event's name as a type: "Demo Requested" and "demoRequested" are `demo_requested`."""
    plain = "_".join(WORD.findall(HUMP.sub(" ", name))).lower() or name
    return FIXED_NAMES.get(plain, plain)


def _text(value: Text) -> str:
    return "" if value is None else str(value)


def _email(*places: Fields) -> str:
    for place in places:
        if place and isinstance(email := place.get("email"), str) and email:
            return email
    return ""


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def _corrected(
    said_at: datetime | None, sent_at: datetime | None, received_at: datetime
) -> datetime | None:
    """The time by our clock, whatever the sender's shows."""
    if not said_at or not sent_at:
        return said_at
    try:
        return received_at - (sent_at - said_at)
    except OverflowError:
        return said_at


def browser_settings(key: str, public_url: str) -> dict[str, Any]:
    """What `@segment/analytics-next` asks its `cdnURL` for: where to post, and that there is
    nothing else to load.
    """
    host = urlsplit(public_url)
    return {
        "integrations": {
            "Segment.io": {
                "apiKey": key,
                "apiHost": f"{host.netloc}{host.path.rstrip('/')}/v1",
                "protocol": host.scheme,
                "versionSettings": {"version": "4.4.7", "componentTypes": ["browser"]},
                "retryQueue": True,
            }
        },
        "plan": {"track": {"__default": {"enabled": True, "integrations": {}}}},
        "metrics": {"sampleRate": 0},
        "remotePlugins": [],
    }


def sample(address: str, now: datetime) -> Sample:
    """A batch of two calls: who somebody is, and what they asked for."""
    user, at = f"sample-{uuid.uuid4().hex[:12]}", rfc3339(now)
    calls = [
        {
            "type": "identify",
            "messageId": uuid.uuid4().hex,
            "userId": user,
            "traits": {"email": address},
            "timestamp": at,
        },
        {
            "type": "track",
            "messageId": uuid.uuid4().hex,
            "userId": user,
            "event": "Demo Requested",
            "timestamp": at,
        },
    ]
    return Sample(
        msgspec.json.encode({"batch": calls, "sentAt": at}), "application/json", path="/v1/batch"
    )


SOURCE = Source(
    "segment",
    parse,
    PATHS,
    answer=answer,
    key_in=write_key,
    example={
        "messageId": "m-1",
        "anonymousId": "a-1",
        "event": "Demo Requested",
        "timestamp": "2026-01-02T03:04:05Z",
    },
    about=About(
        "Segment's libraries, on servers and in browsers",
        [
            "On a server: make a key (`ripeline keys new secret`), give it as the write key, "
            "and {base} as the host.",
            "In a page: load `@segment/analytics-next` with the public key and `cdnURL`, as "
            "below. Nothing else changes.",
        ],
        "import { AnalyticsBrowser } from '@segment/analytics-next'\n"
        "const analytics = AnalyticsBrowser.load({ writeKey: '{key}', cdnURL: '{base}' })\n"
        "analytics.page()",
    ),
    sample=sample,
)
