"""The playbook's section `senders`: how senders with a format of their own are verified and read,
by JMESPath expressions.
"""

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from services.shared.playbook.contradiction import Contradiction
from services.shared.playbook.expressions import (
    ChallengeFunctions,
    RequestFunctions,
    expression_error,
)
from services.shared.playbook.frozen import FrozenModel

WHOLE = "*"  # in traits and properties: all of an object
SIGNATURE_WINDOW_S = 300  # how far a signed time may be from ours
PLACEHOLDER = re.compile(r"\{(\w+)\}")
Path = tuple[int | str, ...]


class Hmac(FrozenModel):
    """A signature by a shared secret (HMAC-SHA256): the header that holds it, and what is signed.

    `value` is the header's form: `v0={signature}`, or `t={timestamp},v1={signature}` where it holds
    the time as well. The time is in seconds or milliseconds, and may be `window` seconds away from
    ours.
    """

    header: str
    value: str = "{signature}"
    encoding: Literal["hex", "base64"] = "hex"
    signed: str = "{body}"
    timestamp: str = ""
    id: str = ""
    window: int = Field(SIGNATURE_WINDOW_S, ge=1, le=7 * 86_400)


class Challenge(FrozenModel):
    """A first call that checks the address: `when` recognises it, `answer` (a text or an object)
    is sent back.
    """

    when: str
    answer: str


class Answer(FrozenModel):
    """The body of the answer to every authentic request, where the sender expects a certain one."""

    media: str = "application/json"
    body: str


class ExternalIdFields(FrozenModel):
    """Expressions for the id under which another system knows the lead."""

    system: str
    id: str


class ConsentFields(FrozenModel):
    """Expressions for a permission; there is none where `state` finds nothing."""

    state: str
    channel: str = ""
    purpose: str = ""
    basis: str = ""
    at: str = ""
    text: str = ""


class Fields(FrozenModel):
    """An expression for each field of an interaction; what finds null, false or an empty text
    leaves its field out.

    In traits and properties `*` finds a whole object, to which the others are added.
    """

    type: str
    id: str = ""
    occurred_at: str = ""
    user_id: str = ""
    email: str = ""
    anonymous_id: str = ""
    external_id: ExternalIdFields | None = None
    product: str = ""
    content_id: str = ""
    url: str = ""
    touch_id: str = ""
    company: str = ""
    source: str = ""
    campaign: str = ""
    cost: str = ""
    machine: str = ""
    consent: ConsentFields | None = None
    traits: dict[str, str] = {}
    properties: dict[str, str] = {}


class Sender(FrozenModel):
    """A sender: how it is verified, what of its requests counts, and a sample to try it with.

    `items` finds the things that happened in a body (without it: the body, or each element of a
    list), `when` says which of them count, `types` translates their names into ours and leaves out
    those that it does not list. `{{email}}`, `{{now}}` and `{{id}}` in `sample` are filled in.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")
    title: str
    steps: list[str] = Field(min_length=1)
    verify: Literal["key", "query", "basic", "standard-webhooks", "svix"] | Hmac
    challenge: Challenge | None = None
    format: Literal["json", "form", "xml"] = "json"
    items: str = ""
    when: str = ""
    types: dict[str, str] = {}
    fields: Fields
    answer: Answer | None = None
    sample: dict[str, Any] | list[Any] | str


def contradictions(senders: list[Sender]) -> Iterable[Contradiction]:
    """Yields everything in the section that does not fit together."""
    seen: set[str] = set()
    for i, sender in enumerate(senders):
        at = ("senders", i)
        if sender.id in seen:
            remedy = "Give every sender an id of its own"
            yield Contradiction((*at, "id"), f"{sender.id!r} is taken", remedy)
        seen.add(sender.id)
        for found in _of_sender(sender):
            yield found._replace(path=(*at, *found.path))


def _of_sender(sender: Sender) -> Iterable[Contradiction]:
    """Yields paths within the sender."""
    for path, text, functions in _expressions(sender):
        if what := expression_error(text, functions):
            remedy = "Mend the expression; a fixed text stands in quotes: \"'like this'\""
            yield Contradiction(path, what, remedy)
    if isinstance(sender.verify, Hmac):
        yield from _of_signature(sender.verify)
    if sender.challenge and sender.verify == "key":
        yield Contradiction(
            ("challenge",),
            "a sender that brings an API key greets nobody",
            "Take it out, or verify by a secret",
        )
    if (sender.format == "xml") != isinstance(sender.sample, str):
        what = f"not a sample in {sender.format}"
        yield Contradiction(("sample",), what, "Write XML as a text, anything else as YAML")
    if sender.format == "form" and not isinstance(sender.sample, dict):
        yield Contradiction(("sample",), "not a form", "Write names and values")


def _of_signature(rule: Hmac) -> Iterable[Contradiction]:
    """Yields what would let anybody in, or nobody."""
    held, signed = set(PLACEHOLDER.findall(rule.value)), set(PLACEHOLDER.findall(rule.signed))
    if "signature" not in held or held - {"signature", "timestamp"}:
        yield Contradiction(
            ("verify", "value"),
            "not the form of a signature",
            "Write {signature}, with {timestamp} beside it where the header holds the time",
        )
    if any(not piece.partition("{")[0] for piece in rule.value.split(",")) and "," in rule.value:
        yield Contradiction(
            ("verify", "value"),
            "parts that cannot be told apart",
            "Begin every part with its name: `t={timestamp},v1={signature}`",
        )
    if "body" not in signed or signed - {"body", "timestamp", "id"}:
        yield Contradiction(
            ("verify", "signed"),
            "not a form of what is signed",
            "Write {body}, with {timestamp} and {id} where they are signed as well",
        )
    timed = bool(rule.timestamp) or "timestamp" in held
    if timed != ("timestamp" in signed):
        yield Contradiction(
            ("verify", "timestamp"),
            "a time that is not signed, or not sent",
            "Name the header of the time, and {timestamp} in `signed`",
        )
    if bool(rule.id) != ("id" in signed):
        yield Contradiction(
            ("verify", "id"),
            "an id that is not signed, or not sent",
            "Name the header of the id, and {id} in `signed`",
        )


def _expressions(sender: Sender) -> Iterable[tuple[Path, str, type[RequestFunctions]]]:
    """Yields (path, expression, functions that it may call)."""
    if sender.items:
        yield ("items",), sender.items, RequestFunctions
    if sender.when:
        yield ("when",), sender.when, RequestFunctions
    if sender.challenge:
        yield ("challenge", "when"), sender.challenge.when, ChallengeFunctions
        yield ("challenge", "answer"), sender.challenge.answer, ChallengeFunctions
    for path, text in expressions(sender.fields):
        yield ("fields", *path), text, RequestFunctions


def expressions(fields: Fields) -> Iterable[tuple[tuple[str, ...], str]]:
    """(path, expression) of every field that has one."""
    for name, given in fields.model_dump(exclude_none=True).items():
        found = (
            {(name, inner): text for inner, text in given.items()}
            if isinstance(given, dict)
            else {(name,): given}
        )
        yield from ((path, text) for path, text in found.items() if text)
