"""Postmark's records, and the password in its address."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.sources.contract import InboundRequest, Refused
from services.ingest.sources.postmark import SOURCE, parse
from tests.support.mailtools import (
    NEW,
    OLD,
    TOUCH,
    VALUES,
    check_sample,
    consents,
    encoded,
    golden,
    is_clear,
    items,
    post,
    refusal,
    spoiled,
    summary,
    taken,
    uids,
)

RECORDS: list[dict[str, Any]] = json.loads(golden("postmark.json"))


def parsed(record: Any) -> list[Any]:
    return parse(post(SOURCE, encoded(record)))


def bounce(kind: str, **fields: Any) -> dict[str, Any]:
    return {
        "RecordType": "Bounce",
        "ID": 7,
        "Type": kind,
        "Email": "ann@example.com",
        "BouncedAt": "2026-11-01T12:00:00Z",
    } | fields


def asking(password: str, user: str = "anybody") -> InboundRequest:
    """A request to an address with user and password, in so many words."""
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    return post(SOURCE, encoded(RECORDS[0]), headers={"authorization": f"Basic {basic}"})


EVERY = [one for record in RECORDS for one in parsed(record)]


def test_every_record_of_the_documentation_is_read() -> None:
    """I2: their names at Postmark and ours."""
    assert summary(EVERY) == [
        ("ann@example.com", "email_delivered", ""),
        ("ann@example.com", "email_opened", ""),
        ("ann@example.com", "email_clicked", ""),
        ("ben@example.com", "email_bounced", "hard"),
        ("ann@example.com", "email_bounced", "soft"),
        ("cleo@example.com", "email_bounced", "hard"),
        ("dan@example.com", "unsubscribed", ""),
        ("ann@example.com", "email_replied", ""),
        ("fay@example.com", "email_complained", ""),
        ("gus@example.com", "unsubscribed", ""),
        ("hal@example.com", "email_bounced", "hard"),
        ("ida@example.com", "consent_withdrawn", ""),
        ("ida@example.com", "resubscribed", ""),
    ]


def test_who_leaves_complains_or_cannot_be_reached_is_refused_mail_at_once() -> None:
    """N6: by `lead.consents`; that the owner takes an address off the list again permits
    nothing.
    """
    withdrawn = ("ben", "cleo", "dan", "fay", "gus", "hal", "ida")
    assert consents(EVERY) == {f"{name}@example.com": ["withdrawn"] for name in withdrawn}


@pytest.mark.parametrize(
    ("kind", "inactive", "fate"),
    [
        ("BadEmailAddress", True, "hard"),
        ("Transient", False, "soft"),
        ("DnsError", False, "soft"),
        ("SpamNotification", False, "soft"),
        ("NewInTheirList", False, "soft"),
        ("NewInTheirList", True, "hard"),
    ],
)
def test_a_bounce_is_hard_where_postmark_writes_to_the_address_no_more(
    kind: str, inactive: bool, fate: str
) -> None:
    assert summary(parsed(bounce(kind, Inactive=inactive))) == [
        ("ann@example.com", "email_bounced", fate)
    ]


@pytest.mark.parametrize("kind", ["AutoResponder", "AddressChange", "ChallengeVerification"])
def test_the_answer_of_a_program_is_flagged_and_refuses_nothing(kind: str) -> None:
    """I5, I10."""
    [item] = items(parsed(bounce(kind)))
    assert (item.type, item.machine) == ("email_replied", True)
    assert not consents([item])


def test_a_deactivation_by_the_owner_is_no_act_of_the_lead() -> None:
    assert summary(parsed(bounce("ManuallyDeactivated"))) == [
        ("ann@example.com", "consent_withdrawn", "")
    ]
    assert summary(parsed(bounce("SpamComplaint"))) == [("ann@example.com", "email_complained", "")]


@pytest.mark.parametrize("value", [True, None, "true", 1])
def test_a_change_of_a_subscription_is_a_refusal_unless_it_says_that_it_is_none(
    value: object,
) -> None:
    change = {
        "RecordType": "SubscriptionChange",
        "Recipient": "ann@example.com",
        "Origin": "Recipient",
        "SuppressSending": value,
    }
    assert consents(parsed(change)) == {"ann@example.com": ["withdrawn"]}


def test_a_record_tells_when_what_why_and_of_which_touch() -> None:
    """I7."""
    delivery, _, click, hard = items(EVERY)[:4]
    assert delivery.touch_id == TOUCH
    assert taken([delivery]).records
    assert delivery.occurred_at == datetime(2026, 11, 1, 12, 40, 0, 273539, tzinfo=UTC)
    assert (click.url, click.campaign, click.touch_id) == (
        "https://www.example.com/pricing",
        "autumn",
        "",
    )
    assert hard.properties == {"type": "hard", "reason": "Test bounce details"}


def test_a_record_that_comes_again_has_the_same_identity_with_or_without_an_id() -> None:
    """O4: a complaint and a bounce may bear the same number."""
    again = [one for record in RECORDS for one in parsed(record)]
    assert uids(EVERY) == uids(again)
    assert len(set(uids(EVERY))) == len(RECORDS)


def test_what_is_no_record_is_refused_by_its_place() -> None:
    for record, where in (
        ({"RecordType": "Inbound"}, "/RecordType"),
        ({"FromFull": {}}, "/RecordType"),
        (bounce("HardBounce", BouncedAt="yesterday"), "/BouncedAt"),
        (bounce("HardBounce", Email=["a@b.example"]), "/Email"),
    ):
        [refused] = parsed(record)
        assert isinstance(refused, Refused)
        assert refused.reject.where == where
    assert taken(parsed({"RecordType": "Open"})).refused[0].reject.kind == "no-identifier"


# -- password -------------------------------------------------------------------------------------


def test_the_password_fits_under_any_name_and_while_it_changes_the_old_one_too() -> None:
    assert SOURCE.verify
    assert SOURCE.verify(asking(NEW.value, ""), [NEW]) == NEW
    assert SOURCE.verify(asking(NEW.value, "postmark"), [OLD, NEW]) == NEW
    assert SOURCE.verify(asking(OLD.value), [NEW, OLD]) == OLD
    assert refusal(SOURCE, asking(OLD.value), NEW) == "signature"


@pytest.mark.parametrize(
    "password", ["", "the new secre", "the new secret ", "the new secret\0", "dhe new secret"]
)
def test_a_wrong_password_does_not_fit(password: str) -> None:
    assert refusal(SOURCE, asking(password), NEW) == "signature"


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !",
        "Basic dGhlIG5ldyBzZWNyZXQ=",
        "Bearer the new secret",
        "Basic /w==",
        "Basic ä",
        "the new secret",
    ],
)
def test_what_brings_no_password_does_not_fit(authorization: str) -> None:
    """Also the secret as the user's name, and bytes that are no text."""
    assert (
        refusal(SOURCE, post(SOURCE, b"{}", headers={"authorization": authorization}), NEW)
        == "signature"
    )
    assert refusal(SOURCE, post(SOURCE, b"{}"), NEW) == "signature"


def test_the_sample_is_a_request_as_postmark_makes_it() -> None:
    check_sample(SOURCE)


# -- whatever comes -------------------------------------------------------------------------------


@given(spoiled(RECORDS))
def test_whatever_type_a_field_has_the_record_is_an_item_or_a_refusal(
    record: dict[str, Any],
) -> None:
    assert is_clear(parse, post(SOURCE, encoded(record)))


@given(VALUES.map(encoded) | st.binary(max_size=200))
def test_whatever_body_comes_it_is_read_or_refused(body: bytes) -> None:
    assert is_clear(parse, post(SOURCE, body))
