"""How a sender that posts in a form of its own is read: the section `senders` of the playbook, each
expression in JMESPath.
"""

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.shared.playbook.expressions import Asked, Challenged, problem_of

WHOLE = "*"
SIGNATURE_WINDOW_S = 300  # how far a signed time may be from ours
PLACE = re.compile(r"\{(\w+)\}")
Path = tuple[int | str, ...]


class Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Hmac(Rule):
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


class Challenge(Rule):
    """A first call to see who answers: `when` tells it, `answer` (a text or an object) goes
    back.
    """

    when: str
    answer: str


class Answer(Rule):
    """What this sender wants to hear after every request that is authentic."""

    media: str = "application/json"
    body: str


class ExternalIdFields(Rule):
    system: str
    id: str


class ConsentFields(Rule):
    """A permission; none where `state` finds nothing."""

    state: str
    channel: str = ""
    purpose: str = ""
    basis: str = ""
    at: str = ""
    text: str = ""


class Fields(Rule):
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


class Sender(Rule):
    """A sender: how it proves itself, what of it counts, and a sample by which it can be tried.

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


def contradictions(senders: list[Sender]) -> Iterable[tuple[Path, str, str]]:
    """Yields (path, what, remedy) of everything that types alone do not show."""
    seen: set[str] = set()
    for i, sender in enumerate(senders):
        at = ("senders", i)
        if sender.id in seen:
            yield (*at, "id"), f"{sender.id!r} is taken", "Give every sender an id of its own"
        seen.add(sender.id)
        for path, text, functions in _expressions(sender):
            if what := problem_of(text, functions):
                yield (
                    (*at, *path),
                    what,
                    "Mend the expression; a fixed text stands in quotes: \"'like this'\"",
                )
        if isinstance(sender.verify, Hmac):
            for name, what, remedy in _unsound(sender.verify):
                yield (*at, "verify", name), what, remedy
        if sender.challenge and sender.verify == "key":
            yield (
                (*at, "challenge"),
                "a sender that brings an API key greets nobody",
                "Take it out, or verify by a secret",
            )
        if (sender.format == "xml") != isinstance(sender.sample, str):
            yield (
                (*at, "sample"),
                f"not a sample in {sender.format}",
                "Write XML as a text, anything else as YAML",
            )
        if sender.format == "form" and not isinstance(sender.sample, dict):
            yield (*at, "sample"), "not a form", "Write names and values"


def _unsound(rule: Hmac) -> Iterable[tuple[str, str, str]]:
    """Yields what would let a stranger in, or nobody."""
    held, signed = set(PLACE.findall(rule.value)), set(PLACE.findall(rule.signed))
    if "signature" not in held or held - {"signature", "timestamp"}:
        yield (
            "value",
            "not the form of a signature",
            "Write {signature}, with {timestamp} beside it where the header holds the time",
        )
    if any(not piece.partition("{")[0] for piece in rule.value.split(",")) and "," in rule.value:
        yield (
            "value",
            "parts that cannot be told apart",
            "Begin every part with its name: `t={timestamp},v1={signature}`",
        )
    if "body" not in signed or signed - {"body", "timestamp", "id"}:
        yield (
            "signed",
            "not a form of what is signed",
            "Write {body}, with {timestamp} and {id} where they are signed as well",
        )
    timed = bool(rule.timestamp) or "timestamp" in held
    if timed != ("timestamp" in signed):
        yield (
            "timestamp",
            "a time that is not signed, or not sent",
            "Name the header of the time, and {timestamp} in `signed`",
        )
    if bool(rule.id) != ("id" in signed):
        yield (
            "id",
            "an id that is not signed, or not sent",
            "Name the header of the id, and {id} in `signed`",
        )


def _expressions(sender: Sender) -> Iterable[tuple[Path, str, type[Asked]]]:
    if sender.items:
        yield ("items",), sender.items, Asked
    if sender.when:
        yield ("when",), sender.when, Asked
    if sender.challenge:
        yield ("challenge", "when"), sender.challenge.when, Challenged
        yield ("challenge", "answer"), sender.challenge.answer, Challenged
    for path, text in expressions(sender.fields):
        yield ("fields", *path), text, Asked


def expressions(fields: Fields) -> Iterable[tuple[tuple[str, ...], str]]:
    """(path, expression) of every field that has one."""
    for name, given in fields.model_dump(exclude_none=True).items():
        found = (
            {(name, inner): text for inner, text in given.items()}
            if isinstance(given, dict)
            else {(name,): given}
        )
        yield from ((path, text) for path, text in found.items() if text)
