"""A word for consent is read alike at every door, and what is not understood is said."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from services.ingest.registry import words_of
from services.ingest.sources import canonical, cloudevents, forms, hubspot, mapped, segment
from services.ingest.sources.contract import InboundRequest, Parsed, Refused, Remark, Remarked
from services.ingest.sources.remarks import plain
from services.shared.clock import EPOCH
from services.shared.contracts.consent import consents_of
from services.shared.contracts.event_types import EventType
from services.shared.contracts.events import INTERACTIONS, decode_envelope, decode_interaction
from services.shared.playbook.sections import Consent as ConsentRules
from services.shared.playbook.sections import Playbook
from services.shared.playbook.senders import Sender
from tests.support.mailtools import taken

NOW = datetime(2026, 11, 1, 13, tzinfo=UTC)
MAPPED = mapped.source(
    Sender.model_validate({
        "id": "x", "title": "x", "steps": ["x"], "verify": "key", "sample": {},
        "fields": {
            "type": "'form_submitted'", "id": "id", "email": "email",
            "consent": {"state": "ok", "text": "wording"},
        },
    })
)  # fmt: skip
AGREED = mapped.source(
    Sender.model_validate({
        "id": "y", "title": "x", "steps": ["x"], "verify": "key", "sample": {},
        "fields": {
            "type": "'form_submitted'", "id": "id", "email": "email",
            "consent": {"state": "ok && 'given'", "text": "wording"},
        },
    })
)  # fmt: skip
HUBSPOT = hubspot.source()


def request(path: str, body: Any, media: str = "application/json") -> InboundRequest:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return InboundRequest(path, data, NOW, media)


def by_form(word: Any) -> list[Parsed]:
    body = urlencode({"email": "a@b.de", "consent": word}, doseq=True).encode()
    return forms.parse(request("/v1/forms/x", body, forms.URLENCODED))


def by_json_form(word: Any) -> list[Parsed]:
    return forms.parse(request("/v1/forms/x", {"email": "a@b.de", "consent": word}))


def by_event(word: Any) -> list[Parsed]:
    return canonical.parse(
        request("/v1/events", {"type": "form_submitted", "email": "a@b.de", "consent": word})
    )


def by_cloud_event(word: Any) -> list[Parsed]:
    data = {"email": "a@b.de", "consent": word}
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "form_submitted"}
    return cloudevents.parse(request("/v1/events", event | {"data": data}))


def by_mapping(word: Any) -> list[Parsed]:
    return [*MAPPED.parse(request("/", {"id": "1", "email": "a@b.de", "ok": word}))]


def by_agreement(word: Any) -> list[Parsed]:
    return [*AGREED.parse(request("/", {"id": "1", "email": "a@b.de", "ok": word}))]


def by_segment(word: Any) -> list[Parsed]:
    call = {"userId": "u", "messageId": "m", "traits": {"email": "a@b.de", "consent": word}}
    return segment.parse(request("/v1/identify", call))


def by_hubspot(word: Any) -> list[Parsed]:
    change = hubspot.EXAMPLE | {"propertyName": "consent", "propertyValue": word}
    return [*HUBSPOT.parse(request("/", [change]))]


BOXES = (by_form, by_json_form, by_event, by_cloud_event, by_mapping, by_agreement)
SYNCS = (by_segment, by_hubspot)
ALL = (*BOXES, *SYNCS)


def states(found: list[Parsed]) -> list[str]:
    [item] = found
    assert not isinstance(item, Refused)
    return [consent.state for consent in consents_of(plain(item))]


@pytest.mark.parametrize("door", ALL)
@pytest.mark.parametrize("word", ["yes", "Ja, gerne", "同意する", "x", "I agree to receive news"])
def test_a_known_yes_permits_at_every_door(door: Any, word: str) -> None:
    """I7: in the languages of leads."""
    assert states(door(word)) == ["given"]


@pytest.mark.parametrize("door", ALL)
@pytest.mark.parametrize("word", ["nein", "non", "I do not agree", "Not consented", "нет"])
def test_a_no_permits_at_no_door_and_withdraws_only_where_a_trait_is_synced(
    door: Any, word: str
) -> None:
    """N6: a box that was not ticked takes no earlier permission back; a sync says how it stands."""
    assert states(door(word)) == (["withdrawn"] if door in SYNCS else [])


@pytest.mark.parametrize("door", ALL)
def test_a_word_that_is_not_understood_permits_nothing_and_is_remarked(door: Any) -> None:
    """N6: the lead is kept, and the word is counted and shown."""
    [found] = door("vielleicht später")
    assert isinstance(found, Remarked)
    assert found.item.consent == ()
    assert [(remark.kind, remark.text) for remark in found.remarks] == [
        ("consent-word", "vielleicht später")
    ]
    assert [placed.remark.kind for placed in taken([found]).remarks] == ["consent-word"]


@pytest.mark.parametrize("door", [by_event, by_mapping, by_segment, by_hubspot])
def test_who_is_reported_to_have_left_has_left(door: Any) -> None:
    """I7: where a state is reported; at a form's box the same word is no permission."""
    assert states(door("unsubscribed")) == ["withdrawn"]
    assert states(by_form("unsubscribed")) == []


