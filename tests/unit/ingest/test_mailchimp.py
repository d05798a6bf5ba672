"""Mailchimp's events, and the secret in its address."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.sources.contract import InboundRequest, Refused
from services.ingest.sources.mailchimp import SOURCE, handshake, parse
from services.shared.contracts.events import Consent, ExternalId
from services.shared.errors import Reject
from tests.support.mailtools import (
    NEW,
    OLD,
    TEXTS,
    check_sample,
    consents,
    golden,
    is_clear,
    items,
    post,
    refusal,
    summary,
    taken,
    uids,
)

LINES = golden("mailchimp.txt").splitlines()
FORM = "application/x-www-form-urlencoded"


def parsed(body: str) -> list[Any]:
    return parse(post(SOURCE, body.encode(), media=FORM))


def changed(line: int, **fields: str) -> str:
    return urlencode(dict(parse_qsl(LINES[line])) | fields)


EVERY = [one for line in LINES for one in parsed(line)]


def test_every_event_of_the_documentation_is_read_and_a_campaign_tells_of_nobody() -> None:
    """I2: their names at Mailchimp and ours."""
    assert summary(EVERY) == [
        ("ann@example.com", "consent_given", ""),
        ("gus@example.com", "unsubscribed", ""),
        ("fay@example.com", "email_complained", ""),
        ("ida@example.com", "consent_withdrawn", ""),
        ("ann@example.com", "identified", ""),
        ("old@example.com", "email_changed", ""),
        ("new@example.com", "email_changed", ""),
        ("ben@example.com", "email_bounced", "hard"),
        ("eve@example.com", "email_complained", ""),
    ]


def test_who_joins_permits_mail_and_who_leaves_or_cannot_be_reached_refuses_it() -> None:
    """N6: by `lead.consents`; an address that was given up is written to no more, its successor not
    before it agrees.
    """
    withdrawn = ("gus", "fay", "ida", "old", "ben", "eve")
    assert consents(EVERY) == {"ann@example.com": ["given"]} | {
        f"{name}@example.com": ["withdrawn"] for name in withdrawn
    }


def test_a_subscriber_brings_traits_and_the_proof_of_consent() -> None:
    """I7, D6: Mailchimp's own id of the person identifies, too."""
    item = items(EVERY)[0]
    assert item.traits == {
        "first_name": "Ann",
        "last_name": "Ärmel",
        "company": "Acme",
        "title": "Plant manager",
        "interests": "Group1,Group2",
    }
    assert (item.company, item.external_id) == ("Acme", ExternalId("mailchimp", "8a25ff1d98"))
    assert item.consent == (Consent(state="given", basis="Mailchimp audience a6b5da1054"),)
    assert item.occurred_at == datetime(2026, 11, 1, 12, 40, tzinfo=UTC)


def test_other_events_bring_their_campaign_and_no_traits() -> None:
    _, left, *_ = items(EVERY)
    assert (left.campaign, left.traits, left.properties) == ("cb398d21d2", {}, {"reason": "manual"})
    assert items(EVERY)[4].traits == {"first_name": "Anna"}


def test_a_changed_address_joins_nobody() -> None:
    """D2: two people are never merged silently; neither event tells the other's address."""
    old, new = items(parsed(LINES[5]))
    assert (old.email, old.external_id) == ("old@example.com", None)
    assert (new.email, new.external_id, new.consent) == (
        "new@example.com",
        ExternalId("mailchimp", "51da8c3259"),
        (),
    )
    assert not {"old@example.com", "new@example.com"} & {
        *map(str, old.properties.values()),
        *map(str, new.properties.values()),
    }


def test_an_event_that_comes_again_has_the_same_identity() -> None:
    """O4."""
    assert uids(EVERY) == uids([one for line in LINES for one in parsed(line)])
    assert len(set(uids(EVERY))) == 9
    assert uids(parsed(LINES[1])) != uids(parsed(changed(1, fired_at="2026-11-01 12:40:59")))


def test_what_is_no_event_is_refused_by_its_place() -> None:
    for body, where in (
        (changed(1, type="won"), "/type"),
        ("", "/type"),
        (changed(1, fired_at="yesterday"), "/fired_at"),
    ):
        [refused] = parsed(body)
        assert isinstance(refused, Refused)
        assert refused.reject.where == where
    assert (
        taken(parsed("type=unsubscribe&fired_at=2026-11-01+12:40:00")).refused[0].reject.kind
        == "no-identifier"
    )
    with pytest.raises(Reject):
        parsed("&".join(f"data[{n}]=1" for n in range(10_000)))
    with pytest.raises(Reject):
        parse(post(SOURCE, b"type=%ff", media=FORM))


# -- secret ---------------------------------------------------------------------------------------


def asking(secret: str | None, method: str = "POST") -> InboundRequest:
    return post(SOURCE, b"", query={} if secret is None else {"secret": secret}, method=method)


def test_the_secret_in_the_address_fits_and_while_it_changes_the_old_one_too() -> None:
    assert SOURCE.verify
    assert SOURCE.verify(asking(NEW.value), [OLD, NEW]) == NEW
    assert SOURCE.verify(asking(OLD.value), [NEW, OLD]) == OLD
    assert refusal(SOURCE, asking(OLD.value), NEW) == "signature"


@pytest.mark.parametrize(
    "given", [None, "", "the new secre", "the new secret ", "dhe new secret", "\ufffd"]
)
def test_a_wrong_secret_does_not_fit(given: str | None) -> None:
    assert refusal(SOURCE, asking(given), NEW) == "signature"


def test_mailchimps_question_is_answered_but_not_under_a_wrong_secret() -> None:
    assert handshake(asking(None, "GET"), [NEW])
    assert handshake(asking(NEW.value, "GET"), [NEW])
    assert handshake(asking(NEW.value), [NEW]) is None
    for secrets in ([OLD], []):
        with pytest.raises(Reject):
            handshake(asking(NEW.value, "GET"), secrets)


def test_the_sample_is_a_request_as_mailchimp_makes_it() -> None:
    check_sample(SOURCE)


# -- whatever comes -------------------------------------------------------------------------------

NAMES = st.sampled_from([name for line in LINES for name, _ in parse_qsl(line)]) | TEXTS
PAIRS = st.lists(
    st.tuples(NAMES, st.sampled_from([v for line in LINES for _, v in parse_qsl(line)]) | TEXTS),
    max_size=12,
)


@given(
    PAIRS.map(lambda pairs: urlencode(pairs, errors="surrogatepass").encode())
    | st.binary(max_size=200)
)
def test_whatever_form_comes_it_is_read_or_refused(body: bytes) -> None:
    assert is_clear(parse, post(SOURCE, body, media=FORM))
