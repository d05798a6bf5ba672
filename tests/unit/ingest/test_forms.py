"""Web forms: urlencoded, multipart and JSON give the same interaction."""

from datetime import UTC, datetime

import pytest

from services.ingest.http.forms import may_redirect
from services.ingest.sources.contract import InboundRequest, Item
from services.ingest.sources.forms import fields, parse
from services.shared.contracts.events import Consent
from services.shared.errors import Reject

NOW = datetime(2026, 11, 1, tzinfo=UTC)
MULTIPART = 'multipart/form-data; boundary="xx"'


def post(body: bytes, content_type: str = "application/x-www-form-urlencoded") -> InboundRequest:
    media = content_type.partition(";")[0]
    return InboundRequest("/v1/forms/contact", body, NOW, media, {"content-type": content_type})


def submitted(body: bytes, content_type: str = "application/x-www-form-urlencoded") -> Item:
    [item] = parse(post(body, content_type))
    assert isinstance(item, Item)
    return item


def parts(*pairs: tuple[str, str], after: str = "") -> bytes:
    parts = "".join(
        f'--xx\r\nContent-Disposition: form-data; name="{name}"{after}\r\n\r\n{value}\r\n'
        for name, value in pairs
    )
    return f"{parts}--xx--\r\n".encode()


def test_all_three_encodings_say_the_same() -> None:
    """I2: a plain HTML form without JavaScript, or one with it."""
    url = submitted(
        b"email=a%40b.de&name=Ann+L&consent=on&consent_text=Yes&_id=7&_anonymous_id=v-1"
    )
    pairs = [("email", "a@b.de"), ("name", "Ann L"), ("consent", "on"), ("consent_text", "Yes")]
    multi = submitted(parts(*pairs, ("_id", "7"), ("_anonymous_id", "v-1")), MULTIPART)
    json = submitted(
        b'{"email":"a@b.de","name":"Ann '
        b'L","consent":true,"consent_text":"Yes","_id":7,"_anonymous_id":"v-1"}',
        "application/json",
    )
    assert url == multi == json
    assert (url.id, url.type, url.email, url.anonymous_id) == (
        "7",
        "form_submitted",
        "a@b.de",
        "v-1",
    )
    assert (url.traits, url.properties) == ({"name": "Ann L"}, {"form": "contact"})


def test_a_ticked_box_is_consent_in_the_words_shown() -> None:
    """I7: channel, purpose, basis and wording."""
    [consent] = submitted(b"email=a@b.de&consent=on&consent_text=Write+to+me").consent
    assert consent == Consent(
        state="given", channel="email", purpose="marketing", basis="form", text="Write to me"
    )


@pytest.mark.parametrize(
    "box",
    [
        b"",
        b"&consent=",
        b"&consent=0",
        b"&consent=off",
        b"&consent=False",
        b"&consent=1&consent=no",
    ],
)
def test_a_box_that_is_not_ticked_permits_nothing(box: bytes) -> None:
    assert submitted(b"email=a@b.de" + box).consent == ()


def test_further_fields_are_traits_and_those_with_an_underscore_are_not() -> None:
    item = submitted(
        b"email=a@b.de&size=10&topic=a&topic=b&empty=&company=Acme&utm_source=ad&utm_campaign=spring&_x=1&_hp="
    )
    assert item.traits == {"size": "10", "topic": ["a", "b"]}
    assert (item.company, item.source, item.campaign) == ("Acme", "ad", "spring")


def test_files_are_left_out() -> None:
    body = parts(("cv", "secret"), after='; filename="cv.txt"')
    assert fields(post(body, MULTIPART)) == {}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"a=%ff", "application/x-www-form-urlencoded"),
        (b"\xff=1", "application/x-www-form-urlencoded"),
        (b"&".join(b"a=1" for _ in range(501)), "application/x-www-form-urlencoded"),
        (b"no multipart", MULTIPART),
        (b"--xx\r\nContent-Disp", MULTIPART),
        (parts(("a", "1")), "multipart/form-data"),
        (parts(("a", "1")), f"multipart/form-data; boundary={'x' * 300}"),
        (parts(*[("a", "1")] * 502), MULTIPART),
        (parts(("a", "1")).replace(b"1", b"\xff"), MULTIPART),
        (b"[1]", "application/json"),
        (b"{", "application/json"),
        (b'{"a":' + b"[" * 50 + b"]" * 50 + b"}", "application/json"),
    ],
)
def test_a_body_that_is_no_form_is_refused_with_a_remedy(body: bytes, content_type: str) -> None:
    """Bad input."""
    with pytest.raises(Reject) as caught:
        fields(post(body, content_type))
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("page", "allowed"),
    [
        ("https://www.example.com/thanks", True),
        ("https://www.example.com/thanks/you?x=1", True),
        ("HTTPS://WWW.example.com/thanks", True),
        ("https://www.example.com/other", False),
        ("https://www.example.com.evil.example/thanks", False),
        ("https://www.example.com@evil.example/thanks", False),
        ("https://www.example.com\\@evil.example/thanks", False),
        ("http://www.example.com/thanks", False),
        ("//www.example.com/thanks", False),
        ("/thanks", False),
        ("javascript:alert(1)", False),
        ("https://www.example.com/thanks/../other", False),
        ("https://www.example.com/thanks\r\nSet-Cookie: a=1", False),
        ("https://[bad/thanks", False),
    ],
)
def test_a_form_leads_to_allowed_pages_only(page: str, allowed: bool) -> None:
    assert may_redirect(page, ["https://www.example.com/thanks"]) is allowed
    assert not may_redirect(page, [])
