"""Remarks on what was accepted otherwise than as it was written: a word for consent that is not
understood, a text that was cut.
"""

from collections.abc import Iterable
from typing import TypeVar

from services.ingest.sources.contract import Item, Parsed, Refused, Remark, Remarked
from services.shared.contracts.provenance import REMARK_SENTENCES

MAX_SHOWN = 60  # characters of what was written
MAX_REMARKS = 20  # of an item; what is more is left out
T = TypeVar("T", bound=Item)


def remarked(item: T, remarks: Iterable[Remark]) -> T | Remarked:
    """The item with its distinct remarks, in their order; alone where there are none."""
    shown = with_remarks((), remarks)
    return Remarked(item, shown) if shown else item


def with_remarks(first: tuple[Remark, ...], more: Iterable[Remark]) -> tuple[Remark, ...]:
    """The first remarks and more, distinct and as people are shown them; within the limit."""
    shown = dict.fromkeys(first)
    for kind, where, text, nearest in more:
        shown[Remark(kind, _shown(where), _shown(text), _shown(nearest))] = None
    return tuple(shown)[:MAX_REMARKS]


def also_remarked(found: Parsed, remarks: Iterable[Remark]) -> Parsed:
    """What a reader returned, with further remarks in front of its own."""
    if isinstance(found, Refused):
        return found
    item, own = found if isinstance(found, Remarked) else (found, ())
    return remarked(item, (*remarks, *own))


def plain(found: Item | Remarked) -> Item:
    """The item itself."""
    return found.item if isinstance(found, Remarked) else found


def _shown(text: str) -> str:
    """A text as people are shown it: in one line, and short."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MAX_SHOWN]).split())
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"


def sentence(remark: Remark) -> str:
    """The remark in plain words."""
    near = f"; did you mean {remark.nearest!r}?" if remark.nearest else ""
    return REMARK_SENTENCES[remark.kind] + near
