"""Senders that the playbook maps: any JSON, form or XML, by an expression for each field of an
interaction.

What is null, false or an empty text leaves its field out; in traits as well, for a sender that
leaves a value out does not take it back. An item whose type, id, time, identity or consent fails is
refused with the field's name, and harms no other; any other field that fails is left out.
"""

import math
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

import msgspec

from services.ingest.sources import forms
from services.ingest.sources.contract import (
    Accepted,
    InboundRequest,
    Item,
    Parsed,
    Refused,
    RejectedItem,
    Remark,
    Remarked,
    Reply,
    Sample,
    Secret,
    SetupGuide,
    Source,
    accepted,
)
from services.ingest.sources.permissions import STATES, State, remarks_of, state_of
from services.ingest.sources.reading import schemes
from services.ingest.sources.reading.json import (
    BOM,
    TOO_DEEP,
    UNREADABLE,
    is_deep,
    mistake,
)
from services.ingest.sources.reading.signatures import fitting
from services.ingest.sources.reading.values import as_number, as_text, as_time
from services.ingest.sources.reading.xml import read_xml
from services.ingest.sources.remarks import remarked
from services.shared.clock import rfc3339
from services.shared.contracts.consent_words import ConsentWords, permits
from services.shared.contracts.events import Consent, ExternalId, encode_bytes
from services.shared.errors import Reject
from services.shared.playbook.expressions import ChallengeFunctions, Expression, RequestFunctions
from services.shared.playbook.senders import WHOLE, Challenge, Sender, expressions

NO_TEXTS = frozenset({("consent", "at"), ("consent", "state")})
MAX_ITEMS = 1_000  # a request's expressions take a quarter of a second at most
IDENTITY = ("user_id", "email", "anonymous_id")
INCIDENTAL = ("product", "content_id", "url", "touch_id", "company", "source", "campaign")
NO = ("", "0", "false", "no", "off")

T = TypeVar("T")


