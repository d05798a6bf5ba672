"""Segment's calls, and the interactions that they are.

An event's name in snake case is its type, so "Demo Requested" is `demo_requested`; names that
Segment's own e-mail and shop specifications fix are translated. Times follow Segment's rule:
received − (sentAt − timestamp). RudderStack's clients write `originalTimestamp`, and the traits of
`identify` into the context. Only identity, type and time refuse a call: what else cannot be used is
left out.
"""

import hashlib
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from services.ingest.sources.contract import ForeignItem, Parsed
from services.ingest.sources.reading.json import TOO_DEEP, UNREADABLE, is_deep, refused
from services.ingest.sources.reading.lenient import Lenient, lenient, number_text
from services.ingest.sources.remarks import remarked
from services.shared.errors import Reject

CALLS = ("track", "identify", "page", "screen", "group", "alias")
MAX_CALL, MAX_BATCH = 32 * 1024, 500 * 1024  # bytes
FIXED_NAMES = {
    "order_completed": "purchased", "email_link_clicked": "email_clicked",
    "email_marked_as_spam": "email_complained",
    "email_unsubscribed": "unsubscribed", "unsubscribe": "unsubscribed",
}  # fmt: skip
WORD = re.compile(r"[^\W_]+")
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

Text = str | int | None
Fields = dict[str, Any] | None


class Page(msgspec.Struct):
    """Where a browser was, and where it came from."""

    url: str | None = None
    referrer: str | None = None


class Campaign(msgspec.Struct):
    """The campaign that led somebody here."""

    name: str | None = None
    source: str | None = None


class Context(msgspec.Struct, rename="camel"):
    """What a client adds by itself."""

    page: Page | None = None
    campaign: Campaign | None = None
    traits: Fields = None
    user_agent: str | None = None
    ip: str | None = None


class SegmentCall(msgspec.Struct, rename="camel"):
    """A call of any kind."""

    type: str | None = None
    message_id: Text = None
    user_id: Text = None
    anonymous_id: Text = None
    previous_id: Text = None
    group_id: Text = None
    event: str | None = None
    name: str | None = None
    category: str | None = None
    properties: Fields = None
    traits: Fields = None
    context: Context | None = None
    timestamp: datetime | None = None
    original_timestamp: datetime | None = None
    sent_at: datetime | None = None


class BatchContext(msgspec.Struct, rename="camel"):
    """What a batch says of all its calls."""

    sent_at: datetime | None = None
    context: Context | None = None


class SegmentBatch(BatchContext, kw_only=True):
    """The body of /v1/batch."""

    batch: list[msgspec.Raw]


NEEDED = frozenset(
    {
        "/type", "/event", "/userId", "/anonymousId", "/previousId", "/timestamp",
        "/originalTimestamp",
    }
)  # fmt: skip
NO_BATCH = Lenient(BatchContext())
_call = msgspec.json.Decoder(SegmentCall).decode


def read(piece: bytes, kind: str, received_at: datetime, batch: Lenient = NO_BATCH) -> Parsed:
    """One call; in a batch its kind is its type."""
    if is_deep(piece):
        return refused(piece, TOO_DEEP)
    if len(piece) > MAX_CALL:
        return refused(piece, too_large("call", MAX_CALL))
    try:
        call, remarks = _decoded(piece)
        fields = _fields(call, kind or call.type or "", call.context or batch.value.context)
    except (Reject, *UNREADABLE) as error:
        return refused(piece, error)
    stated_at = _aware(call.timestamp or call.original_timestamp)
    sent_at = _aware(call.sent_at or batch.value.sent_at)
    if call.message_id is not None:
        fields["id"] = str(call.message_id)
    elif stated_at:
        fields["id"] = hashlib.sha256(piece).hexdigest()[:32]
    item = ForeignItem(
        **fields,
        stated_at=stated_at,
        occurred_at=_corrected(stated_at, sent_at, received_at),
    )
    return remarked(item, (*batch.remarks, *remarks)) if remarks or batch.remarks else item


