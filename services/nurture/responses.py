"""What the API answers with, and how OpenAPI describes it."""

from datetime import datetime
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field

from services.nurture.rules.enrolment import Enrolment, EnrolmentState
from services.shared.clock import rfc3339
from services.shared.contracts.holdout import Arm
from services.shared.contracts.touch_reasons import (
    CallOutcome,
    TouchStatus,
    WaitReason,
    WithholdReason,
)

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
_EXAMPLE: dict[str, Any] = {
    "id": "5b0c6a52-3f0e-5c1b-9c55-0d1f6f6a2a01",
    "lead": "0f7a1f5e-5b0e-4f0e-8a43-6f2f8c1d9b11",
    "announcement": "b6b2c1c4-7d55-5e1f-a6a7-2f0a4d9e7c22",
    "follows": None,
    "program": "practitioner-track",
    "product": "default",
    "stage": "decision",
    "content": "case-study-bottling",
    "channel": "email",
    "status": "sent",
    "reason": None,
    "why": "the next of practitioner-track for decision: How a bottling plant halved its stops",
    "propensity": 1.0,
    "arm": "treated",
    "decision_ms": 41.7,
    "decided_at": "2026-05-13T12:00:00Z",
    "due_at": "2026-05-13T12:00:00Z",
    "sent_at": "2026-05-13T12:00:02Z",
}


class TouchResponse(BaseModel):
    """A decision, and what became of it; `announcement` is the stage change or request that it
    answers; between stage changes it has none, and `follows` the touch before it.
    """

    id: str
    lead: str
    announcement: str | None
    follows: str | None
    program: str | None
    product: str
    stage: str
    content: str | None
    channel: str | None
    status: TouchStatus
    reason: str | None = Field(
        json_schema_extra={"examples": [None, "capped"]},
        description="Why it is withheld, or what it waits for: "
        + ", ".join(filter(None, (*get_args(WithholdReason), *get_args(WaitReason)))),
    )
    why: str | None = Field(description="The reason in words")
    propensity: float | None = Field(description="How probable this choice was")
    arm: Arm | None = Field(description="The arm of the account, as of the decision")
    decision_ms: float | None = Field(
        description="Milliseconds from the event's acceptance to the decision"
    )
    decided_at: Time | None
    due_at: Time | None
    sent_at: Time | None

    @classmethod
    def of(cls, row: Any) -> "TouchResponse":
        """The response for a row of `nurture.touch`."""
        return cls(
            id=str(row.id),
            lead=str(row.lead_id),
            announcement=None if row.follows else str(row.announcement_id),
            follows=str(row.announcement_id) if row.follows else None,
            program=row.program or None,
            product=row.product,
            stage=row.stage,
            content=row.content or None,
            channel=row.channel or None,
            status=row.status,
            reason=row.reason or None,
            why=row.why or None,
            propensity=row.propensity,
            arm=row.arm or None,
            decision_ms=row.decision_ms,
            decided_at=_time(row.decided_at),
            due_at=_time(row.due_at),
            sent_at=_time(row.sent_at),
        )


class TouchesResponse(BaseModel):
    """Touches, oldest decision first; `next` is the cursor of the following page."""

    model_config = ConfigDict(json_schema_extra={"example": {"touches": [_EXAMPLE], "next": None}})

    touches: list[TouchResponse]
    next: str | None


_ENROLMENT: dict[str, Any] = {
    "lead": "0f7a1f5e-5b0e-4f0e-8a43-6f2f8c1d9b11",
    "program": "practitioner-track",
    "product": "default",
    "state": "active",
    "place": 3,
    "reason": "pace",
    "why": "the next of practitioner-track for awareness: The one-week downtime diary",
    "last_touch": "5b0c6a52-3f0e-5c1b-9c55-0d1f6f6a2a01",
    "next_at": "2026-05-20T12:00:00Z",
    "entered_at": "2026-05-06T12:00:00Z",
    "left_at": None,
}


class EnrolmentResponse(BaseModel):
    """A person in a program: `place` counts the touches that were decided, `next_at` is when it is
    decided again, null where only news calls for that; `reason` and `why` are what it waits for.
    """

    lead: str
    program: str
    product: str
    state: EnrolmentState
    place: int
    reason: str | None
    why: str | None
    last_touch: str | None
    next_at: Time | None
    entered_at: Time | None
    left_at: Time | None

    @classmethod
    def of(cls, one: Enrolment) -> "EnrolmentResponse":
        """The response for an enrolment."""
        return cls(
            lead=one.lead,
            program=one.program,
            product=one.product,
            state=one.state,
            place=one.place,
            reason=one.reason or None,
            why=one.why or None,
            last_touch=one.last_touch or None,
            next_at=_time(one.next_at),
            entered_at=_time(one.entered_at),
            left_at=_time(one.left_at),
        )


class EnrolmentsResponse(BaseModel):
    """People in programs, by lead; `next` is the cursor of the following page."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"enrolments": [_ENROLMENT], "next": None}}
    )

    enrolments: list[EnrolmentResponse]
    next: str | None


def _time(at: datetime | None) -> str | None:
    return rfc3339(at) if at else None


_TASK: dict[str, Any] = {
    "id": _EXAMPLE["id"],
    "lead": _EXAMPLE["lead"],
    "product": "default",
    "program": "calls-in-decision",
    "content": "case-study-bottling",
    "stage": "decision",
    "assignee": "sales@millwarden.example",
    "email": "ada@acme.example",
    "phone": "+44 1632 960001",
    "reasons": [
        "in decision, believed with 83%",
        "buys with a likelihood of 31%",
        "acted last 2 days ago",
    ],
    "opening": "A bottling plant halved its stops in a year.",
    "created_at": "2026-05-13T12:00:00Z",
    "due_at": "2026-05-14T12:00:00Z",
    "expires_at": "2026-05-20T12:00:00Z",
    "outcome": None,
    "note": None,
    "answered_at": None,
}


class TaskResponse(BaseModel):
    """A call that a person is asked to make; `id` is that of its touch."""

    model_config = ConfigDict(json_schema_extra={"examples": [_TASK]})

    id: str
    lead: str
    product: str
    program: str
    content: str
    stage: str
    assignee: str | None
    email: str | None
    phone: str | None
    reasons: list[str] = Field(max_length=3)
    opening: str
    created_at: Time
    due_at: Time
    expires_at: Time
    outcome: CallOutcome | None
    note: str | None
    answered_at: Time | None

    @classmethod
    def of(cls, row: Any) -> "TaskResponse":
        """From a row of calls."""
        return cls(
            id=str(row.touch_id), lead=str(row.lead_id), product=row.product, program=row.program,
            content=row.content, stage=row.stage, assignee=row.assignee or None,
            email=row.recipient or None, phone=row.phone or None, reasons=row.reasons,
            opening=row.opening, created_at=rfc3339(row.created_at), due_at=rfc3339(row.due_at),
            expires_at=rfc3339(row.expires_at), outcome=row.outcome or None, note=row.note or None,
            answered_at=rfc3339(row.answered_at) if row.answered_at else None,
        )  # fmt: skip


class TasksResponse(BaseModel):
    """A page of calls; `next` is the cursor of the following one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tasks": [_TASK], "next": None}]})

    tasks: list[TaskResponse]
    next: str | None
