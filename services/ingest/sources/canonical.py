"""Our own format: one interaction, an array of them, or one a line (NDJSON)."""

import uuid
from datetime import datetime
from typing import Any

import msgspec

from services.ingest.sources.contract import (
    InboundRequest,
    Item,
    Refused,
    Sample,
    SetupGuide,
    Source,
)
from services.ingest.sources.reading.json import (
    TOO_DEEP,
    UNREADABLE,
    is_deep,
    lines,
    pieces,
    refused,
)
from services.shared.clock import rfc3339

NDJSON = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
MEDIA = frozenset({"", "application/json"}) | NDJSON

_read = msgspec.json.Decoder(Item).decode
_read_any = msgspec.json.Decoder().decode


def parse(request: InboundRequest) -> list[Item | Refused]:
    """Every item of the body, in order."""
    cut = lines if request.media in NDJSON else pieces
    return [read(piece) for piece in cut(request.body)]


def read(piece: bytes) -> Item | Refused:
    """One interaction; a null is as good as a field left out, except in traits, where it erases."""
    if is_deep(piece):
        return refused(piece, TOO_DEEP)
    try:
        return _read(piece)
    except msgspec.ValidationError as error:
        return _read_without_nulls(piece, error)
    except UNREADABLE as error:
        return refused(piece, error)


def _read_without_nulls(piece: bytes, error: Exception) -> Item | Refused:
    if b"null" not in piece:
        return refused(piece, error)
    try:
        return msgspec.convert(without_nulls(_read_any(piece)), Item)
    except UNREADABLE as still:
        return refused(piece, still)


def without_nulls(given: Any) -> Any:
    """An interaction's fields without those that are null; nulls within traits and properties
    stay.
    """
    if not isinstance(given, dict):
        return given
    kept = {name: value for name, value in given.items() if value is not None}
    for consent in kept["consent"] if isinstance(kept.get("consent"), list) else ():
        if isinstance(consent, dict):
            for name in [name for name, value in consent.items() if value is None]:
                del consent[name]
    return kept


def sample(address: str, now: datetime) -> Sample:
    """Somebody asks for a demo."""
    item = {
        "id": uuid.uuid4().hex,
        "type": "demo_requested",
        "email": address,
        "occurred_at": rfc3339(now),
    }
    return Sample(msgspec.json.encode([item]), "application/json")


SOURCE = Source(
    "canonical",
    parse,
    ("/v1/events",),
    MEDIA,
    body=Item | list[Item],
    example={
        "id": "e-1",
        "type": "page_viewed",
        "anonymous_id": "a-1",
        "url": "https://www.example.com/pricing",
    },
    setup=SetupGuide(
        "Anything that can post JSON",
        [
            "Make a key: `ripeline keys new secret`.",
            "Post to {address}: one event, an array of them, or one a line. Only `type` and "
            "one identifier are needed.",
            "Give every event an `id` of your own, and post again whatever was not answered "
            "with 200: it counts once.",
        ],
        "curl {address} -H 'Authorization: Bearer {secret}' -H 'Content-Type: "
        "application/json' \\\n"
        """  -d '{"id": "first-1", "type": "demo_requested", "email": "jo@example.com"}'""",
    ),
    sample=sample,
)
