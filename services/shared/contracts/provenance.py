"""Where an event comes from: live or from an import, and what ingest had to correct in it."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

ImportMode = Literal["", "history", "new_leads"]
HISTORY: ImportMode = "history"  # an import of what is past: answered with no touch
NEW_LEADS: ImportMode = "new_leads"  # an import of leads to be nurtured, over some days
_TOO_OLD, _CLAMPED, _TEST = "old", "clamped", "test"

# what was taken otherwise than as it was written
RemarkKind = Literal[
    "consent-word",
    "cut",
    "left-out",
    "several",
    "unknown-content",
    "unknown-field",
    "unknown-type",
]
REMARK_KINDS: tuple[RemarkKind, ...] = get_args(RemarkKind)
# each also follows "12 forms sent"
REMARK_SENTENCES: Mapping[str, str] = {
    "consent-word": "a word for consent that is not understood; no consent was taken from it",
    "cut": "a text over the limit, which was cut",
    "left-out": "a field that could not be read, which was left out",
    "several": "several values where one is taken; the first was",
    "unknown-content": "an id that no content of the playbook has",
    "unknown-field": "a field that has no meaning here, which was ignored",
    "unknown-type": "a type that is not known; it was taken, but counts for nothing by itself",
}


class Provenance(NamedTuple):
    """`import_mode` is '' for what is live; `ramp_days` are those of an import of new leads.

    What is `too_old` (400 days before its receipt) announces nothing; the time of what was
    `clamped` lay in the future and is that of its receipt. `remarks` are sorted. What is a `test`
    belongs to no set: it changes no lead.
    """

    import_mode: ImportMode = ""
    ramp_days: int = 0
    too_old: bool = False
    clamped: bool = False
    remarks: tuple[RemarkKind, ...] = ()
    test: bool = False

    @property
    def import_only(self) -> "Provenance":
        """The part that announcements carry; an import of what is too old is one of history."""
        if self.import_mode and self.too_old:
            return Provenance(HISTORY)
        return Provenance(self.import_mode, self.ramp_days)

    @property
    def breadth(self) -> tuple[bool, int]:
        """By which of several imports the one that speaks for all is chosen: the greatest."""
        return self.import_mode == NEW_LEADS, self.ramp_days


LIVE = Provenance()


@lru_cache(256)
def encode_provenance(provenance: Provenance) -> str:
    """As envelopes, rows and changes carry it: `old cut new_leads:7`; '' for what is live and in
    order.
    """
    mode, days, too_old, clamped, remarks, test = provenance
    words = [_TOO_OLD] * too_old + [_CLAMPED] * clamped + [*remarks] + [_TEST] * test
    if mode:
        words.append(f"{mode}:{days}" if mode == NEW_LEADS else mode)
    return " ".join(words)


@lru_cache(256)
def decode_provenance(text: str) -> Provenance:
    """The provenance of such a text; words of later releases are passed over."""
    words = text.split()
    mode, days = "", 0
    for word in words:
        name, _, number = word.partition(":")
        if not mode and name in (HISTORY, NEW_LEADS):
            mode, days = name, int(number) if number.isdecimal() else 0
    remarks = tuple(kind for kind in REMARK_KINDS if kind in words)
    flags = _TOO_OLD in words, _CLAMPED in words, remarks, _TEST in words
    return Provenance(mode, days, *flags)  # type: ignore[arg-type]
