"""Reads what a sender states loosely: a number for a text is its text, null and what is empty are
nothing, and an incidental field that cannot be used is left out.

A decoder's first error leads to the value that it does not take; that one is mended or taken out,
and the rest is read again.
"""

import re
from typing import Any, NamedTuple, TypeVar

import msgspec

from services.ingest.sources.contract import Remark
from services.ingest.sources.reading.json import pointer

T = TypeVar("T")
MAX_MENDED = 32  # values of one item: each costs another reading
EMPTY: tuple[object, ...] = (None, "", [], {})
NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,9})?")
WANTED = re.compile(r"Expected `([^`]+)`")
PATH = re.compile(r"\.([^.\[`]+)|\[(\d+)\]")


class Lenient(NamedTuple):
    """What was read, and a remark on each field that was left out."""

    value: Any
    remarks: tuple[Remark, ...] = ()


def lenient(body: bytes, type_: type[T], needed: frozenset[str] = frozenset()) -> Lenient:
    """A JSON body as the type; what stands at a pointer of `needed` is never left out. Raises
    msgspec's error where it, or the body as a whole, cannot be read.
    """
    try:
        return Lenient(msgspec.json.decode(body, type=type_))
    except msgspec.ValidationError:
        given = msgspec.json.decode(body)
    remarks: list[Remark] = []
    for _ in range(MAX_MENDED):
        try:
            return Lenient(msgspec.convert(given, type_), tuple(remarks))
        except msgspec.ValidationError as error:
            if where := _mend(given, error, needed):
                remarks.append(Remark("left-out", where))
    return Lenient(msgspec.convert(given, type_), tuple(remarks))


def _mend(given: Any, error: msgspec.ValidationError, needed: frozenset[str]) -> str:
    """Mends the one value that the error names; its pointer where it was left out, '' where nothing
    is lost. Raises the error where nothing can be done.
    """
    what, _, at = str(error).partition(" - at `$")
    path: list[str | int] = [name or int(index) for name, index in PATH.findall(at)]
    where = pointer(at.rstrip("`"))
    inner = given
    for step in path[:-1]:
        inner = inner[step]
    if not path or (isinstance(inner, dict) and path[-1] not in inner):
        raise error
    value = inner[path[-1]]
    wanted = WANTED.match(what)
    kinds = frozenset(wanted[1].split(" | ")) if wanted else frozenset[str]()
    mended = _mended(value, kinds)
    if mended is not None:
        inner[path[-1]] = mended
        return ""
    is_nothing = value in EMPTY and not what.startswith("Object missing")
    if where in needed and not is_nothing and value is not False:
        raise error
    del inner[path[-1]]
    return "" if is_nothing else where


def _mended(value: Any, kinds: frozenset[str]) -> Any:
    """The value as one of the kinds that are wanted; None where it is none of them."""
    if "str" in kinds and isinstance(value, int | float) and not isinstance(value, bool):
        return number_text(value)
    if kinds & {"int", "float"} and isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        return float(value) if "." in value else int(value)
    if "int" in kinds and isinstance(value, float) and value.is_integer():
        return int(value)
    return None


def number_text(number: float) -> str:
    """A number as people write it: 12.0 is `12`."""
    if isinstance(number, float) and number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return str(number)
