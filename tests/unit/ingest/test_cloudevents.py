"""CloudEvents 1.0, structured and batched, also as the official library writes them."""

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from services.ingest.http.events import source_of
from services.ingest.sources import canonical
from services.ingest.sources.cloudevents import SOURCE, own_type, parse
from services.ingest.sources.contract import ForeignItem, InboundRequest, Item, Refused

NOW = datetime(2026, 11, 1, tzinfo=UTC)
EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "/shop",
    "type": "demo_requested",
    "data": {"email": "a@b.de"},
}


def read(body: Any) -> list[Item | Refused]:
    return parse(
        InboundRequest("/v1/events", msgspec.json.encode(body), NOW, "application/cloudevents+json")
    )


def test_data_are_the_interaction_and_the_attributes_its_id_type_and_time() -> None:
    """I2: CloudEvents come in as they are."""
    [item] = read(EVENT | {"time": "2026-01-02T03:04:05Z"})
    assert isinstance(item, ForeignItem)
    assert (item.id, item.type, item.email, item.origin) == (
        "1",
        "demo_requested",
        "a@b.de",
        "/shop",
    )
    assert item.occurred_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_the_types_of_the_data_win_over_those_of_the_event() -> None:
    [item] = read(EVENT | {"data": {"type": "won", "user_id": "u", "email": None}})
    assert isinstance(item, ForeignItem)
    assert (item.type, item.email) == ("won", "")


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ("won", "won"),
        ("com.example.won", "won"),
        ("com.example.won.v2", "won"),
        ("won.v1", "won"),
        ("v1", "v1"),
    ],
)
def test_a_domain_before_and_a_version_after_a_type_fall_away(given: str, ours: str) -> None:
    assert own_type(given) == ours


def test_a_source_cannot_speak_beyond_its_place() -> None:
    [item] = read(EVENT | {"source": 'x","data":{}'})
    assert isinstance(item, ForeignItem)
    assert '"' not in item.origin


def test_a_batch_keeps_the_sound_events() -> None:
    items = read(
        [
            EVENT,
            EVENT | {"specversion": "0.3"},
            EVENT | {"id": ""},
            EVENT | {"data": {"user_id": 7}},
            EVENT,
        ]
    )
    assert [isinstance(item, Refused) for item in items] == [False, True, True, True, False]
    assert [item.reject.where for item in items if isinstance(item, Refused)] == [
        "/specversion",
        "/id",
        "/data/user_id",
    ]


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


NOTHING = msgspec.UNSET


@pytest.mark.parametrize(
    ("data", "base64_data", "email"),
    [
        (NOTHING, in_base64(b'{"email": "a@b.de"}'), "a@b.de"),
        (None, in_base64(b'  {"email": "a@b.de"}'), "a@b.de"),
        ({}, in_base64(b'{"email": "a@b.de"}'), "a@b.de"),
        ({"email": "a@b.de"}, None, "a@b.de"),
        ({"email": "a@b.de"}, "", "a@b.de"),
        ('{"email": "a@b.de"}', NOTHING, "a@b.de"),
        ('{"email": "a@b.de", "user_id": null}', None, "a@b.de"),
        ("", NOTHING, ""),
        (None, None, ""),
        (NOTHING, NOTHING, ""),
    ],
)
def test_data_are_an_object_json_in_a_text_or_json_in_base64(
    data: Any, base64_data: Any, email: str
) -> None:
    """I2: as the JSON format and the SDKs write them; a null is an attribute that is not set."""
    given = EVENT | {"data": data, "data_base64": base64_data}
    [item] = read({name: value for name, value in given.items() if value is not NOTHING})
    assert isinstance(item, ForeignItem)
    assert (item.type, item.email) == ("demo_requested", email)


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"data": None, "data_base64": "e30"}, "/data_base64"),
        ({"data": None, "data_base64": "é"}, "/data_base64"),
        ({"data": None, "data_base64": in_base64(b"<xml/>")}, "/data_base64"),
        ({"data": None, "data_base64": in_base64(b'{"user_id": 7}')}, "/data_base64/user_id"),
        ({"data": None, "data_base64": in_base64(b"\xff")}, "/data_base64"),
        ({"data_base64": in_base64(b"{}")}, "/data_base64"),
        ({"data": "<xml/>"}, "/data"),
        ({"data": '{"email": 7}'}, "/data/email"),
        ({"data": '"{}"'}, "/data"),
        ({"data": 7}, "/data"),
        ({"data": '{"a":' * 40 + "1" + "}" * 40}, "/data"),
        ({"data": None, "data_base64": in_base64(b"[" * 40 + b"]" * 40)}, "/data_base64"),
    ],
)
def test_data_that_cannot_be_read_are_refused_with_their_place(
    given: dict[str, Any], where: str
) -> None:
    [item] = read(EVENT | given)
    assert isinstance(item, Refused)
    assert (item.id, item.reject.where) == ("1", where)
    assert item.reject.remedy


