"""Where an event comes from: live or from an import, and what ingest had to correct in its time."""

from functools import lru_cache
from typing import Literal, NamedTuple

ImportMode = Literal["", "history", "new_leads"]
HISTORY: ImportMode = "history"  # an import of what is past: answered with no touch
NEW_LEADS: ImportMode = "new_leads"  # an import of leads to be nurtured, over some days
_TOO_OLD, _CLAMPED = "old", "clamped"


class Provenance(NamedTuple):
    """`import_mode` is '' for what is live; `ramp_days` are those of an import of new leads.

    What is `too_old` (400 days before its receipt) announces nothing; the time of what was
    `clamped` lay in the future and is that of its receipt.
    """

    import_mode: ImportMode = ""
    ramp_days: int = 0
    too_old: bool = False
    clamped: bool = False

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
    """As envelopes, rows and changes carry it: `old new_leads:7`; '' for what is live and in
    order.
    """
    mode, days, too_old, clamped = provenance
    words = [_TOO_OLD] * too_old + [_CLAMPED] * clamped
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
    return Provenance(mode, days, _TOO_OLD in words, _CLAMPED in words)  # type: ignore[arg-type]
