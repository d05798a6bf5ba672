"""Web forms, without JavaScript (urlencoded, multipart) or with it (JSON): one submission a request.

`email` and `company` go where they belong, `utm_source` and `utm_campaign` say where the person came from, a ticked
`consent` permits marketing by mail in the words of `consent_text`; every other field is a trait. Fields that begin with
an underscore speak to us: `_id`, `_anonymous_id`, `_key`, `_next`, `_hp`, `_token`; further ones mean nothing.
"""

from typing import Any
from urllib.parse import parse_qsl

import msgspec
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.ingest.sources.contract import Item, Post, Refused
from services.ingest.sources.pieces import TOO_DEEP, UNREADABLE, is_deep, mistake
from services.shared.errors import Reject
from services.shared.events import Consent

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
JSON = "application/json"
MEDIA = frozenset({"", URLENCODED, MULTIPART, JSON})
PATH = "/v1/forms/"
MAX_FIELDS = 500
NOT_TICKED = frozenset({"", "0", "false", "off", "no", "none", "null"})
OWN = frozenset({"email", "company", "consent", "consent_text", "utm_source", "utm_campaign", "anonymous_id"})

Fields = dict[str, Any]


def parse(post: Post) -> list[Item | Refused]:
    """The one submission of the body."""
    return [submission(post.path.removeprefix(PATH), fields(post))]


def fields(post: Post) -> Fields:
    """The form's fields; one that comes several times is a list. Raises Reject for a body that is no form."""
    if post.media == JSON:
        return _json(post.body)
    pairs = _multipart(post) if post.media == MULTIPART else _urlencoded(post.body)
    if len(pairs) > MAX_FIELDS:
        raise _too_many()
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
    traits = {name: value for name, value in found.items() if name not in OWN and not name.startswith("_") and value != ""}
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
    if len(found) > MAX_FIELDS:
        raise _too_many()
    return found


def _urlencoded(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except UnicodeDecodeError:
        raise Reject("the form is not UTF-8", remedy='give the form `accept-charset="utf-8"`') from None
    except ValueError:
        raise _too_many() from None


def _multipart(post: Post) -> list[tuple[str, str]]:
    boundary = parse_options_header(post.headers.get("content-type"))[1].get(b"boundary", b"")
    if not boundary:
        raise Reject("no boundary in the content type", where="Content-Type", remedy="let the browser set it")
    reader = _Parts()
    try:
        parser = MultipartParser(boundary, reader.callbacks)  # type: ignore[arg-type]
        parser.write(post.body)
        if not reader.complete:
            raise MultipartParseError("it stops in the middle")
        return reader.pairs
    except UnicodeDecodeError:
        raise Reject("the form is not UTF-8", remedy='give the form `accept-charset="utf-8"`') from None
    except MultipartParseError as error:
        raise Reject(f"not multipart/form-data: {error}", remedy="end it with the closing boundary") from None


def _too_many() -> Reject:
    return Reject(f"more than {MAX_FIELDS} fields", remedy="send fewer", kind="too-large")


class _Parts:
    """Collects the fields of a multipart body; files are left out."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []
        self._name, self._value, self._headers = b"", bytearray(), dict[bytes, bytes]()
        self._data = bytearray()
        self._parts = 0  # with those that are left out
        self.complete = False
        self.callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._on_name,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._headers, self._data = {}, bytearray()
        self._parts += 1
        if self._parts > MAX_FIELDS:
            raise _too_many()

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._name.lower()] = bytes(self._value)
        self._name, self._value = b"", bytearray()

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _end(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition"))[1]
        if b"filename" not in options and (name := options.get(b"name")):
            self.pairs.append((name.decode(), self._data.decode()))

    def _finish(self) -> None:
        self.complete = True