@pytest.mark.parametrize("body", [b"[]", b" [ ] ", b"\xef\xbb\xbf[]"])
def test_an_empty_batch_holds_no_event(body: bytes) -> None:
    media = "application/cloudevents-batch+json"
    assert parse(InboundRequest("/v1/events", body, NOW, media)) == []


def test_headers_beside_a_structured_event_are_copies_of_its_attributes() -> None:
    """The content type decides on the mode."""
    headers = {"ce-specversion": "1.0", "ce-id": "other", "ce-type": "x", "ce-source": "y"}
    body = msgspec.json.encode(EVENT)
    request = InboundRequest("/v1/events", body, NOW, "application/cloudevents+json", headers)
    assert source_of(request, [canonical.SOURCE, SOURCE]) is SOURCE
    [item] = parse(request)
    assert isinstance(item, ForeignItem)
    assert (item.id, item.type, item.origin) == ("1", "demo_requested", "/shop")


def test_the_official_library_is_understood() -> None:
    """I2: an unchanged official client."""
    from cloudevents.core.bindings.http import to_structured_event
    from cloudevents.core.v1.event import CloudEvent

    attributes = {
        "type": "com.example.enquired",
        "source": "/site",
        "id": "7",
        "specversion": "1.0",
        "time": NOW,
    }
    message = to_structured_event(CloudEvent(attributes, {"user_id": "u-1"}))
    body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
    [item] = parse(InboundRequest("/v1/events", body, NOW, "application/cloudevents+json"))
    assert isinstance(item, ForeignItem)
    assert (item.id, item.type, item.user_id, item.occurred_at) == ("7", "enquired", "u-1", NOW)


def binary(body: bytes = b'{"email": "a@b.de"}', **headers: str) -> Item | Refused:
    given = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/shop",
        "ce-type": "com.example.demo_requested",
    }
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    [item] = parse(
        InboundRequest(
            "/v1/events",
            body,
            NOW,
            "application/json",
            {name: value for name, value in given.items() if value},
        )
    )
    return item


def test_in_binary_mode_the_attributes_are_headers_and_the_body_the_data() -> None:
    item = binary(ce_id="caf%C3%A9", ce_time="2026-01-02T03:04:05Z")
    assert isinstance(item, ForeignItem)
    assert (item.id, item.type, item.email, item.origin) == (
        "café",
        "demo_requested",
        "a@b.de",
        "/shop",
    )
    assert item.occurred_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert isinstance(binary(b""), ForeignItem)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"7"', "7"), ('"a b"', "a b"), (r'"a \"b\" \\"', 'a "b" \\'), ('"caf%C3%A9"', "café"),
        ("a%20b%22", 'a b"'), ("%2525", "%25"), ('"', '"'), ('a"b"', 'a"b"'), ('"a"b"', '"a"b"'),
        ("100%", "100%"),
    ],
)  # fmt: skip
def test_values_of_headers_are_unquoted_and_then_percent_decoded_once(
    written: str, meant: str
) -> None:
    """HTTP protocol binding 1.0.2, § 3.1.3.2."""
    item = binary(ce_id=written)
    assert isinstance(item, ForeignItem)
    assert item.id == meant


@pytest.mark.parametrize("bad", ["%C0%A0", "%FF", "%ED%A0%80", "caf\u00e9"])
def test_headers_that_are_no_percent_encoded_utf_8_are_refused(bad: str) -> None:
    """Overlong forms, lone surrogates and raw Latin-1 are read by nobody in the same way."""
    item = binary(ce_id=bad)
    assert isinstance(item, Refused)
    assert (item.reject.where, item.reject.kind) == ("ce-id", "invalid")


@pytest.mark.parametrize(
    ("headers", "where"),
    [
        ({"ce_id": ""}, "/id"),
        ({"ce_specversion": "0.3"}, "/specversion"),
        ({"ce_time": "yesterday"}, "/time"),
    ],
)
def test_a_missing_or_wrong_attribute_of_a_binary_event_is_named(
    headers: dict[str, str], where: str
) -> None:
    item = binary(**headers)
    assert isinstance(item, Refused)
    assert item.reject.where == where