def test_a_boolean_stands_for_a_consent_in_our_own_format() -> None:
    assert states(by_event(True)) == states(by_event(["yes"])) == ["given"]
    assert states(by_event(False)) == states(by_event([])) == []
    assert states(by_event({"state": "yes", "purpose": "news"})) == ["given"]
    [refused] = by_event([{"state": "perhaps"}])
    assert isinstance(refused, Refused)  # a consent that names its state is to name it rightly


def form(**fields: Any) -> list[Parsed]:
    body = urlencode({"email": "a@b.de"} | fields, doseq=True).encode()
    return forms.parse(request("/v1/forms/x", body, forms.URLENCODED))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"consent[]": "yes"}, ["given"]),
        ({"consent[]": ["newsletter", "phone"]}, ["given"]),
        ({"consent[]": "nein"}, []),
        ({"consent[0]": "on"}, ["given"]),
        ({"consent[email]": "1"}, ["given"]),
        ({"consent[phone]": "1"}, []),
        ({"consent": ["0", "1"]}, ["given"]),
        ({"consent": ["true", "false"]}, ["given"]),
        ({"consent": ["1", "no"]}, []),
        ({"consent": "list-7", "_consent_yes": "list-7"}, ["given"]),
        ({"consent": "list-8", "_consent_yes": "list-7"}, []),
        ({"consent": "Write to me weekly", "consent_text": "Write to me weekly"}, ["given"]),
        ({"consent": "Do not write to me", "consent_text": "Do not write to me"}, []),
        ({"consent": ""}, []),
        ({}, []),
    ],
)
def test_boxes_of_a_form_as_frameworks_send_them(
    fields: dict[str, Any], expected: list[str]
) -> None:
    """I2, I7: groups, hidden fields that stand for an empty box, what a box is declared to send."""
    assert states(form(**fields)) == expected


def test_a_word_that_is_not_understood_is_kept_with_the_form() -> None:
    [found] = form(consent="vielleicht")
    assert plain(found).properties == {"form": "x", "consent": "vielleicht"}
    assert plain(found).traits == {}


def test_nothing_personal_is_shown_as_a_word() -> None:
    [found] = form(consent="write to ann@acme.example")
    assert isinstance(found, Remarked)
    assert found.remarks == (Remark("consent-word", "consent"),)


def test_what_hangs_on_a_wording_is_given_in_that_wording() -> None:
    """A lead form that sends the words of the ticked box, and nothing where it is not ticked."""
    body = {"id": "1", "email": "a@b.de", "ok": "You may write.", "wording": "You may write."}
    assert states([*AGREED.parse(request("/", body))]) == ["given"]
    assert states([*AGREED.parse(request("/", body | {"wording": "Another"}))]) == []


def test_a_synced_permission_has_no_date_and_a_refusal_counts_from_now() -> None:
    """N6: what a routine sync says without a date overrules no earlier refusal."""
    for door in SYNCS:
        [given] = taken(door(True)).records[:1]
        assert given.topic == INTERACTIONS
        data = decode_interaction(decode_envelope(given.value).data)
        assert data.type == EventType.IDENTIFIED
        assert [consent.at for consent in data.consent] == [EPOCH]
        [withdrawn] = taken(door(False)).records[:1]
        data = decode_interaction(decode_envelope(withdrawn.value).data)
        assert [consent.at for consent in data.consent] == [None]


def test_hubspots_opt_out_is_read_in_words() -> None:
    def states_of(value: Any) -> list[str]:
        change = {"propertyName": "hs_email_optout", "propertyValue": value}
        return states([*HUBSPOT.parse(request("/", [hubspot.EXAMPLE | change]))])

    assert states_of("true") == states_of("Yes") == states_of("ja") == ["withdrawn"]
    assert states_of("false") == states_of("") == states_of("No") == []


def test_a_playbook_adds_words(default_playbook: Playbook) -> None:
    rules = ConsentRules(yes_words=["Moien"], no_words=["okay"])
    words = words_of(default_playbook.model_copy(update={"consent": rules}))
    body = urlencode({"email": "a@b.de", "consent": "moien"}).encode()
    asked = request("/v1/forms/x", body, forms.URLENCODED)
    assert states(forms.parse(asked)) == []
    assert states(forms.parse(asked._replace(words=words))) == ["given"]
    no = asked._replace(body=b"email=a@b.de&consent=okay", words=words)
    assert states(forms.parse(no)) == []