def _number(text: str) -> float:
    """A number with a point; 12.0 is 12, as an id say. Raises ValueError."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("Number out of range")
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


_any = msgspec.json.Decoder(float_hook=_number).decode


def source(rule: Sender) -> Source:
    """The source of a rule."""
    mapping, scheme = Mapping(rule), schemes.scheme(rule.verify)

    def sample(address: str, now: datetime) -> Sample:
        return made_sample(rule, address, now)

    def answer(ids: list[str], rejected: list[RejectedItem]) -> Accepted | Reply:
        return (
            Reply(rule.answer.body.encode(), rule.answer.media)
            if rule.answer
            else accepted(ids, rejected)
        )

    return Source(
        rule.id,
        mapping.parse,
        (f"/v1/hooks/{rule.id}",),
        answer=answer,
        example=rule.sample,
        setup=SetupGuide(rule.title, rule.steps),
        verify=scheme and scheme.verify,
        handshake=_handshake(rule, rule.challenge, scheme) if rule.challenge and scheme else None,
        # a webhook repeats or is switched off after a refusal; a person's own script is to show it
        stop_status=200 if scheme else 400,
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
        self._agreed = _agreement(rule)
        self._inner: dict[str, dict[str, Expression]] = {}
        for path, expression in found.items():
            if len(path) == 2:
                self._inner.setdefault(path[0], {})[path[1]] = expression

    def parse(self, request: InboundRequest) -> list[Parsed]:
        """Every item of the body that the rule does not leave out, in order. Raises Reject."""
        body = read(request, self._format)
        asked = RequestFunctions(body, request.headers, request.query)
        found = self._items(body, asked) if self._items else body
        items = found if isinstance(found, list) else [] if found is None else [found]
        if len(items) > MAX_ITEMS:
            raise Reject(
                f"{len(items):,} items in one request",
                remedy=f"send at most {MAX_ITEMS:,} at once",
                kind="too-large",
            )
        read_items = (self._read(item, asked, request.words.consent) for item in items)
        return [item for item in read_items if item is not None]

    def _read(self, item: Any, asked: RequestFunctions, words: ConsentWords) -> Parsed | None:
        """An item; None where the rule leaves it out."""
        name = ""
        try:
            if self._when and not self._when(item, asked):
                return None
            type_ = self._text("type", item, asked)
            if self._types and type_ not in self._types:
                return None
            name = self._text("id", item, asked)
            return self._item(name, self._types.get(type_, type_), item, asked, words)
        except Reject as reject:
            return Refused(name or None, reject)

    def _item(
        self, name: str, type_: str, item: Any, asked: RequestFunctions, words: ConsentWords
    ) -> Item | Remarked:
        left_out: list[Remark] = []
        at = self._fields.get("occurred_at")
        consents, remarks = self._consent(item, asked, words)
        found = Item(
            id=name,
            type=type_,
            occurred_at=as_time(at(item, asked), "/occurred_at") if at else None,
            cost=_unless("cost", lambda: self._cost(item, asked), left_out),
            machine=bool(_unless("machine", lambda: self._machine(item, asked), left_out)),
            external_id=self._external_id(item, asked),
            consent=consents,
            traits=self._object("traits", item, asked, left_out),
            properties=self._object("properties", item, asked, left_out),
            **{name: self._text(name, item, asked) for name in IDENTITY},
            **{
                name: _unless(name, partial(self._text, name, item, asked), left_out) or ""
                for name in INCIDENTAL
            },
        )
        return remarked(found, (*remarks, *left_out))

    def _cost(self, item: Any, asked: RequestFunctions) -> float | None:
        cost = self._fields.get("cost")
        return as_number(cost(item, asked), "/cost") if cost else None

    def _machine(self, item: Any, asked: RequestFunctions) -> bool:
        found = self._fields["machine"](item, asked) if "machine" in self._fields else None
        return found.strip().lower() not in NO if isinstance(found, str) else bool(found)

    def _text(self, name: str, item: Any, asked: RequestFunctions) -> str:
        return as_text(self._fields[name](item, asked), f"/{name}") if name in self._fields else ""

    def _texts(self, name: str, item: Any, asked: RequestFunctions) -> dict[str, str]:
        inner = self._inner.get(name, {})
        return {
            key: as_text(expression(item, asked), f"/{name}/{key}")
            for key, expression in inner.items()
            if (name, key) not in NO_TEXTS
        }

    def _object(
        self, name: str, item: Any, asked: RequestFunctions, left_out: list[Remark]
    ) -> dict[str, Any]:
        found = {
            key: _unless(f"{name}/{key}", partial(expression, item, asked), left_out)
            for key, expression in self._inner.get(name, {}).items()
        }
        whole = found.pop(WHOLE, None) or {}
        if not isinstance(whole, dict):
            left_out.append(Remark("left-out", f"{name}/{WHOLE}"))
            whole = {}
        return {
            key: value
            for values in (whole, found)
            for key, value in values.items()
            if value is not None and value != ""
        }

    def _external_id(self, item: Any, asked: RequestFunctions) -> ExternalId | None:
        named = self._texts("external_id", item, asked)
        return ExternalId(named["system"], named["id"]) if named.get("id") else None

    def _consent(
        self, item: Any, asked: RequestFunctions, words: ConsentWords
    ) -> tuple[tuple[Consent, ...], Sequence[Remark]]:
        """The consent whose state is `given`, `withdrawn`, or a word or tick for them. Of
        `FIELD && 'given'` the field is read: it is a yes, or the wording that was agreed to.
        """
        inner = self._inner.get("consent", {})
        stated = inner["state"](item, asked) if "state" in inner else None
        if not stated:
            return (), ()
        texts = {name: text for name, text in self._texts("consent", item, asked).items() if text}
        if self._agreed and stated == "given":
            stated = self._agreed(item, asked)
            is_wording = isinstance(stated, str) and stated == texts.get("text") and permits(stated)
            stated = "given" if is_wording or isinstance(stated, dict) else stated
        if isinstance(stated, str) and stated in STATES:
            state, remarks = cast(State, stated), list[Remark]()
        else:
            reading = words.read(stated)
            state, remarks = state_of(reading), [*remarks_of(reading, "/consent/state")]
        if not state:
            return (), remarks
        at = as_time(inner["at"](item, asked), "/consent/at") if "at" in inner else None
        return (Consent(**texts, state=state, at=at),), remarks


def _agreement(rule: Sender) -> Expression | None:
    """What the state of a consent hangs on where it is `FIELD && 'given'`; None for others."""
    state = rule.fields.consent.state if rule.fields.consent else ""
    field, joined, given = state.rpartition("&&")
    if not joined or given.strip() != "'given'" or "||" in field:
        return None
    return Expression(field, "/consent/state")


def _unless(name: str, read_value: Callable[[], T], left_out: list[Remark]) -> T | None:
    """A value of an incidental field; None, with a remark, where it cannot be read."""
    try:
        return read_value()
    except Reject:
        left_out.append(Remark("left-out", name))
        return None


def read(request: InboundRequest, format: str) -> Any:
    """A body as objects, lists, texts and numbers. Raises Reject."""
    if format == "form":
        return forms.fields(request)
    if format == "xml":
        return read_xml(request.body)
    if is_deep(request.body):
        raise TOO_DEEP
    try:
        return _any(request.body.removeprefix(BOM))
    except UNREADABLE as error:
        raise mistake(request.body, error) from None


def _handshake(
    rule: Sender, challenge: Challenge, scheme: schemes.Scheme
) -> Callable[[InboundRequest, Sequence[Secret]], Reply | None]:
    """Answers a first call; what comes as POST has to be signed, as all events are. Raises
    Reject.
    """
    when = Expression(challenge.when, "/challenge")
    answer = Expression(challenge.answer, "/challenge")

    def handshake(request: InboundRequest, secrets: Sequence[Secret]) -> Reply | None:
        signed = scheme.verify(request, secrets) if request.method == "POST" else None
        body = read(request, rule.format) if signed else {}
        if not when(body, RequestFunctions(body, request.headers, request.query)):
            return None
        secret = signed or fitting(secrets, lambda _: True, "challenge")
        challenged = ChallengeFunctions(
            secret.value, signed is not None, body, request.headers, request.query
        )
        found = answer(body, challenged)
        if isinstance(found, str):
            return Reply(found.encode())
        return Reply(encode_bytes(found), "application/json")

    return handshake


def made_sample(rule: Sender, address: str, now: datetime) -> Sample:
    """The rule's sample about an address."""
    text = rule.sample if isinstance(rule.sample, str) else encode_bytes(rule.sample).decode()
    for place, value in (("email", address), ("now", rfc3339(now)), ("id", uuid.uuid4().hex)):
        text = text.replace(f"{{{{{place}}}}}", value)
    if rule.format == "form":
        return Sample(urlencode(_any(text), doseq=True).encode(), forms.URLENCODED)
    return Sample(text.encode(), "text/xml" if rule.format == "xml" else "application/json")
