"""Our own format: arrays, lines and single items, each item read alone."""

from datetime import UTC, datetime

import msgspec
import pytest

from services.ingest.sources.canonical import parse
from services.ingest.sources.contract import InboundRequest, Item, Refused
from services.shared.errors import Reject

NOW = datetime(2026, 11, 1, tzinfo=UTC)
GOOD = b'{"id":"g","type":"page_viewed","anonymous_id":"a-1"}'


def read(body: bytes, media: str = "application/json") -> list[Item | Refused]:
    return parse(InboundRequest("/v1/events", body, NOW, media))


def refusal(read: Item | Refused) -> Reject:
    assert isinstance(read, Refused)
    return read.reject


def test_one_object_is_one_interaction_with_all_its_fields() -> None:
    """I7: touch, source, campaign, cost and consent come in with the act."""
    [item] = read(
        b'{"id":"1","type":"demo_requested","occurred_at":"2026-01-02T03:04:05+02:00","email":"a@b.de","user_id":"u",'
        b'"external_id":{"system":"crm","id":"7"},"product":"p","content_id":"c","url":"https://x.example","touch_id":"t",'
        b'"company":"Acme","source":"ad","campaign":"spring","cost":1.5,"machine":true,"traits":{"a":1},"properties":{"b":[2]},'
        b'"consent":[{"channel":"email","purpose":"marketing","state":"given","basis":"form","text":"Yes"}]}'
    )
    assert isinstance(item, Item)
    assert item.occurred_at == datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)
    assert (item.cost, item.campaign, item.touch_id, item.machine) == (1.5, "spring", "t", True)
    assert item.external_id
    assert msgspec.structs.astuple(item.external_id) == ("crm", "7")
    assert item.consent[0].text == "Yes"


def test_a_null_is_as_good_as_a_field_left_out_but_stays_in_traits() -> None:
    [item] = read(
        b'{"type":"x","email":null,"consent":[{"state":"given","at":null}],"cost":null,"traits":{"a":null}}'
    )
    assert isinstance(item, Item)
    assert (item.email, item.cost, item.traits) == ("", None, {"a": None})


def test_lines_are_items_and_empty_lines_are_not() -> None:
    items = read(GOOD + b"\r\n\n  \n" + GOOD + b"\n{oops", "application/x-ndjson")
    assert [isinstance(item, Item) for item in items] == [True, True, False]


@pytest.mark.parametrize(
    ("bad", "where", "what"),
    [
        (b'{"type":"x","user_id":"u","properties":{"n":NaN}}', "", "JSON is malformed"),
        (b'{"type":"x","user_id":"u","properties":{"n":1e400}}', "/properties", "out of range"),
        (
            b'{"type":"x","user_id":"u","consent":[{"state":"perhaps"}]}',
            "/consent/0/state",
            "Invalid enum",
        ),
        (b'{"type":"x","user_id":"u","occurred_at":"yesterday"}', "/occurred_at", "RFC3339"),
        (b'{"type":"x","user_id":7}', "/user_id", "Expected `str`"),
        (b'{"user_id":"u"}', "/type", "missing"),
        (b'{"type":"x","user_id":"\xff"}', "", "UTF-8"),
        (rb'{"type":"x","user_id":"\ud800"}', "", "lone surrogate"),
        (b'{"type":"x","user_id":"u","a":' + b"[" * 40 + b"]" * 40 + b"}", "", "deeper than 32"),
        (
            b'{"type":"x","user_id":"u","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            "",
            "deeper than 32",
        ),
        (b'"text"', "", "Expected `object`"),
        (b"", "", "malformed"),
    ],
)
def test_a_broken_item_is_refused_and_its_neighbours_are_not(
    bad: bytes, where: str, what: str
) -> None:
    """Bad input: what, where, how to mend it; a refused item never takes its neighbours with it."""
    first, broken, last = read(b"[" + GOOD + b"," + bad + b" , " + GOOD + b"]")
    assert isinstance(first, Item)
    assert isinstance(last, Item)
    reject = refusal(broken)
    assert what in reject.title
    assert reject.where == where
    assert reject.remedy


def test_brackets_and_quotes_inside_texts_do_not_cut_an_item() -> None:
    tricky = rb'{"type":"x","user_id":"u","traits":{"a":"],[{\"\\"}}'
    items = read(b"[" + tricky + b',{"n":NaN},' + tricky + b"]")
    assert [isinstance(item, Item) for item in items] == [True, False, True]


@pytest.mark.parametrize(
    "body", [b"", b"  ", b"[", b"[1,2", b'[{"a":1}] x', b"[]", b'["' + b'\\"' * 100_000]
)
def test_a_body_that_cannot_be_cut_is_refused_whole(body: bytes) -> None:
    with pytest.raises(Reject) as caught:
        read(body)
    assert caught.value.remedy


def test_more_than_ten_thousand_items_are_too_many() -> None:
    assert len(read(b"[" + b",".join([GOOD] * 10_000) + b"]")) == 10_000
    with pytest.raises(Reject) as caught:
        read(b"[" + b",".join([GOOD] * 10_001) + b"]")
    assert caught.value.kind == "too-large"


def test_a_refused_item_is_named_by_the_senders_id() -> None:
    [refused] = read(b'{"id":"mine","type":7}')
    assert isinstance(refused, Refused)
    assert refused.id == "mine"
