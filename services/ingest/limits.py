"""What an interaction may hold: the sizes of names, texts, numbers and whole records, how many
fields and consents, and no control character in a name. Texts that are longer are cut.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from services.ingest.sources.contract import Item, Remark
from services.ingest.sources.reading.json import MAX_DEPTH, TOO_DEEP
from services.shared.errors import Reject

MAX_TEXT = 8 * 1024  # bytes of UTF-8
MAX_RECORD = 512 * 1024  # bytes of an interaction: brokers take 1 MB
MAX_NAME = 512  # characters of an identifier: it has to fit into an index
MAX_FIELDS = 5_000  # traits of an interaction, and properties
# bytes of its traits as JSON: a lead keeps them, and its snapshots carry them
MAX_TRAITS = 64 * 1024
MAX_CONSENTS = 20  # of an interaction
MAX_PROPERTIES = 256 * 1024  # bytes of its properties as JSON, to which their texts are cut
SHORTEST = 64  # bytes that are left of a text at least
TEXTS = ("source", "campaign", "company", "url")  # cut where they are too long
ENVELOPE_BYTES = 300  # at least, around the interaction of every record
NAMES = ("id", "type", "user_id", "email", "anonymous_id", "product", "content_id", "touch_id")
WORDS = ("type", "user_id", "anonymous_id", "product", "content_id", "touch_id")
# of C0 and C1, and what parts lines: names are keys, stand in lists, and are put together to others
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
BACKSLASH, DELETE = ord("\\"), 0x7F  # by the first JSON escapes what it may not hold
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


def check_sizes(item: Item, record: bytes) -> None:
    """Raises Reject for a NUL, a control character in a name, a text or record too long, too many
    fields, a number over 64 bits. The record as a whole spares most items the walk.
    """
    # one byte is found in a fraction of the time that a text takes
    if record.find(BACKSLASH) >= 0 or record.find(DELETE) >= 0 or not record.isascii():
        _check_characters(item, record)
    if len(record) > ENVELOPE_BYTES + MAX_NAME:
        _check_names(item)
        _check_fields(item, record)
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


def cut_texts(item: Item, record: bytes) -> tuple[Remark, ...]:
    """Cuts every text that is over the limit, in the item itself, and says where; shorter where
    the traits or the properties are too large together.
    """
    if len(record) <= MAX_TEXT:
        return ()
    found: list[str] = []
    for name in TEXTS:
        if (text := getattr(item, name)) and (shorter := _shortened(text)) is not text:
            msgspec.structs.force_setattr(item, name, shorter)
            found.append(f"/{name}")
    for place, most in (("traits", MAX_TRAITS), ("properties", MAX_PROPERTIES)):
        if fields := getattr(item, place):
            fitting, where = _fields_cut(fields, f"/{place}", most)
            if where:
                msgspec.structs.force_setattr(item, place, fitting)
                found += where
    consents = tuple(
        msgspec.structs.replace(consent, text=_shortened(consent.text)) for consent in item.consent
    )
    if consents != item.consent:
        msgspec.structs.force_setattr(item, "consent", consents)
        found.append("/consent")
    return tuple(Remark("cut", where) for where in found)


def _fields_cut(fields: dict[str, Any], where: str, most: int) -> tuple[dict[str, Any], list[str]]:
    """The fields with their long texts cut, so far that they have at most `most` bytes together
    where that is possible, and where one was cut.
    """
    size, cut = MAX_TEXT, list[str]()
    shorter: dict[str, Any] = _cut(fields, where, size, cut)
    while cut and size > SHORTEST and len(msgspec.json.encode(shorter)) > most:
        size, cut = size // 2, []
        shorter = _cut(fields, where, size, cut)
    return shorter, cut


def _cut(value: Any, where: str, size: int, found: list[str], depth: int = 1) -> Any:
    """The value with its long texts cut to so many bytes; adds to `found` where one was."""
    if depth > MAX_DEPTH + 2:
        raise TOO_DEEP
    if isinstance(value, str):
        shorter = _shortened(value, size)
        if shorter is not value:
            found.append(where)
        return shorter
    if isinstance(value, dict):
        return {
            name: _cut(inner, f"{where}/{name}", size, found, depth + 1)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [
            _cut(inner, f"{where}/{number}", size, found, depth + 1)
            for number, inner in enumerate(value)
        ]
    return value


def _shortened(text: str, size: int = MAX_TEXT) -> str:
    """The beginning of a text that is over the limit; the text itself where it is not."""
    if 4 * len(text) <= MAX_TEXT or len(raw := text.encode("utf-8", "surrogatepass")) <= MAX_TEXT:
        return text
    return raw[:size].decode("utf-8", "ignore")


def check_word(word: str, where: str) -> None:
    """Raises Reject for a name with a control character, a tab or line break say."""
    if found := CONTROL.search(word):
        raise Reject(
            f"a control character (U+{ord(found[0]):04X}) in a name",
            where=where,
            remedy="take it out; a name is plain text in one line",
        )


def _check_characters(item: Item, record: bytes) -> None:
    """Names have no control characters, and nothing has a NUL."""
    _check_words(item)
    if b"\\u0000" in record:
        leaves = _leaves(msgspec.to_builtins(item), "")
        where = next((place for place, leaf in leaves if _has_nul(leaf)), "")
        raise Reject(
            r"a NUL character (\u0000)", where=where, remedy="take it out; no database keeps it"
        )


def _check_words(item: Item) -> None:
    """Names have no control characters; around identifiers, where they are left out, they may
    stand.
    """
    for name in WORDS:
        if value := getattr(item, name):
            check_word(value.strip(), f"/{name}")
    if external := item.external_id:
        check_word(external.system.strip(), "/external_id/system")
        check_word(external.id.strip(), "/external_id/id")
    for place in ("traits", "properties"):
        for name in getattr(item, place):
            check_word(name, f"/{place}")


def _check_fields(item: Item, record: bytes) -> None:
    """There are not too many fields, their names are short, and the traits not too large."""
    for place, fields in (("traits", item.traits), ("properties", item.properties)):
        if len(fields) > MAX_FIELDS:
            raise _too_large(f"{len(fields):,} {place}", f"/{place}", f"send at most {MAX_FIELDS}")
        if longest := next((name for name in fields if len(name) > MAX_NAME), ""):
            raise _too_large(
                f"a name of {len(longest):,} characters", f"/{place}", f"use at most {MAX_NAME}"
            )
    if len(record) > MAX_TRAITS:
        size = len(msgspec.json.encode(item.traits))
        if size > MAX_TRAITS:
            remedy = f"send at most {MAX_TRAITS // 1024} KB, of what a score or a mail needs"
            raise _too_large(f"{size // 1024} KB of traits", "/traits", remedy)


def _too_large(what: str, where: str, remedy: str) -> Reject:
    return Reject(what, where=where, remedy=remedy, kind="too-large")


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
