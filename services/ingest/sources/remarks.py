"""What was accepted otherwise than as it was written, and is said so: a word for consent that is
not understood, a text that was cut.
"""

from collections.abc import Iterable

from services.ingest.sources.contract import Item, Parsed, Refused, Remark, Remarked
from services.shared.contracts.provenance import RemarkKind

MAX_SHOWN = 60  # characters of what was written
MAX_REMARKS = 20  # of an item; what is more is left out


def remarked(item: Item, remarks: Iterable[Remark]) -> Item | Remarked:
    """The item with its distinct remarks, in their order; alone where there are none."""
    shown = {
        Remark(kind, _shown(where), _shown(text), _shown(nearest)): None
        for kind, where, text, nearest in remarks
    }
    return Remarked(item, tuple(shown)[:MAX_REMARKS]) if shown else item


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


SENTENCES: dict[RemarkKind, str] = {
    "consent-word": "a word for consent that is not understood; no consent was taken from it",
    "cut": "a text over the limit was cut",
    "left-out": "a field that could not be read was left out",
    "several": "several values where one is taken; the first was",
    "unknown-content": "no content of the playbook has this id",
    "unknown-field": "no field has this name; it was ignored",
    "unknown-type": "this type is not known; it was taken, but counts for nothing by itself",
}


def sentence(remark: Remark) -> str:
    """The remark in plain words."""
    near = f"; did you mean {remark.nearest!r}?" if remark.nearest else ""
    return SENTENCES[remark.kind] + near