def _decoded(piece: bytes) -> Lenient:
    try:
        return Lenient(_call(piece))  # faster than a decoder that is made anew
    except msgspec.ValidationError:
        return lenient(piece, SegmentCall, NEEDED)


def _fields(call: SegmentCall, kind: str, context: Context | None) -> dict[str, Any]:
    """The interaction's fields: those that all calls have, and those of this kind."""
    if kind not in _FIELDS_BY_KIND:
        raise Reject(
            f"no call {kind[:50]!r}", where="/type", remedy=f"use one of {', '.join(CALLS)}"
        )
    properties = call.properties or {}
    context = context or Context()
    if kind == "identify" and context.traits:
        call.traits = context.traits | (call.traits or {})
    fields: dict[str, Any] = {
        "user_id": _text(call.user_id),
        "anonymous_id": _text(call.anonymous_id),
        "email": _email(call.traits if kind == "identify" else None, context.traits, properties),
        "properties": properties,
        **_visit(context, properties),
    }
    for name in ("url", "content_id", "touch_id"):
        if text := _scalar(properties.get(name)):
            fields[name] = text
    return fields | _FIELDS_BY_KIND[kind](call, properties)


def _visit(context: Context, properties: dict[str, Any]) -> dict[str, str]:
    """Where somebody was and came from, and with which browser."""
    page, campaign = context.page or Page(), context.campaign or Campaign()
    return {
        "url": page.url or "",
        "referrer": page.referrer or _scalar(properties.get("referrer")),
        "user_agent": context.user_agent or "",
        "address": context.ip or "",
        "campaign": campaign.name or "",
        "source": campaign.source or "",
    }


def _track(call: SegmentCall, _: dict[str, Any]) -> dict[str, Any]:
    if not call.event:
        raise Reject(
            "a track call without an event",
            where="/event",
            remedy='name it: "event": "Demo Requested"',
        )
    return {"type": snake(call.event)}


def _identify(call: SegmentCall, _: dict[str, Any]) -> dict[str, Any]:
    traits = call.traits or {}
    company = traits.get("company")
    company = company.get("name") if isinstance(company, dict) else company
    return {"type": "identified", "traits": traits, "company": _scalar(company)}


def _page(call: SegmentCall, properties: dict[str, Any]) -> dict[str, Any]:
    named = {"name": call.name, "category": call.category}
    stated = {name: text for name, text in named.items() if text}
    return {"type": "page_viewed", "properties": stated | properties}


def _screen(call: SegmentCall, properties: dict[str, Any]) -> dict[str, Any]:
    return _page(call, properties) | {"type": "screen_viewed"}


def _group(call: SegmentCall, _: dict[str, Any]) -> dict[str, Any]:
    traits, group = call.traits or {}, _text(call.group_id)
    return {
        "type": "grouped",
        "company": _scalar(traits.get("name")) or group,
        "properties": {"group_id": group, "traits": traits},
    }


def _alias(call: SegmentCall, _: dict[str, Any]) -> dict[str, Any]:
    return {"type": "aliased", "anonymous_id": _text(call.previous_id)}


_FIELDS_BY_KIND = {
    "track": _track,
    "identify": _identify,
    "page": _page,
    "screen": _screen,
    "group": _group,
    "alias": _alias,
}


def too_large(what: str, limit: int) -> Reject:
    """The refusal of a call or batch over Segment's own limit in bytes."""
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


def _scalar(value: Any) -> str:
    """A text or a number as a text; '' for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number_text(value)
    return value if isinstance(value, str) else ""


def _email(*places: Fields) -> str:
    for place in places:
        if place and isinstance(email := place.get("email"), str) and email:
            return email
    return ""


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def _corrected(
    stated_at: datetime | None, sent_at: datetime | None, received_at: datetime
) -> datetime | None:
    """The time by our clock: received − (sent − stated)."""
    if not stated_at or not sent_at:
        return stated_at
    try:
        return received_at - (sent_at - stated_at)
    except OverflowError:
        return stated_at
