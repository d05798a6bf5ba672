"""Segment's calls: names, times, people; and batches of which one call is broken."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from services.ingest.sources import jitsu
from services.ingest.sources.contract import (
    ForeignItem,
    InboundRequest,
    ItemProblem,
    Parsed,
    Refused,
    RejectedItem,
    Remark,
    Remarked,
)
from services.ingest.sources.segment import IMPORTS, answer, is_batch, parse, write_key
from services.ingest.sources.segment_calls import snake
from services.shared.errors import Reject

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def call(kind: str, **fields: Any) -> ForeignItem:
    [item] = read(f"/v1/{kind}", fields)
    assert isinstance(item, ForeignItem)
    return item


def read(path: str, body: Any) -> list[Parsed]:
    return parse(
        InboundRequest(path, body if isinstance(body, bytes) else msgspec.json.encode(body), NOW)
    )


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("Demo Requested", "demo_requested"),
        ("demoRequested", "demo_requested"),
        ("pricing-viewed", "pricing_viewed"),
        ("Order Completed", "purchased"),
        ("Email Link Clicked", "email_clicked"),
        ("Überraschung!", "überraschung"),
        ("***", "***"),
    ],
)
def test_the_name_of_a_tracked_event_in_snake_case_is_its_type(name: str, type_: str) -> None:
    assert snake(name) == type_
    assert call("track", event=name, userId="u").type == type_


def test_a_page_is_a_visit_of_its_address() -> None:
    """I1, I9: the web address says which content it was."""
    context = {
        "page": {"url": "https://x.example/a"},
        "campaign": {"name": "spring", "source": "ad"},
    }
    item = call("page", anonymousId="a", name="Pricing", context=context)
    assert (item.type, item.url, item.campaign, item.source) == (
        "page_viewed",
        "https://x.example/a",
        "spring",
        "ad",
    )
    assert item.properties == {"name": "Pricing"}
    assert call(
        "page", anonymousId="a", properties={"url": "https://x.example/b"}, context=context
    ).url.endswith("/b")


def test_identify_brings_traits_and_the_address() -> None:
    """D1: the anonymous id and the address come in one event."""
    item = call(
        "identify",
        userId=12,
        anonymousId="a",
        traits={"email": "a@b.de", "company": {"name": "Acme"}, "title": "CEO"},
    )
    assert (item.type, item.user_id, item.email, item.company) == (
        "identified",
        "12",
        "a@b.de",
        "Acme",
    )
    assert item.traits["title"] == "CEO"


def test_rudderstack_puts_traits_into_the_context_and_the_time_into_another_field() -> None:
    """D1: `traits` of the call itself come first."""
    item = call(
        "identify",
        userId="u",
        context={"traits": {"email": "a@b.de", "title": "CEO", "company": {"name": "Acme"}}},
        traits={"title": "CFO"},
        originalTimestamp="2020-01-01T00:00:00Z",
        sentAt="2020-01-01T00:00:02Z",
    )
    assert (item.email, item.company, item.traits["title"]) == ("a@b.de", "Acme", "CFO")
    assert item.stated_at == datetime(2020, 1, 1, tzinfo=UTC)
    assert item.occurred_at == NOW - timedelta(seconds=2)
    own = call(
        "track",
        event="x",
        userId="u",
        timestamp="2020-02-01T00:00:00Z",
        originalTimestamp="2020-01-01T00:00:00Z",
    )
    assert own.occurred_at == datetime(2020, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["page", "screen"])
def test_the_category_of_a_page_is_kept(kind: str) -> None:
    assert call(kind, anonymousId="a", category="Docs", name="Home").properties == {
        "category": "Docs",
        "name": "Home",
    }
    given = call(kind, anonymousId="a", category="Docs", properties={"category": "Shop"})
    assert given.properties == {"category": "Shop"}


@pytest.mark.parametrize(
    "nothing",
    [
        {"properties": []},
        {"traits": []},
        {"context": []},
        {"context": {"page": [], "campaign": [], "traits": []}},
        {"sentAt": ""},
        {"name": None, "messageId": None, "anonymousId": "", "timestamp": None},
    ],
)
def test_what_is_empty_is_nothing(nothing: dict[str, Any]) -> None:
    """PHP writes an object without fields as `[]`."""
    assert call("track", event="x", userId="u", **nothing) == call("track", event="x", userId="u")


@pytest.mark.parametrize(
    ("given", "text"), [(12, "12"), (12.0, "12"), (12.5, "12.5"), (-0.0, "0"), (2**60, str(2**60))]
)
def test_a_number_for_a_text_is_its_text(given: float, text: str) -> None:
    item = call(
        "group",
        userId=given,
        anonymousId=given,
        messageId=given,
        groupId=given,
        context={"campaign": {"name": given, "source": given}},
    )
    assert {item.user_id, item.anonymous_id, item.id, item.company} == {text}
    assert {item.campaign, item.source} == {text}
    assert call("track", event=given, userId="u").type == snake(text)
    assert call("identify", userId="u", traits={"company": given}).company == text


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("properties", "text", "/properties"),
        ("traits", [1], "/traits"),
        ("context", 7, "/context"),
        ("context", {"page": {"url": {"a": 1}}}, "/context/page/url"),
        ("context", {"campaign": "spring"}, "/context/campaign"),
        ("sentAt", "yesterday", "/sentAt"),
        ("sentAt", 1767225600, "/sentAt"),
        ("messageId", {"a": 1}, "/messageId"),
        ("groupId", True, "/groupId"),
        ("userId", False, "/userId"),
    ],
)
def test_an_incidental_field_that_cannot_be_used_is_left_out_and_remarked(
    field: str, value: Any, where: str
) -> None:
    fields = {"event": "x", "anonymousId": "a", "traits": {"email": "a@b.de"}, field: value}
    [found] = read("/v1/track", fields)
    assert isinstance(found, Remarked)
    assert found.remarks == (Remark("left-out", where),)
    assert (found.item.type, found.item.anonymous_id) == ("x", "a")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("userId", True),
        ("userId", {"id": 1}),
        ("anonymousId", [1]),
        ("previousId", True),
        ("type", True),
        ("event", ["x"]),
        ("timestamp", "yesterday"),
        ("timestamp", 1767225600),
        ("originalTimestamp", "soon"),
    ],
)
def test_only_identity_type_and_time_refuse_a_call(field: str, value: Any) -> None:
    [found] = read("/v1/track", {"event": "x", "userId": "u", field: value})
    assert isinstance(found, Refused)
    assert found.reject.where == f"/{field}"
    assert found.reject.remedy


def test_a_batch_whose_own_context_cannot_be_used_loses_no_call() -> None:
    calls = [{"type": "track", "event": "x", "userId": "u"}, {"type": "page", "userId": "u"}]
    body = {"sentAt": "soon", "context": {"campaign": {"source": 7}, "page": 3}, "batch": calls}
    found = read("/v1/batch", body)
    assert [item.item.source for item in found if isinstance(item, Remarked)] == ["7", "7"]
    assert isinstance(found[0], Remarked)
    assert {remark.where for remark in found[0].remarks} == {"/sentAt", "/context/page"}


def test_a_call_with_more_unusable_fields_than_are_mended_is_refused() -> None:
    """Each costs another reading: the number is bounded by the fields that we know."""
    fields = dict.fromkeys(("name", "category", "properties", "traits", "context"), "x")
    broken = {"ip": {}, "userAgent": [1], "page": {"url": [1], "referrer": [1]}, "campaign": [1]}
    [found] = read("/v1/track", {"event": "x", "userId": "u", **fields, "context": broken})
    assert isinstance(found, Remarked)
    assert len(found.remarks) == 6


def test_a_batch_is_told_from_what_an_importer_posts_to_the_same_address() -> None:
    batch = {"batch": [{"type": "track", "event": "x", "userId": "u"}]}

    def shape(body: Any, **query: str) -> bool:
        encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return is_batch(InboundRequest(IMPORTS[0], encoded, NOW, query=query))

    assert shape(batch)
    assert shape({"context": {}, "sentAt": "2020-01-01T00:00:00Z"} | batch)
    assert shape(b'{"batch":[{"type":"track","n":NaN}]}')
    assert not shape({"type": "x", "email": "a@b.de", "properties": batch})
    assert not shape({"type": "x", "email": "a@b.de"} | batch)
    assert not shape([{"type": "x", "email": "a@b.de"}])
    assert not shape(batch, **{"as": "history"})


def test_jitsus_calls_are_segments_and_their_key_has_two_parts() -> None:
    body = {"type": "track", "event": "Demo Requested", "userId": "u", "context": {"ip": "1.2.3.4"}}
    for path in ("/api/s/event", "/api/s/track", "/api/s/s2s/event", "/api/s/s2s/track"):
        [item] = jitsu.parse(InboundRequest(path, msgspec.json.encode(body), NOW))
        assert isinstance(item, ForeignItem)
        assert (item.type, item.user_id) == ("demo_requested", "u")
    for given in ("rl_a_b:x", "rl_a_b"):
        headers = {"x-write-key": given}
        assert jitsu.write_key(InboundRequest("/", b"", NOW, headers=headers)) == "rl_a_b"
    assert jitsu.write_key(InboundRequest("/", b"", NOW)) == ""


def test_group_names_the_company_and_alias_the_former_id() -> None:
    """D3."""
    assert call("group", userId="u", groupId=7, traits={"name": "Acme"}).company == "Acme"
    assert call("group", userId="u", groupId=7).company == "7"
    item = call("alias", userId="u", previousId="a-1")
    assert (item.type, item.user_id, item.anonymous_id) == ("aliased", "u", "a-1")


def test_times_follow_our_clock_by_segments_rule_and_the_said_time_is_kept() -> None:
    """received - (sentAt - timestamp)."""
    item = call(
        "track",
        event="x",
        userId="u",
        timestamp="2020-01-01T00:00:00Z",
        sentAt="2020-01-01T00:00:09.5Z",
    )
    assert item.occurred_at == NOW - timedelta(seconds=9.5)
    assert item.stated_at == datetime(2020, 1, 1, tzinfo=UTC)
    assert (
        call("track", event="x", userId="u", timestamp="2020-01-01T00:00:00").occurred_at
        == item.stated_at
    )
    assert call("track", event="x", userId="u").occurred_at is None


def test_a_missing_message_id_is_made_from_a_call_that_tells_its_time() -> None:
    fields = {"event": "x", "userId": "u", "timestamp": "2020-01-01T00:00:00Z"}
    assert call("track", **fields).id == call("track", **fields).id != ""
    assert call("track", event="x", userId="u").id == ""
    assert call("track", messageId=7, **fields).id == "7"


@pytest.mark.parametrize("path", ["/v1/batch", *IMPORTS])
def test_a_batch_keeps_its_sound_calls_even_beside_one_that_is_no_json(path: str) -> None:
    """Java's and Ruby's clients post it to /v1/import."""
    batch = (
        b'{"sentAt":"2020-01-01T00:00:09Z","batch":[{"type":"track","event":"a","userId":"u","timestamp":"2020-01-01T00:00:00Z"},'
        b'{"type":"track","event":"b","properties":{"n":NaN}},{"type":"nope"},{"type":"page","anonymousId":"a"}],"writeKey":"k"}'
    )
    first, broken, unknown, last = read(path, batch)
    assert isinstance(first, ForeignItem)
    assert first.occurred_at == NOW - timedelta(seconds=9)
    assert isinstance(broken, Refused)
    assert isinstance(unknown, Refused)
    assert unknown.reject.where == "/type"
    assert isinstance(last, ForeignItem)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"batch":7}', b'{"batch":[', b'{"batch":[]}', b"[]"]
)
def test_a_body_that_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(Reject):
        read("/v1/batch", body)


def test_the_key_may_stand_in_the_body_and_the_answer_is_segments() -> None:
    assert write_key(b'{"writeKey":"rl_x","batch":[]}') == "rl_x"
    assert write_key(b"[]") == write_key(b"") == ""
    assert msgspec.to_builtins(answer(["1"], [])) == {"success": True}
    rejected = RejectedItem(1, None, ItemProblem("invalid", "wrong", "", "", 400))
    assert answer(["1"], [rejected]).rejected == [rejected]
