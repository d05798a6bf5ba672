"""Web forms, without JavaScript (urlencoded, multipart) or with it (JSON): one submission a
request.

`email` and `company` go where they belong, `utm_source` and `utm_campaign` say where the person
came from, a ticked `consent` permits marketing by mail in the words of `consent_text`; every other
field is a trait. Fields that begin with an underscore speak to us: `_id`, `_anonymous_id`, `_key`,
`_next`, `_hp`, `_token`; further ones mean nothing.
"""

from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from services.ingest.sources.contract import (
    InboundRequest,
    Item,
    Refused,
    Sample,
    SetupGuide,
    Source,
)
from services.ingest.sources.reading.json import TOO_DEEP, UNREADABLE, is_deep, mistake
from services.ingest.sources.reading.multipart import (
    MAX_PARTS,
    MULTIPART,
    not_utf8,
    parts,
    too_many,
)
from services.shared.contracts.events import Consent
from services.shared.contracts.preferences import TOPICS

URLENCODED = "application/x-www-form-urlencoded"
JSON = "application/json"
MEDIA = frozenset({"", URLENCODED, MULTIPART, JSON})
PATH = "/v1/forms/"
NOT_TICKED = frozenset({"", "0", "false", "off", "no", "none", "null"})
OWN = frozenset(
    {"email", "company", "consent", "consent_text", "utm_source", "utm_campaign", "anonymous_id"}
)

Fields = dict[str, Any]


def parse(request: InboundRequest) -> list[Item | Refused]:
    """The one submission of the body."""
    return [submission(request.path.removeprefix(PATH), fields(request))]


def fields(request: InboundRequest) -> Fields:
    """The form's fields; one that comes several times is a list. Raises Reject for a body that is
    no form.
    """
    if request.media == JSON:
        return _json(request.body)
    pairs = _multipart(request) if request.media == MULTIPART else _urlencoded(request.body)
    if len(pairs) > MAX_PARTS:
        raise too_many()
    found: Fields = {}
    for name, value in pairs:
        if name in found:
            before = found[name]
            found[name] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            found[name] = value
    return found


def text(found: Fields, name: str) -> str:
    """A field as one text without space around it: of several the last; '' where there is none."""
    value = found.get(name)
    value = value[-1] if isinstance(value, list) and value else value
    return "" if value is None or isinstance(value, dict | list) else str(value).strip()


def submission(form: str, found: Fields) -> Item:
    """The interaction that a filled-in form is."""
    traits = {
        name: value
        for name, value in found.items()
        if name not in OWN and not name.startswith("_") and (value != "" or name == TOPICS)
    }
    given = Consent(state="given", basis="form", text=text(found, "consent_text"))
    return Item(
        id=text(found, "_id"),
        type="form_submitted",
        email=text(found, "email"),
        anonymous_id=text(found, "_anonymous_id") or text(found, "anonymous_id"),
        company=text(found, "company"),
        source=text(found, "utm_source"),
        campaign=text(found, "utm_campaign"),
        consent=(given,) if text(found, "consent").lower() not in NOT_TICKED else (),
        traits=traits,
        properties={"form": form},
    )


def _json(body: bytes) -> Fields:
    if is_deep(body):
        raise TOO_DEEP
    try:
        found = msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE as error:
        raise mistake(body, error) from None
    if len(found) > MAX_PARTS:
        raise too_many()
    return found


def _urlencoded(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARTS
        )
    except UnicodeDecodeError:
        raise not_utf8() from None
    except ValueError:
        raise too_many() from None


def _multipart(request: InboundRequest) -> list[tuple[str, str]]:
    try:
        return [(part.name, part.value.decode()) for part in parts(request) if not part.is_file]
    except UnicodeDecodeError:
        raise not_utf8() from None


def sample(address: str, now: datetime) -> Sample:
    """A filled-in form."""
    return Sample(
        urlencode({"email": address, "name": "A sample", "sent": now.isoformat()}).encode(),
        URLENCODED,
        path=f"{PATH}demo",
    )


SOURCE = Source(
    "forms",
    parse,
    (PATH,),
    MEDIA,
    example={"email": "ann@example.com", "name": "Ann"},
    setup=SetupGuide(
        "A web form, without JavaScript",
        [
            "Let the form of your page post to {address}NAME, where NAME tells forms apart "
            "(`demo` and `contact` raise a hand).",
            "A ticked box `consent` permits mails, in the words of `consent_text`; every other "
            "field is a trait.",
            "Leave `_hp` empty and hidden: only robots fill it in. `_next` names the page that "
            "follows (RIPELINE_ALLOWED_PAGES).",
        ],
        '<form method="post" action="{address}demo?key={key}">\n'
        '  <label>E-mail <input name="email" type="email" required></label>\n'
        '  <label><input type="checkbox" name="consent" value="yes"> Write to me</label>\n'
        '  <p hidden><input name="_hp" tabindex="-1" autocomplete="off"></p>\n'
        "  <button>Ask for a demo</button>\n"
        "</form>",
    ),
    sample=sample,
)
