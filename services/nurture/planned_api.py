"""The routes of what is planned, and of what people decide about it."""

import uuid
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from services.nurture.planned import DAYS, PlannedTouches, Upcoming
from services.nurture.store.planned import Action, Filter, Place, PlannedState
from services.shared.clock import rfc3339
from services.shared.contracts.touch_reasons import TouchStatus
from services.shared.http.acting import Acting, only
from services.shared.http.keys import BEARER
from services.shared.http.paging import MAX_CURSOR, Cursors, Position
from services.shared.http.parameters import NO_NUL, only_declared
from services.shared.http.problems import refusals

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
_ACT: dict[str, Any] = {
    "action": "hold",
    "by": "ada@millwarden.example",
    "reason": "the case study is being rewritten",
    "at": "2026-05-13T12:00:00Z",
}
_EXAMPLE: dict[str, Any] = {
    "id": "5b0c6a52-3f0e-5c1b-9c55-0d1f6f6a2a01",
    "lead": "0f7a1f5e-5b0e-4f0e-8a43-6f2f8c1d9b11",
    "email": "grace@acme.example",
    "product": "default",
    "program": "practitioner-track",
    "stage": "decision",
    "content": "case-study-bottling",
    "title": "How a bottling plant halved its stops",
    "channel": "email",
    "state": "held",
    "status": "due",
    "decided": True,
    "due_at": "2026-05-14T06:00:00Z",
    "reason": "quiet_hours",
    "why": "the next of practitioner-track for decision: How a bottling plant halved its stops",
    "against": None,
    "subject": "Half the stops in a year",
    "text": "Hello Grace, …",
    "html": "<!doctype html>…",
    "acts": [_ACT],
}


class Decided(BaseModel):
    """Who decides, and why."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"by": _ACT["by"], "reason": _ACT["reason"]}]},
    )

    by: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00]*\S[^\x00]*$")
    reason: str = Field("", max_length=2000, pattern=NO_NUL)


class ActResponse(BaseModel):
    """What somebody decided about a planned touch."""

    action: Action
    by: str
    reason: str
    at: Time


class PlannedResponse(BaseModel):
    """A touch that goes out unless something changes, as its lead would read it.

    Not yet `decided` is the next step of a person in a program; `id` is the id that its touch will
    have. `reason` is what it waits for, `against` what speaks against it as things stand.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    lead: str
    email: str | None
    product: str
    program: str
    stage: str
    content: str
    title: str
    channel: str
    state: PlannedState
    status: TouchStatus
    decided: bool
    due_at: Time | None
    reason: str | None
    why: str | None
    against: str | None
    subject: str
    text: str
    html: str
    acts: list[ActResponse]

    @classmethod
    def of(cls, one: Upcoming) -> "PlannedResponse":
        """From what is planned."""
        touch = one.touch
        return cls(
            id=touch.id, lead=touch.lead, email=one.lead.snapshot.email or None,
            product=touch.product, program=touch.program, stage=touch.stage,
            content=touch.content, title=one.title, channel=touch.channel, state=one.state,
            status=touch.status, decided=touch.decided_at is not None,
            due_at=rfc3339(touch.due_at) if touch.due_at else None, reason=touch.reason or None,
            why=touch.why or None, against=one.against or None, subject=one.subject,
            text=one.text, html=one.html,
            acts=[
                ActResponse(action=act.action, by=act.by, reason=act.reason, at=rfc3339(act.at))
                for act in one.acts
            ],
        )  # fmt: skip


class PlannedListResponse(BaseModel):
    """What is planned, the earliest first; `next` is the cursor of the following page."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"planned": [_EXAMPLE], "next": None}]}
    )

    planned: list[PlannedResponse]
    next: str | None


def create_router(
    planned: PlannedTouches,
    may_query: Callable[..., Any],
    may_work: Callable[..., Any],
    cursors: Cursors,
) -> APIRouter:
    """The routes; `may_query` raises for who may not read, `may_work` for who may not decide."""
    router = APIRouter(tags=["planned"])
    reads = [Depends(BEARER), Depends(may_query), Depends(only_declared)]
    works = [Depends(BEARER), Depends(may_work), Depends(only_declared)]

    @router.get("/v1/planned", dependencies=reads, responses=refusals(400, 401, 403, 422, 429, 503))
    async def upcoming(
        lead: uuid.UUID | None = None,
        program: Annotated[str, Query(max_length=200, pattern=NO_NUL)] = "",
        channel: Literal["email", "webhook", "call", ""] = "",
        state: Literal[PlannedState, ""] = "",
        days: Annotated[int, Query(ge=1, le=31)] = DAYS,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str, Query(max_length=MAX_CURSOR)] = "",
    ) -> PlannedListResponse:
        """What goes out within so many days, the earliest first, with all that is held; `state`
        `skipped` lists what was to go out as many days ago and was skipped. A page may hold fewer
        than `limit`; pass `next` as `cursor` for the following one.
        """
        scope, after = f"planned {lead} {program} {channel} {state} {days}", None
        if cursor:
            position = cursors.decode(scope, cursor)
            after = Place(int(position.value), uuid.UUID(position.id))
        page = await planned.page(Filter(lead, program, channel, state), after, limit, days)
        following = (
            cursors.encode(scope, Position(page.next.at, str(page.next.id))) if page.next else None
        )
        return PlannedListResponse(
            planned=[PlannedResponse.of(one) for one in page.upcoming], next=following
        )

    @router.get(
        "/v1/planned/{id}",
        dependencies=reads,
        responses=refusals(400, 401, 403, 404, 422, 429, 503),
    )
    async def one(id: uuid.UUID) -> PlannedResponse:
        """One of them, whatever has become of it."""
        return PlannedResponse.of(await planned.one(id))

    decisions: dict[Action, str] = {
        "hold": "Does not send it until it is released; the same again changes nothing.",
        "release": "Takes back that it is held, or asked to be sent now.",
        "send-now": "Sends it without waiting for the lead's pace. Every ground but the moment is "
        "examined again: refusals, caps, the kill switch, the hold-out; quiet hours are obeyed "
        "but for calls.",
        "skip": "Never sends it, and goes on with the next item of the program.",
    }
    for action, about in decisions.items():
        _add(router, planned, works, action, about)
    return router


def _add(
    router: APIRouter,
    planned: PlannedTouches,
    works: Sequence[Any],
    action: Action,
    about: str,
) -> None:
    @router.post(
        f"/v1/planned/{{id}}/{action}",
        responses=refusals(400, 401, 403, 404, 409, 413, 422, 429, 503),
        description=about,
        summary=action.replace("-", " ").capitalize(),
        operation_id=f"planned_{action.replace('-', '_')}",
        dependencies=[*works, only("marketing", "admin")],
    )
    async def decide(id: uuid.UUID, body: Decided, actor: Acting) -> PlannedResponse:
        return PlannedResponse.of(await planned.decide(id, action, body.by, body.reason, actor))
