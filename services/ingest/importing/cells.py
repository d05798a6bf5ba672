"""How a cell is read: as a text, an amount of money, or a yes. Pure."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from services.ingest.importing.header import Header
from services.ingest.importing.mapping import ANY
from services.ingest.importing.times import Cells
from services.shared.errors import Reject

YES = frozenset({
    "yes", "y", "true", "t", "1", "x", "on", "ok", "ja", "oui", "si", "sí", "sim", "given",
    "granted", "subscribed", "optedin", "optin", "doubleoptin", "consented", "consent", "agreed",
    "accepted", "allowed", "permitted", "confirmed", "checked", "✓",
})  # fmt: skip
NUMBER = re.compile(r"-?\d+(\.\d+)?")
CURRENCY = r"(?:[^\W\d_]{1,3}\.?|[$€£¥])?+"
AMOUNT = re.compile(rf"\s*+{CURRENCY}\s*+(-?\d[\d.,\s'’]*+){CURRENCY}\s*+")
WHOLE = re.compile(
    r"^(\d{1,18})\.0{1,9}$"
)  # what programs make of whole numbers beside empty cells
FILLING = re.compile(r"[\s'’]")

ReadText = Callable[[Cells], str]


def text_reader(text: str, header: Header) -> ReadText:
    """Reads a column's value where there is a column of this name, else the text itself."""
    column = header.find(text) if text else None
    return (lambda _: text) if column is None else (lambda cells: cells[column].strip())


def number(text: str) -> float:
    """An amount as people write it: `12.50`, `12,50 €`, `1.234,50`. Raises Reject, also for
    `1,234`, which is two things.
    """
    amount = AMOUNT.fullmatch(text)
    plain = FILLING.sub("", amount[1]) if amount else ""
    point, comma = plain.rfind("."), plain.rfind(",")
    if point >= 0 and comma >= 0:
        plain = plain.replace("." if comma > point else ",", "").replace(",", ".")
    elif comma >= 0 and (plain.count(",") > 1 or len(plain) - comma != 4):
        plain = plain.replace(",", "." if plain.count(",") == 1 else "")
    if NUMBER.fullmatch(plain):
        return float(plain)
    raise Reject("not a number", where="cost", remedy="write it as 1234.50")


def folded(text: str) -> str:
    """The text without case, space and dashes, as values are compared."""
    return re.sub(r"[\s_-]+", "", text).casefold()


def values_of(equals: Sequence[str]) -> frozenset[str]:
    """The folded values that count, by the mapping's `equals`; all words for yes where there is
    none.
    """
    return frozenset(WHOLE.sub(r"\1", folded(each)) for each in equals) or YES


@lru_cache(maxsize=1024)
def matches(cell: str, values: frozenset[str]) -> bool:
    """Whether the cell has one of the folded values."""
    value = WHOLE.sub(r"\1", folded(cell))
    return value in values or (ANY in values and value != "")
