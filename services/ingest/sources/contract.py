"""What a source gets and what it gives: the inbound request, and the interactions in it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from services.shared.contracts.consent_words import KNOWN_WORDS, ConsentWords
from services.shared.contracts.events import Interaction
from services.shared.contracts.provenance import LIVE, Provenance, RemarkKind
from services.shared.errors import Reject

MAX_ITEMS = 10_000  # of one request


class Words(NamedTuple):
    """Words that say what is meant: for consent, and (added by the playbook) the beginnings of the
    subjects of automatic answers.
    """

    consent: ConsentWords = KNOWN_WORDS
    automatic_subjects: tuple[str, ...] = ()


NO_WORDS_ADDED = Words()


class InboundRequest(NamedTuple):
    """A request, its body read and unzipped; `media` is the content type without parameters, in
    lower case.

    `address` is the public URL that the sender knows, with its query: some senders sign it. `words`
    are those of the installation's playbook.
    """

    path: str
    body: bytes
    received_at: datetime
    media: str = ""
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    method: str = "POST"
    address: str = ""
    words: Words = NO_WORDS_ADDED


class Item(Interaction, frozen=True, omit_defaults=True, kw_only=True):
    """An interaction as its sender states it: with the time, perhaps without an id."""

    id: str = ""
    occurred_at: datetime | None = None


class ForeignItem(Item, frozen=True, omit_defaults=True, kw_only=True):
    """An item of another format.

    `origin` completes an id that is unique only within it; `stated_at` is the sender's own time
    where `occurred_at` is corrected by the receipt, so that a repetition is known as one.
    `referrer`, `user_agent` and `address` are the page that somebody came from, the browser and
    where it is; they are not kept.
    """

    origin: str = ""
    referrer: str = ""
    user_agent: str = ""
    address: str = ""
    # Ids are made from the encoded item, so its encoded name stays what it was.
    stated_at: datetime | None = msgspec.field(default=None, name="said_at")


class Refused(NamedTuple):
    """An item that could not be read, under the sender's id where that could be read."""

    id: str | None
    reject: Reject


class Remark(NamedTuple):
    """One thing about an item.

    `where` is a JSON pointer within the item, or the name of the field; `text` what was written
    there, only where it cannot be personal; `nearest` a known name that it resembles.
    """

    kind: RemarkKind
    where: str
    text: str = ""
    nearest: str = ""


class Remarked(NamedTuple):
    """An item as a reader of a source returns it when there is something to say about it."""

    item: Item
    remarks: tuple[Remark, ...]


Parsed = Item | Remarked | Refused  # what a reader returns for each item


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


class ItemProblem(msgspec.Struct, frozen=True):
    """Why an item was refused: a problem document (RFC 9457) within the answer."""

    type: str
    title: str
    where: str
    detail: str
    status: int


class RejectedItem(msgspec.Struct, frozen=True):
    """An item that was refused: its place in the body from 0, and the sender's id where it has
    one.
    """

    index: int
    id: str | None
    problem: ItemProblem


class ItemWarning(msgspec.Struct, frozen=True):
    """An item that was accepted otherwise than as it was written: its place in the body from 0, its
    id, what it is about, and the known name that is nearest to what was written, or ''.
    """

    index: int
    id: str
    kind: RemarkKind
    field: str
    text: str
    nearest: str
    detail: str


class Accepted(msgspec.Struct, frozen=True):
    """The answer to our own formats: how many items were accepted, their ids, the others, and what
    is to be said of those accepted, if anything is.
    """

    accepted: int
    ids: list[str]
    rejected: list[RejectedItem] = []
    warnings: list[ItemWarning] | msgspec.UnsetType = msgspec.UNSET


class Sample(NamedTuple):
    """A request as the sender would make it, to `path` where that is not its source's first."""

    body: bytes
    media: str
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    path: str = ""


class SetupGuide(NamedTuple):
    """What a person needs to connect a source.

    In steps and snippet `{address}` is the source's, `{base}` ingest's own, `{key}` the public key
    and `{secret}` one to be made.
    """

    title: str
    steps: Sequence[str]
    snippet: str = ""


class Body(NamedTuple):
    """What the body of a request looks like, for the OpenAPI document."""

    type: Any
    example: Any


Parse = Callable[[InboundRequest], Sequence[Parsed]]
Answer = Callable[[list[str], list[RejectedItem]], msgspec.Struct | Reply]
Verify = Callable[[InboundRequest, Sequence[Secret]], Secret]
Handshake = Callable[[InboundRequest, Sequence[Secret]], Reply | None]
Sign = Callable[[Sample, str, str, datetime], Sample]


def accepted(ids: list[str], rejected: list[RejectedItem]) -> Accepted:
    """The answer to our own formats."""
    return Accepted(len(ids), ids, rejected)


def no_key(_: bytes) -> str:
    """Where a format has no place for the key in its body."""
    return ""


def no_key_header(_: InboundRequest) -> str:
    """Where a format has no header of its own for the key."""
    return ""


def live(_: InboundRequest) -> Provenance:
    """Where requests declare no import."""
    return LIVE


class Source(NamedTuple):
    """A format: its name (part of an event's identity), paths, content types (none: any), answer.

    - `key_in_body` and `key_in_headers` find the API key that some clients put into the body, or
      into a header of their own.
    - `body` is the type of a request's body, for the OpenAPI document, `bodies` are those of single
      paths; None: any object.
    - `verify` returns the secret with which a sender signed, or raises Reject `signature` or
      `stale`; senders without it bring an API key.
    - `handshake` answers a sender's first call; None where the request is no such call.
    - `single_use_token` names the token of a scheme whose signature does not cover the body, so
      that it serves one body only.
    - `stop_status` is the status by which this sender learns that repeating is of no use: it is
      answered where nothing of a request is acceptable.
    - `sample` makes a request about an address, `sign(sample, secret, public address, now)` signs
      it, and `new_secret` makes (the signer's, the verifier's) secret.
    - `scopes` are the keys that may post, `provenance` is what a request declares of all its
      events.
    """

    name: str
    parse: Parse
    paths: Sequence[str]
    media: frozenset[str] = frozenset()
    answer: Answer = accepted
    key_in_body: Callable[[bytes], str] = no_key
    key_in_headers: Callable[[InboundRequest], str] = no_key_header
    body: Any = None
    bodies: Mapping[str, Body] = {}
    example: Any = None
    setup: SetupGuide | None = None
    verify: Verify | None = None
    handshake: Handshake | None = None
    single_use_token: Callable[[InboundRequest], str] | None = None
    stop_status: int = 400
    sample: Callable[[str, datetime], Sample] | None = None
    sign: Sign | None = None
    new_secret: Callable[[], tuple[str, str]] | None = None
    scopes: Sequence[str] = ("secret", "public")
    provenance: Callable[[InboundRequest], Provenance] = live
