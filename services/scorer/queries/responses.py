"""What the API answers with: internal views of leads as JSON."""

import msgspec

from services.scorer.model.explanation import Ledger, Line
from services.scorer.wording import ledger_note, line_text
from services.shared.clock import from_us, rfc3339


class LineResponse(msgspec.Struct, frozen=True):
    """One step of the logit; `points` is what it did to the probability, times 100."""

    at: str
    kind: str
    event_id: str | None
    text: str
    delta: float
    points: float

    @classmethod
    def of(cls, line: Line) -> "LineResponse":
        """The line as JSON."""
        text = line_text(line)
        if line.touch_id:
            text += f" [touch {line.touch_id}]"
        at = rfc3339(from_us(line.at))
        return cls(at, line.kind, line.event_id, text, line.delta, line.points)


class LedgerResponse(msgspec.Struct, frozen=True):
    """`start` + Σ delta = logit(likelihood); `sum` is that sum. A lead whose outcome has happened
    has no likelihood.
    """

    likelihood: float | None
    start: float
    lines: list[LineResponse]
    sum: float
    as_of: str
    product: str
    model: str
    note: str

    @classmethod
    def of(cls, ledger: Ledger) -> "LedgerResponse":
        """The ledger as JSON."""
        return cls(
            likelihood=ledger.likelihood,
            start=ledger.start,
            lines=[LineResponse.of(line) for line in ledger.lines],
            sum=ledger.total,
            as_of=rfc3339(from_us(ledger.as_of)),
            product=ledger.product,
            model=ledger.model,
            note=ledger_note(ledger.ended_by),
        )
