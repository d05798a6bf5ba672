"""Our own format: one interaction, an array of them, or one a line (NDJSON)."""

import uuid
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from services.ingest.sources.contract import (
    KEY_ONLY,
    InboundRequest,
    Item,
    Parsed,
    Remark,
    Remarked,
    Sample,
    SetupGuide,
    Source,
)
from services.ingest.sources.known_names import StrictConsent, StrictExternalId, unknown_fields
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
T = TypeVar("T", bound=Item)


class StrictItem(Item, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item of known fields alone, as nearly all are: others are read once more."""

    external_id: StrictExternalId | None = None
    consent: tuple[StrictConsent, ...] = ()


_read = msgspec.json.Decoder(StrictItem).decode
_read_any = msgspec.json.Decoder().decode


def parse(request: InboundRequest) -> list[Parsed]:
    """Every item of the body, in order."""
    cut = lines if request.media in NDJSON else pieces
    return [read(piece, request.words.consent) for piece in cut(request.body)]


def read(piece: bytes, words: ConsentWords = KNOWN_WORDS) -> Parsed:
    """One interaction; a null is as good as a field left out, except in traits, where it erases, a
    boolean or a word may stand for a consent, and a field that is none is ignored with a remark.
    """
    if is_deep(piece):
        return refused(piece, TOO_DEEP)
    try:
        return _read(piece)
    except msgspec.ValidationError:
        pass
    except UNREADABLE as error:
        return refused(piece, error)
    try:
        return leniently(piece, Item, words)
    except UNREADABLE as error:
        return refused(piece, error)


def leniently(piece: bytes, kind: type[T], words: ConsentWords, inside: str = "") -> T | Remarked:
    """An item of which fields are null or unknown, or whose consent is a boolean or a word, with
    its remarks; `inside` is where it stands. Raises UNREADABLE.
    """
    item: T | None = None
    remarks: tuple[Remark, ...] = ()
    try:
        item = msgspec.json.decode(piece, type=kind)
    except msgspec.ValidationError:
        if b"null" not in piece and b'"consent"' not in piece:
            raise
    given = _read_any(piece)
    unknown = list(unknown_fields(given, inside)) if isinstance(given, dict) else []
    if item is None:
        fields, remarks = mended(without_nulls(given) or {}, words)
        item = msgspec.convert(fields, kind)
    return remarked(item, [*remarks, *unknown])


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
    parameters=KEY_ONLY,
)
