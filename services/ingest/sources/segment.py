"""Segment's HTTP API: track, identify, page, screen, group, alias, and batches of them.

Browsers post to paths of one letter (`/v1/t` is `track`), as text, so that no preflight is needed.
Java's and Ruby's clients post their batches to `/v1/import`. An event may have 32 KB, a batch 500
KB, as at Segment.
"""

import re
import uuid
from datetime import datetime
from typing import Any, Literal

import msgspec

from services.ingest.sources.contract import (
    Body,
    InboundRequest,
    Parsed,
    RejectedItem,
    Sample,
    SetupGuide,
    Source,
)
from services.ingest.sources.permissions import with_trait
from services.ingest.sources.reading.json import (
    UNREADABLE,
    counted,
    cut_by_hand,
    is_list,
    mistake,
    pieces,
)
from services.ingest.sources.reading.lenient import Lenient, lenient
from services.ingest.sources.segment_calls import (
    CALLS,
    MAX_BATCH,
    BatchContext,
    SegmentBatch,
    SegmentCall,
    read,
    too_large,
)
from services.shared.clock import rfc3339

LETTERS = {call[0]: call for call in (*CALLS, "batch")}
IMPORTS = ("/v1/import", "/v1/import/")
PATHS = (*(f"/v1/{call}" for call in (*LETTERS.values(), *LETTERS)), *IMPORTS)
BATCHES = frozenset({"/v1/batch", "/v1/b", *IMPORTS})
OPENING = re.compile(rb'"batch"\s*:\s*\[')


class _BodyWithKey(msgspec.Struct, rename="camel"):
    write_key: str | None = None


class _Calls(msgspec.Struct):
    batch: list[msgspec.Raw]
    type: Any = None


_calls = msgspec.json.Decoder(_Calls).decode
_batch = msgspec.json.Decoder(SegmentBatch).decode
_body_with_key = msgspec.json.Decoder(_BodyWithKey).decode


def parse(request: InboundRequest) -> list[Parsed]:
    """Every call of the body, in order, with what a trait `consent` says."""
    return [with_trait(found, request.words.consent) for found in _read(request)]


def _read(request: InboundRequest) -> list[Parsed]:
    kind = "batch" if request.path in IMPORTS else request.path.rpartition("/")[2]
    kind = LETTERS.get(kind, kind)
    if len(request.body) > MAX_BATCH:
        raise too_large("batch", MAX_BATCH)
    if kind != "batch":
        return [read(piece, kind, request.received_at) for piece in pieces(request.body)]
    context, calls = _calls_of(request.body)
    return [read(piece, "", request.received_at, context) for piece in counted(calls)]


def _calls_of(body: bytes) -> tuple[Lenient, list[bytes]]:
    """What a batch says of its calls, and these; one call that is no JSON harms no other."""
    try:
        return _context_and_calls(body)
    except UNREADABLE as error:
        opening = OPENING.search(body)
        if not opening:
            raise mistake(body, error) from None
    calls, end = cut_by_hand(body, opening.end() - 1)
    try:
        return _context_and_calls(body[: opening.end()] + b"]" + body[end:])[0], calls
    except UNREADABLE as error:
        raise mistake(body, error) from None


def _context_and_calls(body: bytes) -> tuple[Lenient, list[bytes]]:
    """Raises msgspec's error where the body is no batch."""
    try:
        batch = _batch(body)
        return Lenient(batch), [bytes(raw) for raw in batch.batch]
    except msgspec.ValidationError:
        calls = [bytes(raw) for raw in _calls(body).batch]
        return lenient(body, BatchContext), calls


def is_batch(request: InboundRequest) -> bool:
    """Whether a request to a path that files are sent to as well is a batch of calls: it declares
    no import, and is no interaction, which has a type.
    """
    if b'"batch"' not in request.body or "as" in request.query or is_list(request.body):
        return False
    try:
        return _calls(request.body).type is None
    except msgspec.ValidationError:
        return False
    except UNREADABLE:
        return OPENING.search(request.body[:4096]) is not None


def write_key(body: bytes) -> str:
    """The key that some clients put into the body; '' without one."""
    try:
        return _body_with_key(body).write_key or ""
    except UNREADABLE:
        return ""


class SegmentAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What Segment's clients expect; calls that were refused beside others are listed."""

    success: Literal[True]
    rejected: list[RejectedItem] = []


def answer(_: list[str], rejected: list[RejectedItem]) -> SegmentAnswer:
    """The answer to Segment's clients."""
    return SegmentAnswer(True, rejected)


def sample(address: str, now: datetime) -> Sample:
    """A batch of two calls: who somebody is, and a demo request."""
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


EXAMPLE = {
    "messageId": "m-1",
    "anonymousId": "a-1",
    "event": "Demo Requested",
    "timestamp": "2026-01-02T03:04:05Z",
}
BATCH_EXAMPLE = {"batch": [{"type": "track", **EXAMPLE}]}
BODIES = {
    # by a browser's paths of one letter the same comes as text
    **{f"/v1/{letter}": Body(str, msgspec.json.encode(EXAMPLE).decode()) for letter in LETTERS},
    "/v1/b": Body(str, msgspec.json.encode(BATCH_EXAMPLE).decode()),
    **dict.fromkeys(("/v1/batch", *IMPORTS), Body(SegmentBatch, BATCH_EXAMPLE)),
}
SOURCE = Source(
    "segment",
    parse,
    PATHS,
    answer=answer,
    key_in_body=write_key,
    body=SegmentCall,
    bodies=BODIES,
    example=EXAMPLE,
    setup=SetupGuide(
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
