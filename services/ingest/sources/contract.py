"""What a source gets and what it gives: the request as it came in, and the interactions that it
states.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from services.shared.contracts.events import Interaction
from services.shared.contracts.provenance import LIVE, Provenance
from services.shared.errors import Reject

MAX_ITEMS = 10_000


class Post(NamedTuple):
    """A request, its body read and unzipped; `media` is the content type without parameters, in
    lower case.

    `address` is the public one that the sender knows, with its query: some sign it.
    """

    path: str
    body: bytes
    received_at: datetime
    media: str = ""
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    method: str = "POST"
    address: str = ""


class Item(Interaction, frozen=True, omit_defaults=True, kw_only=True):
    """An interaction as its sender states it: with the time, perhaps without an id."""

    id: str = ""
    occurred_at: datetime | None = None


class Foreign(Item, frozen=True, omit_defaults=True, kw_only=True):
    """An item of another format.

    `origin` completes an id that is unique only within it; `said_at` is the sender's own time where
    `occurred_at` is corrected by the receipt, so that a repetition is known as one.
    """

    origin: str = ""
    said_at: datetime | None = None


class Refused(NamedTuple):
    """An item that could not be read, under the sender's id where that could be."""

    id: str | None
    reject: Reject


class Secret(NamedTuple):
    """A secret shared with a sender; `name` stays through rotations and is part of an event's
    identity.
    """

    name: str
    value: str


class Reply(NamedTuple):
    """An answer in a form of the sender's own."""

    body: bytes
    media: str = "text/plain"


class Sample(NamedTuple):
    """A request as the sender would make it, to `path` where that is not its source's first."""

    body: bytes
    media: str
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    path: str = ""


class About(NamedTuple):
    """What a person needs to connect a source.

    In steps and snippet `{address}` is the source's, `{base}` ingest's own, `{key}` the public key
    and `{secret}` one to be made.
    """

    title: str
    steps: Sequence[str]
    snippet: str = ""


Parse = Callable[[Post], list[Item | Refused]]
Report = Callable[[list[str], list[dict[str, Any]]], dict[str, Any] | Reply]
Verify = Callable[[Post, Sequence[Secret]], Secret]
Greet = Callable[[Post, Sequence[Secret]], Reply | None]
Sign = Callable[[Sample, str, str, datetime], Sample]


def report(ids: list[str], rejected: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer to our own formats."""
    return {"accepted": len(ids), "ids": ids, "rejected": rejected}


def no_key(_: bytes) -> str:
    """Where a format has no place for the key in its body."""
    return ""


def live(_: Post) -> Provenance:
    """Where requests declare no import."""
    return LIVE


class Source(NamedTuple):
    """A format: its door (part of an event's identity), paths and content types (none: any), and
    its answer.

    A sender who signs has `verify`, which returns the secret that fits or raises Reject `signature`
    or `stale`; the others bring an API key. `greet` answers a sender's first call, if it is one.
    `once` names the token of a scheme whose signature does not cover the body, so that it serves
    one body only. `stop` is the status by which this sender learns that repeating is of no use: it
    is given where nothing of a request is acceptable. `sample` makes a request about an address,
    `sign(sample, secret, public address, now)` signs it, and `new_secret` makes what (the signer,
    the verifier) needs. `scopes` are the keys that may post, `provenance` is what a request
    declares of all its events.
    """

    door: str
    parse: Parse
    paths: Sequence[str]
    media: frozenset[str] = frozenset()
    answer: Report = report
    key_in: Callable[[bytes], str] = no_key
    example: Any = None
    about: About | None = None
    verify: Verify | None = None
    greet: Greet | None = None
    once: Callable[[Post], str] | None = None
    stop: int = 400
    sample: Callable[[str, datetime], Sample] | None = None
    sign: Sign | None = None
    new_secret: Callable[[], tuple[str, str]] | None = None
    scopes: Sequence[str] = ("secret", "public")
    provenance: Callable[[Post], Provenance] = live
