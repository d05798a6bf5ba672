"""Typeform: the signature over raw bytes, and what becomes of every kind of answer."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.sources.contract import InboundRequest, Item, Parsed, Refused, Secret
from services.ingest.sources.typeform import SOURCE, new_text, parse, sample, sign, verify
from services.shared.contracts.events import Consent
from services.shared.errors import Reject

NOW = datetime(2026, 1, 2, 3, 5, tzinfo=UTC)
GOLDEN = (Path(__file__).parents[2] / "data" / "senders" / "typeform.json").read_bytes()
SECRETS = [Secret("second", "new secret"), Secret("default", "old secret")]


def post(body: bytes, **headers: str) -> InboundRequest:
    return InboundRequest("/v1/hooks/typeform", body, NOW, "application/json", headers)


def signature(secret: str, body: bytes) -> str:
    return (
        "sha256="
        + base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    )


def response(**changes: Any) -> Item | Refused:
    body = json.loads(GOLDEN)
    body["form_response"] |= changes
    [item] = parse(post(msgspec.json.encode(body)))
    return item


def answered(*answers: dict[str, Any]) -> Item:
    item = response(answers=list(answers), definition=None)
    assert isinstance(item, Item)
    return item


def test_a_response_is_a_submission_with_its_answers_as_traits() -> None:
    """I2, I7: the questions' references name the traits, else their words; the permission is kept
    with what was shown.
    """
    [item] = parse(post(GOLDEN))
    assert item == Item(
        id="q9w8e7r6t5y4u3i2o1p0q9w8e7r6",
        type="form_submitted",
        occurred_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        user_id="u-77",
        anonymous_id="visitor-5",
        email="zoe@plant.example",
        company="Plant Ltd",
        source="newsletter",
        campaign="spring",
        consent=(
            Consent(
                state="given", basis="form", text="Millwarden may write to me about maintenance."
            ),
        ),
        traits={
            "first_name": "Zoë",
            "phone": "+442071838750",
            "company_size": 120,
            "which_tool_do_you_use_now": "Spreadsheet",
            "topics": ["Planning", "Spare parts", "Lubrication"],
            "has_budget": False,
            "since": "2019-05-01",
            "plan": "https://api.typeform.com/responses/files/abc/plan.pdf",
        },
        properties={"utm_medium": "email", "score": 9, "segment": "plants", "form": "xK7pQ2"},
    )


def test_the_same_response_sent_again_is_the_same_event() -> None:
    """Typeform's own retries, and a delivery that somebody repeats by hand: the response's token is
    the id.
    """
    body = json.loads(GOLDEN) | {"event_id": "another"}
    assert parse(post(msgspec.json.encode(body))) == parse(post(GOLDEN))


def test_a_legal_block_that_is_not_accepted_permits_nothing_and_takes_nothing_back() -> None:
    """N6."""
    field = {"id": "1", "type": "legal", "ref": "newsletter"}
    assert answered({"type": "boolean", "boolean": False, "field": field}).consent == ()
    assert answered({"type": "boolean", "boolean": True, "field": field}).consent == (
        Consent(state="given", basis="form"),
    )


@pytest.mark.parametrize("ref", ["terms", "terms_and_conditions", "privacy-policy"])
def test_terms_and_privacy_are_no_permission_to_write(ref: str) -> None:
    item = answered(
        {"type": "boolean", "boolean": True, "field": {"id": "1", "type": "legal", "ref": ref}}
    )
    assert (item.consent, item.traits) == ((), {})


def test_a_yes_to_the_question_named_consent_is_one() -> None:
    yes = answered(
        {
            "type": "boolean",
            "boolean": True,
            "field": {"id": "1", "type": "yes_no", "ref": "consent"},
        }
    )
    assert [one.state for one in yes.consent] == ["given"]
    assert yes.traits == {}


def test_the_first_address_is_the_persons_and_a_hidden_one_stands_in() -> None:
    one, two = (
        {
            "type": "email",
            "email": f"{n}@x.example",
            "field": {"id": n, "type": "email", "ref": f"mail_{n}"},
        }
        for n in "ab"
    )
    assert (answered(one, two).email, answered(one, two).traits) == (
        "a@x.example",
        {"mail_b": "b@x.example"},
    )
    hidden = response(answers=[], hidden={"Email": "c@x.example", "touch_id": "t-1", "plan": None})
    assert isinstance(hidden, Item)
    assert (hidden.email, hidden.touch_id, hidden.traits) == ("c@x.example", "t-1", {})


def test_answers_of_a_type_that_is_new_to_us_are_left_out() -> None:
    assert (
        answered({"type": "field", "field": {"id": "1", "type": "matrix", "ref": "grid"}}).traits
        == {}
    )
    assert (
        answered(
            {"type": "payment", "payment": {"last4": "1"}, "field": {"id": "1", "type": "payment"}}
        ).traits
        == {}
    )


def test_a_form_that_was_only_begun_is_nothing_for_us() -> None:
    body = json.loads(GOLDEN) | {"event_type": "form_response_partial"}
    assert parse(post(msgspec.json.encode(body))) == []


def test_any_active_secret_fits_and_none_other() -> None:
    for secret in SECRETS:
        assert (
            verify(post(GOLDEN, **{"typeform-signature": signature(secret.value, GOLDEN)}), SECRETS)
            == secret
        )
    with pytest.raises(Reject) as old:
        verify(post(GOLDEN, **{"typeform-signature": signature("old secret", GOLDEN)}), SECRETS[:1])
    assert old.value.kind == "signature"
    with pytest.raises(Reject) as nobody:
        verify(post(GOLDEN, **{"typeform-signature": signature("x", GOLDEN)}), [])
    assert nobody.value.kind == "not-connected"


@pytest.mark.parametrize(
    "body",
    [
        GOLDEN[:-3] + b" " + GOLDEN[-3:],
        GOLDEN.replace(b"9", b"8", 1),
        json.dumps(json.loads(GOLDEN)).encode(),
    ],
)
def test_a_changed_byte_or_the_same_json_written_anew_does_not_fit(body: bytes) -> None:
    with pytest.raises(Reject):
        verify(post(body, **{"typeform-signature": signature("new secret", GOLDEN)}), SECRETS)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "sha256=",
        signature("new secret", GOLDEN)[7:],
        "sha1=" + signature("new secret", GOLDEN)[7:],
    ],
)
def test_a_signature_in_another_form_does_not_fit(given: str) -> None:
    with pytest.raises(Reject):
        verify(post(GOLDEN, **{"typeform-signature": given}), SECRETS)


def test_neither_404_nor_410_is_ever_the_word_for_stop() -> None:
    """Typeform switches a webhook off that hears one of them."""
    assert SOURCE.stop_status == 200


def test_a_sample_fits_and_is_a_lead() -> None:
    signer, verifier = new_text()
    made = sign(sample("ann@x.example", NOW), signer, "", NOW)
    headers = {name.lower(): value for name, value in made.headers.items()}
    assert verify(post(made.body, **headers), [Secret("default", verifier)]).name == "default"
    [item] = parse(post(made.body))
    assert isinstance(item, Item)
    assert (item.email, item.occurred_at, len(item.consent)) == ("ann@x.example", NOW, 1)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)


@given(st.binary() | JSON.map(msgspec.json.encode) | st.builds(lambda answers: msgspec.json.encode(
    {"event_type": "form_response", "form_response": {"form_id": "f", "answers": answers}}),
    JSON))  # fmt: skip
def test_whatever_comes_ends_in_items_or_a_refusal(body: bytes) -> None:
    assert all(isinstance(one, Parsed) for one in parse(post(body)))
