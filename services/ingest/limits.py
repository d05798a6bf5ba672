"""What an interaction may hold: the sizes of names, texts, numbers and whole records."""

from collections.abc import Iterable
from typing import Any

import msgspec

from services.ingest.sources.contract import Item
from services.ingest.sources.reading.json import MAX_DEPTH, TOO_DEEP
from services.shared.errors import Reject

MAX_TEXT = 8 * 1024  # bytes of UTF-8
MAX_RECORD = 512 * 1024  # bytes of an interaction: brokers take 1 MB
MAX_NAME = 512  # characters of an identifier: it has to fit into an index
ENVELOPE_BYTES = 300  # at least, around the interaction of every record
NAMES = ("id", "type", "user_id", "email", "anonymous_id", "product", "content_id", "touch_id")
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


def check_sizes(item: Item, record: bytes) -> None:
    """Raises Reject for a NUL, a text or record too long, a number over 64 bits. The length of the
    whole record spares most items the walk.
    """
    if b"\\u0000" in record:
        leaves = _leaves(msgspec.to_builtins(item), "")
        where = next((place for place, leaf in leaves if _has_nul(leaf)), "")
        raise Reject(
            r"a NUL character (\u0000)", where=where, remedy="take it out; no database keeps it"
        )
    if len(record) > ENVELOPE_BYTES + MAX_NAME:
        _check_names(item)
    if len(record) > MAX_TEXT:
        if len(record) > MAX_RECORD:
            raise Reject(
                f"larger than {MAX_RECORD // 1024} KB",
                remedy="leave out what no score needs",
                kind="too-large",
            )
        _check_leaves(msgspec.to_builtins(item), "")
        return
    for place, fields in (("traits", item.traits), ("properties", item.properties)):
        for name, value in fields.items():
            kind = type(value)
            if (
                kind is dict
                or kind is list
                or (kind is int and not INT64_MIN <= value <= INT64_MAX)
            ):
                _check_leaves(value, f"/{place}/{name}")


def _check_names(item: Item) -> None:
    """Names that go into indexes are short."""
    named: dict[str, str] = {name: getattr(item, name) for name in NAMES}
    if external := item.external_id:
        named |= {"external_id/system": external.system, "external_id/id": external.id}
    for name, value in named.items():
        if len(value) > MAX_NAME:
            raise Reject(
                f"longer than {MAX_NAME} characters", where=f"/{name}", remedy="shorten it"
            )


def _check_leaves(value: Any, where: str) -> None:
    for place, leaf in _leaves(value, where):
        if isinstance(leaf, int) and not INT64_MIN <= leaf <= INT64_MAX:
            raise Reject("a number beyond 64 bits", where=place, remedy="send it as a text")
        if isinstance(leaf, str) and len(leaf.encode()) > MAX_TEXT:
            raise Reject("a text over 8 KB", where=place, remedy="shorten it, or send a link to it")


def _has_nul(value: Any) -> bool:
    return isinstance(value, str) and ("\0" in value or "\\u0000" in value)


def _leaves(value: Any, where: str, depth: int = 1) -> Iterable[tuple[str, Any]]:
    """(JSON pointer, value) of keys and plain values, however deep."""
    if depth > MAX_DEPTH + 2:
        raise TOO_DEEP
    if isinstance(value, dict):
        for name, inner in value.items():
            yield where, name
            yield from _leaves(inner, f"{where}/{name}", depth + 1)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{where}/{number}", depth + 1)
    else:
        yield where, value
