"""CloudEvents 1.0 in JSON, one or a batch, or in binary mode, the attributes in headers: `data` are
the fields of an interaction, as an object, as JSON in a text, or as JSON in `data_base64`.

The type is that of `data`, else the event's own without a reversed domain before it and a version
after it: `com.example.demo_requested.v1` is `demo_requested`. An id is unique within the event's
source.
"""

import base64
import binascii
import re
import uuid
from datetime import datetime
from urllib.parse import quote, unquote

import msgspec

from services.ingest.sources.canonical import leniently
from services.ingest.sources.contract import (
    KEY_ONLY,
    ForeignItem,
    InboundRequest,
    Item,
    Parsed,
    Refused,
    Remarked,
    Sample,
    SetupGuide,
    Source,
)
from services.ingest.sources.known_names import StrictConsent, StrictExternalId
from services.ingest.sources.reading.json import (
    TOO_DEEP,
    UNREADABLE,
    is_deep,
    is_empty_list,
    pieces,
    refused,
)
from services.ingest.sources.remarks import plain
from services.shared.clock import rfc3339
from services.shared.contracts.consent_words import KNOWN_WORDS, ConsentWords
from services.shared.errors import Reject

MEDIA = frozenset({"application/cloudevents+json", "application/cloudevents-batch+json"})
VERSION = re.compile(r"\.v\d+$")
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"')
ESCAPED = re.compile(r"\\(.)")
MAX_SOURCE = 512
BINARY, STRUCTURED = "ce-specversion", "application/cloudevents"
ATTRIBUTES = ("specversion", "id", "source", "type", "time")


class CloudEvent(msgspec.Struct, kw_only=True):
    """The attributes that we read."""

    specversion: str
    id: str
    source: str
    type: str
    time: datetime | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")
    data_base64: str | None = None


class InteractionData(ForeignItem, frozen=True, kw_only=True):
    """The fields of an interaction; the event has its type."""

    type: str = ""


class StrictData(InteractionData, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Known fields alone, as nearly all data are: others are read once more."""

    external_id: StrictExternalId | None = None
    consent: tuple[StrictConsent, ...] = ()


_event = msgspec.json.Decoder(CloudEvent).decode
_data = msgspec.json.Decoder(StrictData).decode
_text = msgspec.json.Decoder(str).decode


def parse(request: InboundRequest) -> list[Parsed]:
    """Every event of the request, in order."""
    words = request.words.consent
    if is_binary(request):
        return [read_binary(request)]
    if is_empty_list(request.body):
        return []
    return [read(piece, words) for piece in pieces(request.body)]


def is_binary(request: InboundRequest) -> bool:
    """Whether the attributes are in the headers; where the content type is that of a whole event,
    headers are but copies of its attributes.
    """
    return BINARY in request.headers and not request.media.startswith(STRUCTURED)


def read_binary(request: InboundRequest) -> Parsed:
    """The event whose data is the body and whose attributes are headers, quoted or percent-encoded
    as the HTTP binding has it.
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
    if quoted := QUOTED.fullmatch(value):
        value = ESCAPED.sub(r"\1", quoted[1])
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
        found = _fields(_data_of(event), words)
    except (Reject, *UNREADABLE) as error:
        inside = "/data_base64" if event.data_base64 else "/data"
        return refused(piece, error, inside)
    data = plain(found)
    item = msgspec.structs.replace(
        data,
        id=event.id,
        type=data.type or own_type(event.type),
        occurred_at=data.occurred_at or event.time,
        origin=quote(event.source, safe=":/@"),
        stated_at=None,
    )
    return found._replace(item=item) if isinstance(found, Remarked) else item


def _data_of(event: CloudEvent) -> bytes:
    """The JSON of the event's data. Raises Reject."""
    data = bytes(event.data)
    if event.data_base64:
        if data not in (b"{}", b"null"):
            remedy = "send one of `data` and `data_base64`"
            raise Reject("there are two sorts of data", where="/data_base64", remedy=remedy)
        data, where = _from_base64(event.data_base64), "/data_base64"
    elif data[:1] == b'"':
        data, where = _text(data).encode(), "/data"
    else:
        return data
    if is_deep(data):
        raise Reject(TOO_DEEP.title, where=where, remedy=TOO_DEEP.remedy)
    return data.strip() or b"{}"


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        remedy = "encode JSON in base64, or send the fields as an object in `data`"
        raise Reject("not base64", where="/data_base64", remedy=remedy) from None


def own_type(given: str) -> str:
    """The interaction's type in a CloudEvent's."""
    return VERSION.sub("", given).rpartition(".")[2]


def _fields(data: bytes, words: ConsentWords) -> Item | Remarked:
    try:
        return _data(data)
    except msgspec.ValidationError:
        return leniently(data, InteractionData, words, "/data")


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
    parameters=KEY_ONLY,
)
