"""Our own format: one interaction, an array of them, or one a line (NDJSON)."""

import uuid
from datetime import datetime
from typing import Any

import msgspec

from services.ingest.sources.contract import (
    InboundRequest,
    Item,
    Parsed,
    Sample,
    SetupGuide,
    Source,
)
from services.ingest.sources.permissions import mended
from services.ingest.sources.reading.json import (
    TOO_DEEP,
    UNREADABLE,
    is_deep,
    lines,
    pieces,
    refused,
)
from services.ingest.sources.remarks import remarked
from services.shared.clock import rfc3339
from services.shared.contracts.consent_words import KNOWN_WORDS, ConsentWords

NDJSON = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
MEDIA = frozenset({"", "application/json"}) | NDJSON

_read = msgspec.json.Decoder(Item).decode
_read_any = msgspec.json.Decoder().decode


def parse(request: InboundRequest) -> list[Parsed]:
    """Every item of the body, in order."""
    cut = lines if request.media in NDJSON else pieces
    return [read(piece, request.words.consent) for piece in cut(request.body)]


def read(piece: bytes, words: ConsentWords = KNOWN_WORDS) -> Parsed:
    """One interaction; a null is as good as a field left out, except in traits, where it erases,
    and a boolean or a word may stand for a consent.
    """
    if is_deep(piece):
        return refused(piece, TOO_DEEP)
    try:
        return _read(piece)
    except msgspec.ValidationError as error:
        return _read_loosely(piece, error, words)
    except UNREADABLE as error:
        return refused(piece, error)


def _read_loosely(piece: bytes, error: Exception, words: ConsentWords) -> Parsed:
    if b"null" not in piece and b'"consent"' not in piece:
        return refused(piece, error)
    try:
        fields, remarks = mended(without_nulls(_read_any(piece)), words)
        return remarked(msgspec.convert(fields, Item), remarks)
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
