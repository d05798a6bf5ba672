"""SendGrid's events, its signature against SendGrid's own client, and what is refused."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from sendgrid import EventWebhook

from services.ingest.sources.contract import InboundRequest, Refused, Remark, Remarked, Secret
from services.ingest.sources.sendgrid import (
    SIGNATURE,
    SOURCE,
    TIMESTAMP,
    new_secret,
    parse,
    sample,
    sign,
)
from services.shared.errors import Reject
from tests.support.mailtools import (
    NOW,
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

GOLDEN = golden("sendgrid.json")
EVENTS: list[dict[str, Any]] = json.loads(GOLDEN)
SIGNER, KEY = new_secret()


def parsed(body: Any) -> list[Any]:
    return parse(post(SOURCE, body if isinstance(body, bytes) else json.dumps(body).encode()))


def event(**fields: Any) -> dict[str, Any]:
    return {
        "email": "ann@example.com",
        "timestamp": 1793534400,
        "sg_event_id": "e-1",
        "event": "open",
    } | fields


def by_hand(body: bytes, key: ec.EllipticCurvePrivateKey, at: datetime = NOW) -> InboundRequest:
    """A request signed in so many words: ECDSA with SHA-256 over the time's digits and the raw
    body, DER in base64.
    """
    stamp = str(int(at.timestamp()))
    signature = key.sign(stamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    return post(
        SOURCE, body, headers={SIGNATURE: base64.b64encode(signature).decode(), TIMESTAMP: stamp}
    )


def public(key: ec.EllipticCurvePrivateKey) -> str:
    return base64.b64encode(
        key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).decode()


def test_every_event_of_the_documentation_is_read() -> None:
    """I2: their names at SendGrid and ours."""
    assert summary(parsed(GOLDEN.encode())) == [
        ("ann@example.com", "email_processed", ""),
        ("ann@example.com", "email_bounced", "soft"),
        ("ann@example.com", "email_delivered", ""),
        ("ann@example.com", "email_opened", ""),
        ("ann@example.com", "email_opened", ""),
        ("ann@example.com", "email_clicked", ""),
        ("ben@example.com", "email_bounced", "hard"),
        ("ann@example.com", "email_bounced", "soft"),
        ("cleo@example.com", "email_bounced", "hard"),
        ("dan@example.com", "consent_withdrawn", ""),
        ("eve@example.com", "consent_withdrawn", ""),
        ("ann@example.com", "email_dropped", ""),
        ("fay@example.com", "email_complained", ""),
        ("gus@example.com", "unsubscribed", ""),
        ("hal@example.com", "unsubscribed", ""),
        ("hal@example.com", "resubscribed", ""),
    ]


def test_who_leaves_complains_or_cannot_be_reached_is_refused_mail_at_once() -> None:
    """N6: by `lead.consents`; coming back to one group permits nothing."""
    withdrawn = ("ben", "cleo", "dan", "eve", "fay", "gus", "hal")
    assert consents(parsed(GOLDEN.encode())) == {
        f"{name}@example.com": ["withdrawn"] for name in withdrawn
    }


def test_an_event_tells_when_what_and_why() -> None:
    """I7."""
    found = items(parsed(GOLDEN.encode()))
    click, bounce = found[5], found[6]
    assert (click.url, click.campaign) == ("https://www.example.com/pricing", "autumn")
    assert click.occurred_at == datetime(2026, 11, 1, 12, 0, 5, tzinfo=UTC)
    assert bounce.properties == {"type": "hard", "reason": "500 unknown recipient"}
    assert (bounce.campaign, found[2].campaign) == ("cat facts", "cat facts")


def test_an_event_finds_its_touch_by_our_argument_or_by_our_message_id() -> None:
    """I7."""
    found = items(parsed(GOLDEN.encode()))
    assert [item.touch_id for item in found[2:5]] == [OTHER_TOUCH, TOUCH, ""]


def test_an_open_by_a_machine_is_flagged() -> None:
    """I5."""
    assert [item.machine for item in items(parsed(GOLDEN.encode()))[3:5]] == [False, True]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"type": "bounce"}, "hard"),
        ({"type": "blocked"}, "soft"),
        ({"type": "expired"}, "soft"),
        ({"status": "5.1.1"}, "hard"),
        ({"status": "4.2.2"}, "soft"),
        ({}, "soft"),
    ],
)
def test_only_what_is_for_good_is_a_hard_bounce(fields: dict[str, str], kind: str) -> None:
    assert summary(parsed([event(event="bounce", **fields)])) == [
        ("ann@example.com", "email_bounced", kind)
    ]


def test_a_batch_that_comes_again_has_the_same_identities() -> None:
    """O4: also where an event lacks its id."""
    body = [event(sg_event_id=None), *EVENTS]
    assert uids(parsed(body)) == uids(parsed(json.dumps(body, indent=2).encode()))
    assert len(set(uids(parsed(body)))) == len(body)


@pytest.mark.parametrize("at", range(len(EVENTS)))
def test_an_event_that_comes_again_under_another_id_is_the_same(at: int) -> None:
    """O4: `sg_event_id` may change where SendGrid repeats; what the event says does not."""
    again = EVENTS[at] | {"sg_event_id": "another", "ip": "203.0.113.99"}
    assert uids(parsed([EVENTS[at]])) == uids(parsed([again]))


@pytest.mark.parametrize(
    "other",
    [
        {"email": "ben@example.com"},
        {"timestamp": 1793534401},
        {"event": "click"},
        {"sg_message_id": "14c5d75ce93.dfd.64b469.filter0002"},
        {"url": "https://www.example.com/other"},
        {"url_offset": {"index": 1, "type": "html"}},
        {"attempt": "2"},
        {"asm_group_id": 11},
    ],
    ids=lambda other: next(iter(other)),
)
def test_events_that_say_something_else_are_two_under_one_id(other: dict[str, Any]) -> None:
    first = event(sg_message_id="14c5d75ce93.dfd.64b469.filter0001")
    assert len(set(uids(parsed([first, first | other])))) == 2


def test_an_event_without_a_time_is_known_by_sendgrids_id() -> None:
    timeless = event(timestamp=None)
    assert taken(parsed([timeless, timeless])).ids == ["e-1", "e-1"]


def test_a_number_for_a_text_is_its_text_and_a_broken_extra_costs_no_event() -> None:
    """The time may come as a text."""
    [found] = parsed([event(sg_event_id=7, timestamp="1793534400")])
    assert found.occurred_at == NOW - timedelta(hours=1)
    [found] = parsed([event(sg_event_id={"a": 1})])
    assert isinstance(found, Remarked)
    assert found.remarks == (Remark("left-out", "/sg_event_id"),)


def test_a_broken_event_harms_no_other() -> None:
    body = b'[%s,{"event":"open","email":NaN},{"event":7},{"email":"b@example.com"},%s]' % (
        encoded(event()),
        encoded(event()),
    )
    receipt = taken(parsed(body))
    assert [index for index, _, _ in receipt.refused] == [1, 2, 3]
    assert [reject.where for _, _, reject in receipt.refused][1:] == ["/2/event", "/3/event"]
    assert len(receipt.ids) == 2


@pytest.mark.parametrize("name", ["account_status_change", "", "won"])
def test_an_event_that_is_new_to_us_is_refused_by_name(name: str) -> None:
    [refused] = parsed([event(event=name)])
    assert isinstance(refused, Refused)
    assert (refused.id, refused.reject.where) == ("e-1", "/event")
    assert name in refused.reject.title


@pytest.mark.parametrize("body", [b"", b"[]", b"[", b"[" + b"[" * 100_000])
def test_a_body_without_events_is_refused_whole(body: bytes) -> None:
    with pytest.raises(Reject):
        parsed(body)


# -- signature ------------------------------------------------------------------------------------


def test_what_sendgrids_own_client_verifies_fits_and_the_other_way_round() -> None:
    assert SOURCE.verify
    made = sign(sample("ann@example.com", NOW), SIGNER, "https://in.example/v1/hooks/sendgrid", NOW)
    stamp, signature = made.headers[TIMESTAMP], made.headers[SIGNATURE]
    theirs = EventWebhook(KEY)
    assert theirs.verify_signature(made.body.decode(), signature, stamp)
    assert not theirs.verify_signature(made.body.decode() + " ", signature, stamp)
    assert SOURCE.verify(posted(SOURCE, made), [Secret("default", KEY)]) == Secret("default", KEY)


def test_a_signature_made_in_so_many_words_fits_also_under_a_key_in_pem() -> None:
    assert SOURCE.verify
    private = ec.generate_private_key(ec.SECP256R1())
    request = by_hand(GOLDEN.encode(), private)
    pem = (
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    )
    assert SOURCE.verify(request, [Secret("default", public(private))])
    assert SOURCE.verify(request, [Secret("default", pem)])


def test_while_keys_change_the_old_and_the_new_one_fit_and_afterwards_only_the_new_one() -> None:
    assert SOURCE.verify
    old, new = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    both = [Secret("default", public(new)), Secret("default", public(old))]
    assert SOURCE.verify(by_hand(b"[]", old), both).value == public(old)
    assert SOURCE.verify(by_hand(b"[]", new), both).value == public(new)
    assert refusal(SOURCE, by_hand(b"[]", old), both[0]) == "signature"


def test_a_flipped_byte_reserialised_json_and_another_time_do_not_fit() -> None:
    request = posted(SOURCE, sign(sample("ann@example.com", NOW), SIGNER, "", NOW))
    flipped = bytes([request.body[0] ^ 1]) + request.body[1:]
    again = json.dumps(json.loads(request.body)).encode()
    shifted = str(int(request.headers[TIMESTAMP]) + 1)
    for changed in (
        request._replace(body=flipped),
        request._replace(body=again),
        request._replace(headers={**request.headers, TIMESTAMP: shifted}),
        request._replace(headers={**request.headers, SIGNATURE: request.headers[TIMESTAMP]}),
        request._replace(headers={**request.headers, SIGNATURE: request.headers[SIGNATURE][:-4]}),
        request._replace(
            headers={TIMESTAMP: request.headers[SIGNATURE], SIGNATURE: request.headers[TIMESTAMP]}
        ),
        request._replace(headers={SIGNATURE: "ä", TIMESTAMP: "ä"}),
        request._replace(headers={}),
    ):
        assert refusal(SOURCE, changed, Secret("default", KEY)) == "signature"


def test_sendgrids_repetitions_of_a_whole_day_fit_and_nothing_older_or_from_the_future() -> None:
    assert SOURCE.verify
    made = sign(sample("ann@example.com", NOW), SIGNER, "", NOW)
    assert SOURCE.verify(posted(SOURCE, made, later(24)), [Secret("default", KEY)])
    for at in (later(26), later(-26)):
        assert refusal(SOURCE, posted(SOURCE, made, at), Secret("default", KEY)) == "stale"


def test_a_secret_that_is_no_such_key_fits_nothing() -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    der = base64.b64encode(
        other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).decode()
    request = by_hand(b"[]", ec.generate_private_key(ec.SECP256R1()))
    for key in ("", "!", "AAAA", der):
        assert refusal(SOURCE, request, Secret("default", key)) == "signature"


def test_the_sample_is_a_request_as_sendgrid_makes_it() -> None:
    check_sample(SOURCE)
    assert (
        items(parse(posted(SOURCE, sample("a@b.example", NOW))))[0].occurred_at or NOW
    ) - NOW < timedelta(seconds=1)


# -- whatever comes -------------------------------------------------------------------------------


@given(st.lists(spoiled(EVENTS), max_size=4))
def test_whatever_type_a_field_has_each_event_is_an_item_or_a_refusal(
    body: list[dict[str, Any]],
) -> None:
    assert is_clear(parse, post(SOURCE, encoded(body)))


@given(
    VALUES.map(encoded)
    | st.binary(max_size=200)
    | st.binary(max_size=60).map(lambda some: b"[" + some + b"]")
)
def test_whatever_body_comes_it_is_read_or_refused(body: bytes) -> None:
    assert is_clear(parse, post(SOURCE, body))
