"""Jitsu's HTTP API: Segment's calls one by one, at an address for each kind, with the key in a
header of its own.

Jitsu's clients take a key in two parts, `key:secret`; ours is the first, the other may be anything.
"""

import uuid
from datetime import datetime

import msgspec

from services.ingest.sources.contract import (
    InboundRequest,
    Parsed,
    RejectedItem,
    Sample,
    SetupGuide,
    Source,
)
from services.ingest.sources.permissions import with_trait
from services.ingest.sources.reading.json import pieces
from services.ingest.sources.segment_calls import CALLS, MAX_BATCH, SegmentCall, read, too_large
from services.shared.clock import rfc3339

KEY_HEADER = "X-Write-Key"
HEADERS = (KEY_HEADER, "X-Enable-Debug", "X-IP-Policy")
KINDS = ("event", *CALLS)  # an event's kind is its type
PATHS = tuple(f"/api/s/{server}{kind}" for server in ("", "s2s/") for kind in KINDS)


def parse(request: InboundRequest) -> list[Parsed]:
    """Every call of the body, in order, with what a trait `consent` says."""
    if len(request.body) > MAX_BATCH:
        raise too_large("request", MAX_BATCH)
    kind = request.path.rpartition("/")[2]
    kind = "" if kind == "event" else kind
    found = (read(piece, kind, request.received_at) for piece in pieces(request.body))
    return [with_trait(each, request.words.consent) for each in found]


def write_key(request: InboundRequest) -> str:
    """Our key, the first part of the header's; '' without one."""
    return request.headers.get(KEY_HEADER.lower(), "").partition(":")[0]


class JitsuAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What Jitsu's clients expect; calls that were refused beside others are listed."""

    ok: bool
    rejected: list[RejectedItem] = []


def answer(_: list[str], rejected: list[RejectedItem]) -> JitsuAnswer:
    """The answer to Jitsu's clients."""
    return JitsuAnswer(True, rejected)


def sample(address: str, now: datetime) -> Sample:
    """Somebody known asks for a demo."""
    call = {
        "type": "track",
        "messageId": uuid.uuid4().hex,
        "userId": f"sample-{uuid.uuid4().hex[:12]}",
        "event": "Demo Requested",
        "context": {"traits": {"email": address}},
        "timestamp": rfc3339(now),
    }
    return Sample(msgspec.json.encode(call), "application/json", path="/api/s/s2s/track")


SOURCE = Source(
    "jitsu",
    parse,
    PATHS,
    answer=answer,
    key_in_headers=write_key,
    body=SegmentCall,
    example={
        "type": "track",
        "messageId": "m-1",
        "anonymousId": "a-1",
        "event": "Demo Requested",
        "timestamp": "2026-01-02T03:04:05Z",
    },
    setup=SetupGuide(
        "Jitsu's libraries",
        [
            "Give {base} as the host, and as the write key one of ours followed by `:` and any "
            "word: Jitsu's keys have two parts.",
            "In a page take the public key; on a server make one: `ripeline keys new secret`.",
        ],
        "import { jitsuAnalytics } from '@jitsu/js'\n"
        "const analytics = jitsuAnalytics({ host: '{base}', writeKey: '{key}:x' })\n"
        "analytics.page()",
    ),
    sample=sample,
)
