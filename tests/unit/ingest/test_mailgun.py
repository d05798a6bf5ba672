"""Mailgun's events, and a signature that covers a time and a token but not the event."""

import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.sources.contract import InboundRequest, Refused
from services.ingest.sources.mailgun import SOURCE, parse, sample, sign, single_use_token
from tests.support.mailtools import (
    NEW,
    NOW,
    OLD,
    OTHER_TOUCH,
    TOUCH,
    VALUES,
    check_sample,
    consents,
    encoded,
    golden,
    is_clear,
    items,
    later,
    post,
    posted,
    refusal,
    spoiled,
    summary,
    taken,
    uids,
)

EVENTS: list[dict[str, Any]] = json.loads(golden("mailgun.json"))
STAMP, TOKEN = str(int(NOW.timestamp())), "e04f0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0"


def digest(key: str, stamp: str = STAMP, token: str = TOKEN) -> str:
    """The signature in so many words: HMAC-SHA256 over time and token, in hex."""
    return hmac.new(key.encode(), (stamp + token).encode(), hashlib.sha256).hexdigest()


def signed(event: dict[str, Any], **signature: Any) -> bytes:
    block = {"timestamp": STAMP, "token": TOKEN, "signature": digest(NEW.value)} | signature
    return encoded({"signature": block, "event-data": event})


def parsed(event: dict[str, Any], **signature: Any) -> list[Any]:
    return parse(post(SOURCE, signed(event, **signature)))


def request(at: datetime = NOW, **signature: Any) -> InboundRequest:
    return post(SOURCE, signed(EVENTS[0], **signature), at)


EVERY = [one for event in EVENTS for one in parsed(event)]


def test_every_event_of_the_documentation_is_read() -> None:
    """I2: their names at Mailgun and ours."""
    assert summary(EVERY) == [
        ("ann@example.com", "email_processed", ""),
        ("ann@example.com", "email_delivered", ""),
        ("ann@example.com", "email_opened", ""),
        ("ann@example.com", "email_opened", ""),
        ("ann@example.com", "email_clicked", ""),
        ("ann@example.com", "email_clicked", ""),
        ("ben@example.com", "email_bounced", "hard"),
        ("cleo@example.com", "email_bounced", "hard"),
        ("ann@example.com", "email_bounced", "soft"),
        ("dan@example.com", "consent_withdrawn", ""),
        ("eve@example.com", "consent_withdrawn", ""),
        ("ann@example.com", "email_bounced", "soft"),
        ("ann@example.com", "email_bounced", "soft"),
        ("gus@example.com", "unsubscribed", ""),
        ("fay@example.com", "email_complained", ""),
        ("ann@example.com", "email_dropped", ""),
    ]


def test_who_leaves_complains_or_cannot_be_reached_is_refused_mail_at_once() -> None:
    """N6: by `lead.consents`; also who leaves one of the lists only."""
    assert consents(EVERY) == {
        f"{name}@example.com": ["withdrawn"] for name in ("ben", "cleo", "dan", "eve", "gus", "fay")
    }


def test_an_event_tells_when_what_and_why() -> None:
    """I7."""
    click, bounce = items(EVERY)[4], items(EVERY)[7]
    assert (click.url, click.campaign) == ("https://www.example.com/pricing", "autumn")
    assert click.occurred_at == datetime(2026, 11, 1, 12, 0, 4, 546000, tzinfo=UTC)
    assert bounce.properties["reason"].startswith("5.1.1 The email account")


def test_an_event_finds_its_touch_by_our_variable_or_by_our_message_id() -> None:
    """I7."""
    assert [item.touch_id for item in items(EVERY)[:4]] == ["", OTHER_TOUCH, TOUCH, ""]


def test_what_mailgun_knows_as_a_bot_is_flagged() -> None:
    """I5: Apple's and Gmail's, and scanners; but nobody's unsubscribing is put down to a bot."""
    assert [item.machine for item in items(EVERY)[2:6]] == [False, True, False, True]
    [left] = items(parsed(EVENTS[13] | {"client-info": {"bot": "generic"}}))
    assert not left.machine


def test_an_event_that_comes_again_or_by_a_second_webhook_has_the_same_identity() -> None:
    """O4: its id is unique within a day."""
    assert uids(parsed(EVENTS[2])) == uids(parsed(EVENTS[2], token="another"))
    [first], [next_day] = (
        uids(parsed(EVENTS[2])),
        uids(parsed(EVENTS[2] | {"timestamp": EVENTS[2]["timestamp"] + 86_400})),
    )
    assert first != next_day
    without = {name: value for name, value in EVENTS[2].items() if name != "id"}
    assert uids(parsed(without)) == uids(parsed(without))
    assert uids(parsed(without)) != uids(parsed(without, token="another"))


