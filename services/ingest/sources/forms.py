"""Web forms, without JavaScript (urlencoded, multipart) or with it (JSON): one submission a
request.

`email` and `company` go where they belong, `utm_source` and `utm_campaign` say where the person
came from, a ticked `consent` (also `consent[]`, and several boxes of that name) permits marketing
by mail in the words of `consent_text`; every other field is a trait. Fields that begin with an
underscore speak to us: `_id`, `_anonymous_id`, `_key`, `_next`, `_hp`, `_token`, `_consent_yes`
(what the box sends when it is ticked); further ones mean nothing.
"""

from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from services.ingest.sources.contract import (
    InboundRequest,
    Item,
    Parsed,
    Remarked,
    Sample,
    SetupGuide,
    Source,
)
from services.ingest.sources.permissions import BOX, ticked
from services.ingest.sources.reading.json import TOO_DEEP, UNREADABLE, is_deep, mistake
from services.ingest.sources.reading.multipart import (
    MAX_PARTS,
    MULTIPART,
    not_utf8,
    parts,
    too_many,
)
from services.ingest.sources.remarks import remarked
from services.shared.contracts.consent_words import KNOWN_WORDS, ConsentWords
from services.shared.contracts.preferences import TOPICS

URLENCODED = "application/x-www-form-urlencoded"
JSON = "application/json"
MEDIA = frozenset({"", URLENCODED, MULTIPART, JSON})
PATH = "/v1/forms/"
OWN = frozenset({"email", "company", "consent_text", "utm_source", "utm_campaign", "anonymous_id"})
CONSENT_YES = "_consent_yes"  # what the box is declared to send

MAX_UNKNOWN = 200  # characters of words that are not understood

Fields = dict[str, Any]


def parse(request: InboundRequest) -> list[Parsed]:
    """The one submission of the body."""
    form = request.path.removeprefix(PATH)
    return [submission(form, fields(request), request.words.consent)]


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


def texts(found: Fields, name: str) -> list[str]:
    """A field's texts that are not blank."""
    value = found.get(name)
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str) and each.strip()]


def submission(form: str, found: Fields, words: ConsentWords = KNOWN_WORDS) -> Item | Remarked:
    """The interaction that a filled-in form is. What stands in its box and is not understood is
    kept as a property.
    """
    boxes = [name for name in found if BOX.fullmatch(name)]
    traits = {
        name: value
        for name, value in found.items()
        if name not in OWN
        and name not in boxes
        and not name.startswith("_")
        and (value != "" or name == TOPICS)
    }
    values = [each for name in boxes for each in _listed(found[name])]
    stated = ticked(
        values, words, "consent", text(found, "consent_text"), texts(found, CONSENT_YES)
    )
    unknown = {"consent": stated.unknown[:MAX_UNKNOWN]} if stated.unknown else {}
    item = Item(
        id=text(found, "_id"),
        type="form_submitted",
        email=text(found, "email"),
        anonymous_id=text(found, "_anonymous_id") or text(found, "anonymous_id"),
        company=text(found, "company"),
        source=text(found, "utm_source"),
        campaign=text(found, "utm_campaign"),
        consent=stated.consents,
        traits=traits,
        properties={"form": form, **unknown},
    )
    return remarked(item, stated.remarks)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


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
            "field is a trait. What the box sends must be a yes in words or signs that are known, "
            "or what a hidden field `_consent_yes` declares.",
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
