"""Senders that the playbook maps: any JSON, form or XML, by an expression for each field of an
interaction.

What is null, false or an empty text leaves its field out; in traits as well, for a sender that is
silent about a thing does not take it back. An item whose expression fails is refused with the
field's name, and harms no other.
"""

import math
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from xml.parsers import expat

import msgspec
import xmltodict

from services.ingest.sources import forms
from services.ingest.sources.contract import (
    About,
    Item,
    Post,
    Refused,
    Reply,
    Sample,
    Secret,
    Source,
    report,
)
from services.ingest.sources.reading import schemes
from services.ingest.sources.reading.json import (
    BOM,
    MAX_DEPTH,
    TOO_DEEP,
    UNREADABLE,
    is_deep,
    mistake,
)
from services.ingest.sources.reading.signatures import fitting
from services.shared.clock import rfc3339
from services.shared.contracts.events import Consent, ExternalId, encode_bytes
from services.shared.errors import Reject
from services.shared.playbook.expressions import (
    ChallengeFunctions,
    Expression,
    RequestFunctions,
    datetime_of,
)
from services.shared.playbook.senders import WHOLE, Challenge, Sender, expressions

MAX_ITEMS = 1_000  # a request's expressions take a quarter of a second at most
MAX_ELEMENTS = 100_000
STATES = ("given", "withdrawn")
TEXTS = (
    "user_id",
    "email",
    "anonymous_id",
    "product",
    "content_id",
    "url",
    "touch_id",
    "company",
    "source",
    "campaign",
)

_any = msgspec.json.Decoder().decode


def source(rule: Sender) -> Source:
    """The source of a rule."""
    mapping, scheme = Mapping(rule), schemes.scheme(rule.verify)

    def sample(address: str, now: datetime) -> Sample:
        return made_sample(rule, address, now)

    def answer(ids: list[str], rejected: list[dict[str, Any]]) -> dict[str, Any] | Reply:
        return (
            Reply(rule.answer.body.encode(), rule.answer.media)
            if rule.answer
            else report(ids, rejected)
        )

    return Source(
        rule.id,
        mapping.parse,
        (f"/v1/hooks/{rule.id}",),
        answer=answer,
        example=rule.sample,
        about=About(rule.title, rule.steps),
        verify=scheme and scheme.verify,
        greet=_greeting(rule, rule.challenge, scheme) if rule.challenge and scheme else None,
        # webhooks come again or are switched off when they hear no; a person's own script learns
        stop=200 if scheme else 400,
        sample=sample,
        sign=scheme and scheme.sign,
        new_secret=scheme and scheme.new_secret,
    )


class Mapping:
    """The expressions of a rule, compiled."""

    def __init__(self, rule: Sender) -> None:
        self._format, self._types = rule.format, rule.types
        self._items = Expression(rule.items, "") if rule.items else None
        self._when = Expression(rule.when, "") if rule.when else None
        found = {
            path: Expression(text, f"/{'/'.join(path)}") for path, text in expressions(rule.fields)
        }
        self._fields = {path[0]: expression for path, expression in found.items() if len(path) == 1}
        self._inner: dict[str, dict[str, Expression]] = {}
        for path, expression in found.items():
            if len(path) == 2:
                self._inner.setdefault(path[0], {})[path[1]] = expression

    def parse(self, post: Post) -> list[Item | Refused]:
        """Every item of the body that the rule does not leave out, in order. Raises Reject."""
        body = read(post, self._format)
        asked = RequestFunctions(body, post.headers, post.query)
        found = self._items(body, asked) if self._items else body
        items = found if isinstance(found, list) else [] if found is None else [found]
        if len(items) > MAX_ITEMS:
            raise Reject(
                f"{len(items):,} items in one request",
                remedy=f"send at most {MAX_ITEMS:,} at once",
                kind="too-large",
            )
        return [said for item in items if (said := self._read(item, asked)) is not None]

    def _read(self, item: Any, asked: RequestFunctions) -> Item | Refused | None:
        """An item; None where the rule leaves it out."""
        name = ""
        try:
            if self._when and not self._when(item, asked):
                return None
            type_ = self._text("type", item, asked)
            if self._types and type_ not in self._types:
                return None
            name = self._text("id", item, asked)
            return self._item(name, self._types.get(type_, type_), item, asked)
        except Reject as reject:
            return Refused(name or None, reject)

    def _item(self, name: str, type_: str, item: Any, asked: RequestFunctions) -> Item:
        at = self._fields.get("occurred_at")
        return Item(
            id=name,
            type=type_,
            occurred_at=_time(at(item, asked), "/occurred_at") if at else None,
            cost=_number(self._fields["cost"](item, asked), "/cost")
            if "cost" in self._fields
            else None,
            machine=bool("machine" in self._fields and self._fields["machine"](item, asked)),
            external_id=self._external_id(item, asked),
            consent=self._consent(item, asked),
            traits=self._object("traits", item, asked),
            properties=self._object("properties", item, asked),
            **{name: self._text(name, item, asked) for name in TEXTS if name in self._fields},
        )

    def _text(self, name: str, item: Any, asked: RequestFunctions) -> str:
        return _text(self._fields[name](item, asked), f"/{name}") if name in self._fields else ""

    def _texts(self, name: str, item: Any, asked: RequestFunctions) -> dict[str, str]:
        inner = self._inner.get(name, {})
        return {
            key: _text(expression(item, asked), f"/{name}/{key}")
            for key, expression in inner.items()
            if key != "at"
        }

    def _object(self, name: str, item: Any, asked: RequestFunctions) -> dict[str, Any]:
        found = {
            key: expression(item, asked) for key, expression in self._inner.get(name, {}).items()
        }
        whole = found.pop(WHOLE, None) or {}
        if not isinstance(whole, dict):
            raise Reject(
                "not an object",
                where=f"/{name}/{WHOLE}",
                remedy="let the expression give names and values",
            )
        return {
            key: value
            for told in (whole, found)
            for key, value in told.items()
            if value is not None and value != ""
        }

    def _external_id(self, item: Any, asked: RequestFunctions) -> ExternalId | None:
        said = self._texts("external_id", item, asked)
        return ExternalId(said["system"], said["id"]) if said.get("id") else None

    def _consent(self, item: Any, asked: RequestFunctions) -> tuple[Consent, ...]:
        said = {name: text for name, text in self._texts("consent", item, asked).items() if text}
        if "state" not in said:
            return ()
        if said["state"] not in STATES:
            raise Reject(
                f"no state {said['state'][:20]!r}",
                where="/consent/state",
                remedy="use given or withdrawn",
            )
        at = self._inner["consent"].get("at")
        return (Consent(**said, at=_time(at(item, asked), "/consent/at") if at else None),)  # type: ignore[arg-type]