def test_what_is_no_event_is_refused_by_its_place() -> None:
    for event, where in (
        ({"event": "list_uploaded"}, "/event-data/event"),
        ({}, "/event-data/event"),
        ({"event": "opened", "timestamp": 1e300}, "/event-data/timestamp"),
        ({"event": "opened", "recipient": True}, "/event-data/recipient"),
    ):
        [refused] = parsed(event)
        assert isinstance(refused, Refused)
        assert refused.reject.where == where
    assert taken(parsed({"event": "opened"})).refused[0].reject.kind == "no-identifier"


# -- signature ------------------------------------------------------------------------------------


def test_a_signature_made_in_so_many_words_fits_and_so_does_a_parent_accounts() -> None:
    assert SOURCE.verify
    assert SOURCE.verify(request(), [OLD, NEW]) == NEW
    assert SOURCE.verify(request(timestamp=int(STAMP)), [NEW]) == NEW
    subaccount = {"signature": digest("the subaccount's"), "parent-signature": digest(NEW.value)}
    assert SOURCE.verify(request(**subaccount), [NEW]) == NEW


def test_while_keys_change_the_old_and_the_new_one_fit_and_afterwards_only_the_new_one() -> None:
    assert SOURCE.verify
    with_old = request(signature=digest(OLD.value))
    assert SOURCE.verify(with_old, [NEW, OLD]) == OLD
    assert refusal(SOURCE, with_old, NEW) == "signature"


@pytest.mark.parametrize(
    "changes",
    [
        {"signature": digest(NEW.value)[:-1] + "g"},
        {"signature": digest(NEW.value).upper()},
        {"signature": ""},
        {"signature": None},
        {"token": TOKEN[:-1] + "1"},
        {"token": "", "signature": digest(NEW.value, STAMP, "")},
        {"timestamp": TOKEN, "token": STAMP},
        {"timestamp": str(int(STAMP) + 1)},
        {"timestamp": STAMP + TOKEN, "token": ""},
    ],
)
def test_a_changed_or_swapped_part_of_the_signature_does_not_fit(changes: dict[str, Any]) -> None:
    assert refusal(SOURCE, request(**changes), NEW) == "signature"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"signature":{}}', b"token=a&timestamp=1", b"[" * 100_000]
)
def test_a_body_without_a_signature_does_not_fit(body: bytes) -> None:
    assert refusal(SOURCE, post(SOURCE, body), NEW) == "signature"


def test_mailguns_repetitions_of_eight_hours_fit_and_nothing_older_or_from_the_future() -> None:
    assert SOURCE.verify
    assert SOURCE.verify(request(later(8.5)), [NEW])
    for at in (later(13), later(-13)):
        assert refusal(SOURCE, request(at), NEW) == "stale"


def test_a_token_whose_beginning_is_moved_into_the_time_is_no_new_token() -> None:
    """`1793538000` and `e04f…` sign the same as `1793538000e0` and `4f…`, which are the same
    moment.
    """
    moved = request(timestamp=STAMP + TOKEN[:2], token=TOKEN[2:])
    assert float(STAMP + TOKEN[:2]) == float(STAMP)
    assert refusal(SOURCE, moved, NEW) == "signature"
    assert (
        single_use_token(moved)
        == single_use_token(request())
        != single_use_token(request(token="another"))
    )


def test_the_sample_is_a_request_as_mailgun_makes_it() -> None:
    check_sample(SOURCE)
    one, other = (
        posted(SOURCE, sign(sample("a@b.example", NOW), "key", "", NOW)) for _ in range(2)
    )
    assert single_use_token(one) != single_use_token(other)


# -- whatever comes -------------------------------------------------------------------------------


@given(spoiled(EVENTS), st.booleans())
def test_whatever_type_a_field_has_the_event_is_an_item_or_a_refusal(
    event: dict[str, Any], whole: bool
) -> None:
    body = signed(event) if whole else encoded(event)
    assert is_clear(parse, post(SOURCE, body))


@given(VALUES.map(encoded) | st.binary(max_size=200))
def test_whatever_body_comes_it_is_read_or_refused_and_fits_nothing(body: bytes) -> None:
    assert is_clear(parse, post(SOURCE, body))
    assert refusal(SOURCE, post(SOURCE, body), NEW) == "signature"
