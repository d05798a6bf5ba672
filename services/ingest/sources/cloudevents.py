"""CloudEvents 1.0 in JSON, one or a batch, or in binary mode, the attributes in headers: `data` are
the fields of an interaction.

The type is that of `data`, else the event's own without a reversed domain before it and a version
after it: `com.example.demo_requested.v1` is `demo_requested`. An id is unique within the event's
source.
"""

import re
import uuid
from datetime import datetime
from urllib.parse import quote, unquote

import msgspec

from services.ingest.sources.canonical import without_nulls
from services.ingest.sources.contract import (
    ForeignItem,
    InboundRequest,
    Parsed,
    Refused,
    Remark,
    Sample,
    SetupGuide,
    Source,
)
from services.ingest.sources.permissions import mended
from services.ingest.sources.reading.json import TOO_DEEP, UNREADABLE, is_deep, pieces, refused
from services.ingest.sources.remarks import remarked
from services.shared.clock import rfc3339
from services.shared.contracts.consent_words import KNOWN_WORDS, ConsentWords
from services.shared.errors import Reject

MEDIA = frozenset({"application/cloudevents+json", "application/cloudevents-batch+json"})
VERSION = re.compile(r"\.v\d+$")
MAX_SOURCE = 512
BINARY = "ce-specversion"
ATTRIBUTES = ("specversion", "id", "source", "type", "time")


class CloudEvent(msgspec.Struct, kw_only=True):
    """The attributes that we read."""

    specversion: str
    id: str
    source: str
    type: str
    time: datetime | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")
    data_base64: str = ""


class InteractionData(ForeignItem, frozen=True, kw_only=True):
    type: str = ""


_event = msgspec.json.Decoder(CloudEvent).decode
_data = msgspec.json.Decoder(InteractionData).decode
_any = msgspec.json.Decoder().decode


def parse(request: InboundRequest) -> list[Parsed]:
    """Every event of the request, in order."""
    words = request.words.consent
    if is_binary(request):
        return [read_binary(request)]
    return [read(piece, words) for piece in pieces(request.body)]


def is_binary(request: InboundRequest) -> bool:
    """Whether the attributes are in the headers."""
    return BINARY in request.headers


def read_binary(request: InboundRequest) -> Parsed:
    """The event whose data is the body and whose attributes are headers, percent-encoded as the
    HTTP binding has it.
    """
    if is_deep(request.body):
        return Refused(None, TOO_DEEP)
    attributes = {
        name: value
        for name in ATTRIBUTES
        if (value := request.headers.get(f"ce-{name}")) is not None
    }
    try:
        event = msgspec.convert(
            {name: _decoded(name, value) for name, value in attributes.items()}, CloudEvent
        )
        _check(event)
    except Reject as reject:
        return Refused(None, reject)
    except UNREADABLE as error:
        return refused(b"{}", error)
    event.data = msgspec.Raw(request.body or b"{}")
    return _item(event, request.body, request.words.consent)


def _decoded(name: str, value: str) -> str:
    try:
        return unquote(value.encode("ascii").decode(), errors="strict")
    except UnicodeError:
        remedy = "percent-encode the UTF-8 bytes of what is not ASCII"
        raise Reject(
            "the header is not percent-encoded UTF-8", where=f"ce-{name}", remedy=remedy
        ) from None


def read(piece: bytes, words: ConsentWords = KNOWN_WORDS) -> Parsed:
    """One event in JSON."""
    if is_deep(piece):
        return refused(piece, TOO_DEEP)
    try:
        event = _event(piece)
        _check(event)
    except (Reject, *UNREADABLE) as error:
        return refused(piece, error)
    return _item(event, piece, words)


def _item(event: CloudEvent, piece: bytes, words: ConsentWords) -> Parsed:
    try:
        data, remarks = _fields(bytes(event.data), words)
    except UNREADABLE as error:
        return refused(piece, error, "/data")
    item = msgspec.structs.replace(
        data,
        id=event.id,
        type=data.type or own_type(event.type),
        occurred_at=data.occurred_at or event.time,
        origin=quote(event.source, safe=":/@"),
        stated_at=None,
    )
    return remarked(item, remarks)


def own_type(given: str) -> str:
    """The interaction's type in a CloudEvent's."""
    return VERSION.sub("", given).rpartition(".")[2]


def _fields(data: bytes, words: ConsentWords) -> tuple[ForeignItem, tuple[Remark, ...]]:
    try:
        return _data(data), ()
    except msgspec.ValidationError:
        if b"null" not in data and b'"consent"' not in data:
            raise
        fields, remarks = mended(without_nulls(_any(data)) or {}, words)
        return msgspec.convert(fields, InteractionData), remarks


def _check(event: CloudEvent) -> None:
    if event.specversion != "1.0":
        raise Reject(
            f"specversion {event.specversion[:20]!r}",
            where="/specversion",
            remedy="send CloudEvents 1.0",
        )
    for name, value in (("id", event.id), ("source", event.source), ("type", event.type)):
        if not value:
            raise Reject(
                "a required attribute is empty",
                where=f"/{name}",
                remedy="CloudEvents 1.0 wants a text in it",
            )
    if len(event.source) > MAX_SOURCE:
        raise Reject(
            f"longer than {MAX_SOURCE} characters", where="/source", remedy="use a shorter source"
        )
    if event.data_base64:
        raise Reject(
            "binary data",
            where="/data_base64",
            remedy="send the interaction's fields as an object in `data`",
        )


def sample(address: str, now: datetime) -> Sample:
    """A demo request, reported by a shop."""
    event = {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": "/sample",
        "type": "com.example.demo_requested",
    }
    body = msgspec.json.encode(event | {"time": rfc3339(now), "data": {"email": address}})
    return Sample(body, "application/cloudevents+json")


SOURCE = Source(
    "cloudevents",
    parse,
    ("/v1/events",),
    MEDIA,
    example={
        "specversion": "1.0",
        "id": "e-1",
        "source": "/shop",
        "type": "com.example.demo_requested",
        "data": {"email": "ann@example.com"},
    },
    setup=SetupGuide(
        "CloudEvents 1.0",
        [
            "Make a key: `ripeline keys new secret`.",
            "Send structured JSON events, one or a batch, to {address}; `data` holds the "
            "fields of an interaction.",
        ],
        "curl {address} -H 'Authorization: Bearer {secret}' -H 'Content-Type: "
        "application/cloudevents+json' \\\n"
        """  -d '{"specversion": "1.0", "id": "1", "source": "/shop", """
        """"type": "com.example.demo_requested", """
        """"data": {"email": "jo@example.com"}}'""",
    ),
    sample=sample,
)
