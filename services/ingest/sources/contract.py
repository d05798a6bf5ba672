"""What a source gets and what it gives: the request as it came in, and the interactions that it states."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from services.shared.errors import Reject
from services.shared.events import Interaction

MAX_ITEMS = 10_000


class Post(NamedTuple):
    """A request, its body read and unzipped; `media` is the content type without parameters, in lower case."""

    path: str
    body: bytes
    received_at: datetime
    media: str = ""
    headers: Mapping[str, str] = {}


class Item(Interaction, frozen=True, omit_defaults=True, kw_only=True):
    """An interaction as its sender states it: with the time, perhaps without an id."""

    id: str = ""
    occurred_at: datetime | None = None


class Foreign(Item, frozen=True, omit_defaults=True, kw_only=True):
    """An item of another format.

    `origin` completes an id that is unique only within it; `said_at` is the sender's own time where `occurred_at` is
    corrected by the receipt, so that a repetition is known as one.
    """

    origin: str = ""
    said_at: datetime | None = None


class Refused(NamedTuple):
    """An item that could not be read, under the sender's id where that could be."""

    id: str | None
    reject: Reject


Parse = Callable[[Post], list[Item | Refused]]
Report = Callable[[list[str], list[dict[str, Any]]], dict[str, Any]]


def report(ids: list[str], rejected: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer to our own formats."""
    return {"accepted": len(ids), "ids": ids, "rejected": rejected}


def no_key(_: bytes) -> str:
    """Where a format has no place for the key in its body."""
    return ""


class Source(NamedTuple):
    """A format: its door (part of an event's identity), paths and content types (none: any), and its answer."""

    door: str
    parse: Parse
    paths: Sequence[str]
    media: frozenset[str] = frozenset()
    answer: Report = report
    key_in: Callable[[bytes], str] = no_key
    example: Any = None
