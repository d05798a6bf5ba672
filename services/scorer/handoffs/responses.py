"""Hand-offs as the API shows them."""

import uuid
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

import msgspec
from pydantic.config import JsonDict

from services.scorer.handoffs.records import Handoff, Kind, Status
from services.scorer.queries.responses import Time
from services.shared.clock import rfc3339

ID = "0b6c4f8e-3f3d-5a51-9c57-0d0f0f6f2a11"
LEAD = "7b0c2c1e-5d2b-5c1e-8a70-6a0f9a5b1c22"
SAID: JsonDict = {"by": "ana@example.com", "reason": "bad_timing", "until": "2027-03-01"}


class StepResponse(msgspec.Struct, frozen=True):
    """One step of a hand-off's history."""

    at: Time
    what: str
    by: str
    reason: str
    until: str | None
    note: str


class HandoffResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A hand-off: why, whose, and how long. `next` waits for room in the week and has no clock yet.

    `said` is what the lead said or asked last, in its words. The four times: detected, routed,
    told, responded (a person's first word); `answered_at` is that of the answer. `until` is the day
    from which sales wants the lead again, `again_on` the day of the next call, `undo_until` how
    long the answer can be taken back. `history` is null in lists.
    """

    id: str
    lead: str
    kind: Kind
    status: Status
    owner: str
    reasons: list[str]
    said: str
    opened_at: Time | None
    respond_by: Time | None
    expires_at: Time | None
    product: str
    stage: str
    likelihood: float | None
    why_owner: str
    detected_at: Time
    routed_at: Time | None
    told_at: Time | None
    responded_at: Time | None
    answer: str
    answered_at: Time | None
    answered_by: str
    reason: str
    until: str | None
    again_on: str | None
    meeting_on: str | None
    note: str
    undo_until: Time | None
    converted_to: str
    superseded_by: str | None
    history: list[StepResponse] | None = None

    @classmethod
    def of(cls, handoff: Handoff, steps: Iterable[Any] | None = None) -> "HandoffResponse":
        """The response of a hand-off, with its history where that is given."""
        history = None if steps is None else [_step(each) for each in steps]
        return cls(
            id=str(handoff.id), lead=str(handoff.lead_id), kind=handoff.kind,
            status=handoff.status, owner=handoff.owner, reasons=handoff.reasons,
            said=handoff.said, opened_at=_time(handoff.opened_at),
            respond_by=_time(handoff.respond_by), expires_at=_time(handoff.expires_at),
            product=handoff.product, stage=handoff.stage, likelihood=handoff.likelihood,
            why_owner=handoff.why_owner, detected_at=rfc3339(handoff.detected_at),
            routed_at=_time(handoff.routed_at), told_at=_time(handoff.told_at),
            responded_at=_time(handoff.responded_at), answer=handoff.answer,
            answered_at=_time(handoff.answered_at), answered_by=handoff.answered_by,
            reason=handoff.reason, until=_day(handoff.until), again_on=_day(handoff.again_on),
            meeting_on=_day(handoff.meeting_on), note=handoff.note,
            undo_until=_time(handoff.undo_until), converted_to=handoff.converted_to,
            superseded_by=_id(handoff.superseded_by), history=history,
        )  # fmt: skip


class HandoffsResponse(msgspec.Struct, frozen=True):
    """A page of hand-offs, the oldest first; `next` is the cursor of the following one."""

    handoffs: list[HandoffResponse]
    next: str | None


def _step(row: Any) -> StepResponse:
    return StepResponse(rfc3339(row.at), row.what, row.by, row.reason, _day(row.until), row.note)


def _time(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None


def _day(day: date | None) -> str | None:
    return day.isoformat() if day else None


def _id(given: uuid.UUID | None) -> str | None:
    return str(given) if given else None


EXAMPLE = HandoffResponse(
    id=ID, lead=LEAD, kind="raised_hand", status="open", owner="ana@example.com",
    reasons=["asked for a demo", "looked at prices, 3 times (+4.1)", "fit B, 71 of 100"],
    said="Could you show us how it works with two plants?",
    opened_at="2026-11-27T10:00:12Z", respond_by="2026-11-27T12:00:12Z",
    expires_at="2026-12-08T10:00:12Z", product="default", stage="decision", likelihood=0.31,
    why_owner="has the territory; it is Ana's turn", detected_at="2026-11-27T10:00:12Z",
    routed_at="2026-11-27T10:00:12Z", told_at="2026-11-27T10:00:13Z", responded_at=None,
    answer="", answered_at=None, answered_by="", reason="", until=None, again_on=None,
    meeting_on=None, note="", undo_until=None, converted_to="", superseded_by=None,
)  # fmt: skip
EXAMPLES = HandoffsResponse([EXAMPLE], None)
