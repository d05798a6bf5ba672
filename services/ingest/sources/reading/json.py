"""Cuts a JSON body into its items, each to be read alone, and describes what is wrong with a broken
one: what, where and how to mend it.
"""

import re
from typing import Any, TypeVar

import msgspec

from services.ingest.sources.contract import MAX_ITEMS, Refused
from services.shared.errors import Reject

T = TypeVar("T")
MAX_DEPTH = 32
MAX_TOKENS = 1_000_000  # of a body that has to be cut by hand
BOM = b"\xef\xbb\xbf"
TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},]', re.DOTALL)
LONE_SURROGATE = re.compile(rb"\\u[dD](?:[89abAB]..(?!\\u[dD][c-fC-F])|[c-fC-F])")
STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
TOO_DEEP = Reject(f"nested deeper than {MAX_DEPTH}", remedy="flatten it; nothing reads that deep")
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_cut = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Named(msgspec.Struct):
    id: Any = None
    messageId: Any = None


_named = msgspec.json.Decoder(_Named).decode


def is_list(body: bytes) -> bool:
    """Whether a JSON body is an array."""
    return body[:64].removeprefix(BOM).lstrip()[:1] == b"["


def is_empty_list(body: bytes) -> bool:
    """Whether a JSON body is an array of nothing."""
    return len(body) < 64 and body.removeprefix(BOM).split() in ([b"[]"], [b"[", b"]"])


def pieces(body: bytes) -> list[bytes]:
    """The items of a JSON object or array. Raises Reject where the body cannot be cut or holds too
    many.
    """
    body = body.removeprefix(BOM).strip()
    if not body:
        raise Reject(
            "the body is empty", remedy="send a JSON object, an array of them, or one object a line"
        )
    if not is_list(body):
        return [body]
    try:
        items = [bytes(item) for item in _cut(body)]
    except UNREADABLE:
        items, end = cut_by_hand(body)
        if end != len(body):
            raise _incomplete() from None
    return counted(items)


def lines(body: bytes) -> list[bytes]:
    """The items of an NDJSON body; empty lines do not count."""
    return counted([line for line in body.removeprefix(BOM).split(b"\n") if line.strip()])


def counted(items: list[T]) -> list[T]:
    """The same items. Raises Reject where there is none, or too many."""
    if not items:
        raise Reject("there is no item in the body", remedy="send at least one")
    if len(items) > MAX_ITEMS:
        remedy = f"send at most {MAX_ITEMS:,} at once"
        raise Reject(f"{len(items):,} items in one request", remedy=remedy, kind="too-large")
    return items


def is_deep(piece: bytes) -> bool:
    """Whether it is nested deeper than we read; two counts decide nearly always."""
    if piece.count(b"{") + piece.count(b"[") <= MAX_DEPTH:
        return False
    depth = 0
    for token in TOKEN.finditer(piece):
        sign = piece[token.start()]
        depth += (sign in b"[{") - (sign in b"]}")
        if depth > MAX_DEPTH:
            return True
    return False


def refused(piece: bytes, error: Exception, inside: str = "") -> Refused:
    """What is wrong with a piece, from the decoder's error; `inside` is the pointer to the part
    that it read.
    """
    try:
        named = _named(piece)
        given = named.id or named.messageId
    except UNREADABLE:
        given = None
    reject = error if isinstance(error, Reject) else mistake(piece, error, inside)
    return Refused(given if isinstance(given, str) else None, reject)


def mistake(piece: bytes, error: Exception, inside: str = "") -> Reject:
    """A decoder's error as a refusal."""
    if isinstance(error, RecursionError):
        return TOO_DEEP
    if isinstance(error, UnicodeDecodeError):
        return Reject("the text is not UTF-8", where=inside, remedy="encode it as UTF-8")
    what, _, path = str(error).partition(" - at `$")
    where = inside + pointer(path.rstrip("`"))
    if isinstance(error, msgspec.ValidationError):
        if missing := re.match(r"Object missing required field `(\w+)`", what):
            return Reject("a field is missing", where=f"{where}/{missing[1]}", remedy="add it")
        return Reject(what, where=where, remedy=_remedy(what))
    if LONE_SURROGATE.search(piece):
        return Reject(
            "a lone surrogate in a text",
            where=where,
            remedy="write the character in full, or leave it out",
        )
    return Reject(
        what if what.startswith("JSON") else f"JSON is malformed: {what}",
        where=where,
        remedy="send JSON as RFC 8259 has it: no NaN, no Infinity, no comments, nothing after "
        "the end",
    )


def pointer(path: str) -> str:
    """`.consent[0].at` as the JSON pointer `/consent/0/at`; it ends where the decoder gives
    no name.
    """
    steps = []
    for name, index in STEP.findall(path):
        if index == "...":
            break
        steps.append(name or index)
    return "".join(f"/{step}" for step in steps)


def _remedy(what: str) -> str:
    if "RFC3339" in what or "datetime" in what:
        return "write times as 2026-01-02T03:04:05Z"
    if "enum" in what:
        return "use one of the values that the documentation lists"
    if "out of range" in what:
        return "use a number that fits into 64 bits"
    return "compare its type with the documentation, /openapi.json"


def cut_by_hand(body: bytes, start: int = 0) -> tuple[list[bytes], int]:
    """The items of the array that opens at `start`, by brackets and quotes alone, and where it
    ends.

    For an array of which at least one item is broken: its neighbours are kept.
    """
    found: list[bytes] = []
    depth, begin = 0, start + 1
    for number, token in enumerate(TOKEN.finditer(body, start)):
        sign = token[0]
        depth += (sign in b"[{") - (sign in b"]}")
        if depth == 0 or (depth == 1 and sign == b","):
            found.append(body[begin : token.start()])
            begin = token.end()
        if depth == 0:
            return found, begin
        if number > MAX_TOKENS:
            break
    raise _incomplete()


def _incomplete() -> Reject:
    return Reject(
        "the array does not end where the body ends",
        remedy="send one complete JSON array, and nothing after it",
    )
