"""Names that nobody knows beside known ones: taken, and said so with the nearest known name."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from services.ingest.http.answers import MAX_WARNINGS, answered
from services.ingest.normalise import Normaliser, Receipt
from services.ingest.source_stats import SourceStatistics
from services.ingest.sources import canonical, cloudevents
from services.ingest.sources.canonical import StrictItem
from services.ingest.sources.cloudevents import InteractionData, StrictData
from services.ingest.sources.contract import InboundRequest, Item, Parsed, Remark, Remarked
from services.ingest.sources.known_names import MAX_UNKNOWN, Vocabulary
from services.shared.contracts.events import encode_bytes
from services.shared.contracts.identity import Cleaner
from services.shared.nearest import MAX_LENGTH, Names
from services.shared.playbook.sections import Identity

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KNOWN = Vocabulary({"robot_seen"}, {"price-list", "case-bottling"})
NORMALISER = Normaliser(Cleaner(Identity()), b"pepper", vocabulary=KNOWN)
EVENT = {"id": "1", "type": "page_viewed", "email": "ann@firm.example"}


def parse(*events: dict[str, Any]) -> list[Parsed]:
    return canonical.parse(InboundRequest("/v1/events", msgspec.json.encode(events), NOW))


def take(*events: dict[str, Any]) -> Receipt:
    receipt = NORMALISER.take(parse(*events), Receipt("canonical:default", NOW, 1.0))
    assert not receipt.refused
    return receipt


def remarks(event: dict[str, Any]) -> list[Remark]:
    return [placed.remark for placed in take(event).remarks]


@pytest.mark.parametrize(
    ("field", "nearest"),
    [
        ("time", "occurred_at"), ("timestamp", "occurred_at"), ("occured_at", "occurred_at"),
        ("occurredAt", "occurred_at"), ("OCCURRED_AT", "occurred_at"), ("userId", "user_id"),
        ("anonymousId", "anonymous_id"), ("emial", "email"), ("e-mail", "email"),
        ("emailAddress", "email"), ("contentId", "content_id"), ("messageId", "id"),
        ("utm_source", "source"), ("event", "type"), ("name", "traits.name"),
        ("first_name", "traits.first_name"), ("props", "properties"), ("xyz", ""),
    ],
)  # fmt: skip
def test_an_unknown_field_is_named_with_the_nearest_one(field: str, nearest: str) -> None:
    """U3: whoever writes `time` learns that it is `occurred_at`; the event is taken."""
    assert remarks(EVENT | {field: "x"}) == [Remark("unknown-field", f"/{field}", "", nearest)]
    assert remarks(EVENT | {field: None}) == [Remark("unknown-field", f"/{field}", "", nearest)]


def test_fields_within_consents_and_external_ids_are_looked_at_as_well() -> None:
    event = EVENT | {
        "external_id": {"system": "crm", "id": "7", "sytem": "x"},
        "consent": [{"state": "given"}, {"state": "given", "date": "2026-01-01", "at": None}],
    }
    assert remarks(event) == [
        Remark("unknown-field", "/external_id/sytem", "", "system"),
        Remark("unknown-field", "/consent/1/date", "", "at"),
    ]
    assert remarks(EVENT | {"traits": {"time": 1, "x": {"y": 2}}, "properties": {"at": 3}}) == []


def test_a_name_that_is_an_address_is_not_kept() -> None:
    """Remarks are stored: nothing personal stands in them."""
    assert remarks(EVENT | {"ann@firm.example": True}) == [Remark("unknown-field", "/")]


def test_the_data_of_a_cloudevent_are_looked_at_as_well() -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/x", "type": "com.x.page_view"}
    for data in ({"email": "a@b.de", "time": 1}, '{"email": "a@b.de", "time": 1}'):
        body = msgspec.json.encode(event | {"data": data, "partitionkey": "an extension"})
        items = cloudevents.parse(
            InboundRequest("/v1/events", body, NOW, "application/cloudevents+json")
        )
        receipt = NORMALISER.take(items, Receipt("cloudevents:default", NOW, 1.0))
        assert receipt.ids == ["1"]
        assert [placed.remark for placed in receipt.remarks] == [
            Remark("unknown-field", "/data/time", "", "occurred_at"),
            Remark("unknown-type", "/type", "page_view", "page_viewed"),
        ]


@pytest.mark.parametrize(
    ("type_", "nearest"),
    [
        ("page_view", "page_viewed"), ("Page Viewed", "page_viewed"), ("pageView", "page_viewed"),
        ("demo_request", "demo_requested"), ("unsubscribe", "unsubscribed"),
        ("robot-seen", "robot_seen"), ("opportunity", "opportunity_opened"),
        ("robot_seen", ""), ("page_viewed", ""), ("video_started", ""), ("ordered_a_pizza", ""),
    ],
)  # fmt: skip
def test_a_type_that_resembles_a_known_one_is_said(type_: str, nearest: str) -> None:
    expected = [Remark("unknown-type", "/type", type_, nearest)] if nearest else []
    assert remarks(EVENT | {"type": type_}) == expected


@pytest.mark.parametrize(
    ("content", "nearest"),
    [("pricelist", "price-list"), ("price_list", "price-list"), ("case-botling", "case-bottling"),
     ("price-list", ""), ("our-blog", ""), ("", "")],
)  # fmt: skip
def test_content_that_resembles_some_of_the_playbook_is_said(content: str, nearest: str) -> None:
    expected = [Remark("unknown-content", "/content_id", content, nearest)] if nearest else []
    assert remarks(EVENT | {"content_id": content}) == expected


def test_the_answer_lists_them_within_a_limit() -> None:
    events = [EVENT | {"id": f"e{number}", "time": "x"} for number in range(MAX_WARNINGS + 50)]
    statistics = SourceStatistics(None, [canonical.SOURCE], "http://x.example")  # type: ignore[arg-type]
    answer = json.loads(answered(take(*events), canonical.SOURCE, statistics).body)
    assert answer["accepted"] == MAX_WARNINGS + 50
    assert len(answer["warnings"]) == MAX_WARNINGS
    assert answer["warnings"][7] == {
        "index": 7, "id": "e7", "kind": "unknown-field", "field": "/time", "text": "",
        "nearest": "occurred_at",
        "detail": "a field that has no meaning here, which was ignored; "
            "did you mean 'occurred_at'?",
    }  # fmt: skip


def test_of_many_unknown_fields_some_are_looked_at() -> None:
    assert len(remarks(EVENT | {f"field{number}": 1 for number in range(10_000)})) == MAX_UNKNOWN


def test_an_id_that_we_make_does_not_depend_on_unknown_fields() -> None:
    """Known fields alone are hashed, in one order."""
    event = EVENT | {
        "id": "",
        "occurred_at": "2026-10-01T00:00:00Z",
        "consent": [{"state": "given"}],
        "external_id": {"system": "crm", "id": "7"},
    }
    assert take(event).ids == take(event | {"zzz": 1}).ids
    strict, lenient = (msgspec.convert(event, kind) for kind in (StrictItem, Item))
    assert encode_bytes(strict) == encode_bytes(lenient)
    strict, lenient = (msgspec.convert(event, kind) for kind in (StrictData, InteractionData))
    assert encode_bytes(strict) == encode_bytes(lenient)


def test_nothing_is_said_of_what_is_in_order() -> None:
    (item,) = parse(EVENT)
    assert not isinstance(item, Remarked)


def test_names_resemble_whatever_their_case_and_signs() -> None:
    names = Names(["min_fit", "limit", "cursor"])
    for given, nearest in {
        "minFit": "min_fit", "limits": "limit", "Cursor": "cursor", "offset": "", "": "",
        "c" * 100_000: "",
    }.items():  # fmt: skip
        assert names.nearest(given) == nearest


def test_of_a_long_name_only_the_beginning_is_kept() -> None:
    """Names that differ behind what is compared are one in the memory of what was asked."""
    names = Names(["occurred_at"])
    assert {names.nearest("occured_at" + " " * MAX_LENGTH + str(n)) for n in range(9)} == {
        "occurred_at"
    }
    assert names._nearest.cache_info().currsize == 1
