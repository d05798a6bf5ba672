"""What crosses the room of hand-offs: one as it is stored, its kinds, statuses and answers."""

import uuid
from datetime import date, datetime
from typing import Any, Literal

import msgspec

Kind = Literal["raised_hand", "ready", "reawakened"]
# next: waits for room; superseded: another hand-off of the same person has taken its place;
# withdrawn: its ground ended before anybody was notified
Status = Literal[
    "next", "open", "accepted", "rejected", "disqualified", "returned", "expired", "superseded",
    "withdrawn",
]  # fmt: skip
Answer = Literal["accept", "reject", "disqualify", "return", "meeting"]
Step = Literal[
    "detected", "opened", "reminded", "response_missed", "reassigned", "expired",
    "accepted", "rejected", "disqualified", "returned", "meeting", "not_reached", "noted",
    "undone", "converted", "superseded", "withdrawn", "revived",
]  # fmt: skip
RANK: dict[Kind, int] = {"raised_hand": 0, "ready": 1, "reawakened": 2}  # the first goes before
STATUS_OF: dict[Answer, Status] = {
    "accept": "accepted",
    "meeting": "accepted",
    "reject": "rejected",
    "disqualify": "disqualified",
    "return": "returned",
}
WAITING: tuple[Status, ...] = ("next", "open")  # a lead has at most one of these


class Handoff(msgspec.Struct, kw_only=True):
    """One hand-off; the fields are the table's.

    `opener` is the event for which it was opened, `opener_at` since when its ground holds. The four
    times: `detected_at`, `routed_at`, `told_at`, `responded_at` (the first word of a person; the
    answer's is `answered_at`). `owner` is a mail address, '' where there is none; `owners_tried`
    are those who were silent. `before_answer` is what undoing restores, until `undo_until`.
    `next_at` is when its clock is to be looked at. Of its `steps` the last `unpublished` are put
    out with the next examination.
    """

    id: uuid.UUID
    lead_id: uuid.UUID
    product: str
    kind: Kind
    status: Status
    opener: uuid.UUID
    opener_at: datetime
    detected_at: datetime
    owner: str = ""
    why_owner: str = ""
    reasons: list[str] = []
    said: str = ""
    stage: str = ""
    likelihood: float | None = None
    opened_at: datetime | None = None
    routed_at: datetime | None = None
    told_at: datetime | None = None
    respond_by: datetime | None = None
    remind_at: datetime | None = None
    reminded_at: datetime | None = None
    expires_at: datetime | None = None
    responded_at: datetime | None = None
    owners_tried: list[str] = []
    missed: int = 0
    answer: str = ""
    answered_at: datetime | None = None
    answered_by: str = ""
    answer_event: uuid.UUID | None = None
    before_answer: str = ""
    undo_until: datetime | None = None
    reason: str = ""
    until: date | None = None
    again_on: date | None = None
    meeting_on: date | None = None
    note: str = ""
    converted_to: str = ""
    converted_at: datetime | None = None
    superseded_by: uuid.UUID | None = None
    next_at: datetime | None = None
    steps: int = 0
    unpublished: int = 0

    @property
    def is_waiting(self) -> bool:
        """Whether nobody has answered it, and its time is not over."""
        return self.status in WAITING

    @property
    def ended_at(self) -> datetime | None:
        """When it was answered or expired."""
        if self.status in ("superseded", "withdrawn", *WAITING):
            return None
        return self.answered_at


COLUMNS = Handoff.__struct_fields__


def handoff_of(row: Any) -> Handoff:
    """A row of `scorer.handoff`."""
    return Handoff(**{name: getattr(row, name) for name in COLUMNS})
