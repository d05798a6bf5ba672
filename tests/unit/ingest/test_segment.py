"""Segment's calls: names, times, people; and batches of which one call is broken."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from services.ingest.sources.contract import (
    ForeignItem,
    InboundRequest,
    Item,
    ItemProblem,
    Refused,
    RejectedItem,
)
from services.ingest.sources.segment import answer, parse, write_key
from services.ingest.sources.segment_calls import snake
from services.shared.errors import Reject

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def call(kind: str, **fields: Any) -> ForeignItem:
    [item] = read(f"/v1/{kind}", fields)
    assert isinstance(item, ForeignItem)
    return item


def read(path: str, body: Any) -> list[Item | Refused]:
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


def test_a_batch_keeps_its_sound_calls_even_beside_one_that_is_no_json() -> None:
    batch = (
        b'{"sentAt":"2020-01-01T00:00:09Z","batch":[{"type":"track","event":"a","userId":"u","timestamp":"2020-01-01T00:00:00Z"},'
        b'{"type":"track","event":"b","properties":{"n":NaN}},{"type":"nope"},{"type":"page","anonymousId":"a"}],"writeKey":"k"}'
    )
    first, broken, unknown, last = read("/v1/batch", batch)
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