def read(post: Post, format: str) -> Any:
    """A body as objects, lists, texts and numbers. Raises Reject."""
    if format == "form":
        return forms.fields(post)
    if format == "xml":
        return _xml(post.body)
    if is_deep(post.body):
        raise TOO_DEEP
    try:
        return _any(post.body.removeprefix(BOM))
    except UNREADABLE as error:
        raise mistake(post.body, error) from None


def _xml(body: bytes) -> Any:
    """Elements by their names without prefix, attributes after an @; nil is null, several alike are
    a list.
    """
    try:
        _check_xml(body)
        return xmltodict.parse(body, postprocessor=_plain)  # type: ignore[arg-type]  # it may leave something out
    # the last two: of an encoding that nobody knows
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise Reject(
            f"XML is malformed: {error}", remedy="send one whole XML document in UTF-8"
        ) from None


def _plain(_: Any, name: str, value: Any) -> tuple[str, Any] | None:
    if name.startswith("@xmlns"):
        return None
    sign, local = "@" if name.startswith("@") else "", name.rpartition(":")[2].removeprefix("@")
    return sign + local, None if isinstance(value, dict) and value.get("@nil") in (
        "true",
        "1",
    ) else value


def _check_xml(body: bytes) -> None:
    """Looks for what makes a small document large: entities, depth, elements without end. Raises
    Reject, ExpatError.
    """
    depth = count = 0

    def begin(_: str, __: Any) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > MAX_DEPTH:
            raise TOO_DEEP
        if count > MAX_ELEMENTS:
            raise Reject(
                f"more than {MAX_ELEMENTS:,} elements",
                remedy="send fewer at once",
                kind="too-large",
            )

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def declared(*_: Any) -> None:
        raise Reject("a document type", remedy="leave the DOCTYPE out: it could declare entities")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = (
        begin,
        end,
        declared,
    )
    parser.Parse(body, True)


def _text(found: Any, where: str) -> str:
    if found is None or found is False:
        return ""
    if isinstance(found, str):
        return found.strip()
    if isinstance(found, int | float) and found is not True:
        return str(found)
    raise Reject(
        "neither a text nor a number", where=where, remedy="let the expression find one value"
    )


def _time(found: Any, where: str) -> datetime | None:
    if found is None or found is False or found == "":
        return None
    try:
        if isinstance(found, str | int | float) and found is not True:
            return datetime_of(found)
    except ValueError:
        pass
    raise Reject(
        "not a time",
        where=where,
        remedy="send seconds or milliseconds since 1970, or 2026-01-02T03:04:05Z",
    )


def _number(found: Any, where: str) -> float | None:
    if found is None or found is False or found == "":
        return None
    try:
        number = math.nan if found is True else float(found)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Reject("not a number", where=where, remedy="let the expression find a plain number")
    return number


def _greeting(
    rule: Sender, challenge: Challenge, scheme: schemes.Scheme
) -> Callable[[Post, Sequence[Secret]], Reply | None]:
    """Answers a first call; what comes as POST has to be signed, as all events are. Raises
    Reject.
    """
    when, said = (
        Expression(challenge.when, "/challenge"),
        Expression(challenge.answer, "/challenge"),
    )

    def greet(post: Post, secrets: Sequence[Secret]) -> Reply | None:
        signed = scheme.verify(post, secrets) if post.method == "POST" else None
        body = read(post, rule.format) if signed else {}
        if not when(body, RequestFunctions(body, post.headers, post.query)):
            return None
        secret = signed or fitting(secrets, lambda _: True, "challenge")
        answer = said(
            body,
            ChallengeFunctions(secret.value, signed is not None, body, post.headers, post.query),
        )
        return (
            Reply(answer.encode())
            if isinstance(answer, str)
            else Reply(encode_bytes(answer), "application/json")
        )

    return greet


def made_sample(rule: Sender, address: str, now: datetime) -> Sample:
    """The rule's sample about an address."""
    text = rule.sample if isinstance(rule.sample, str) else encode_bytes(rule.sample).decode()
    for place, value in (("email", address), ("now", rfc3339(now)), ("id", uuid.uuid4().hex)):
        text = text.replace(f"{{{{{place}}}}}", value)
    if rule.format == "form":
        return Sample(urlencode(_any(text), doseq=True).encode(), forms.URLENCODED)
    return Sample(text.encode(), "text/xml" if rule.format == "xml" else "application/json")
