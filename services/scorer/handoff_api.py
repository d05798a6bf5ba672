"""HTTP of hand-offs: lists, and what people answer."""

import uuid
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from services.scorer.dependencies import QUERY_KEY, REPORT_KEY, BackendDep
from services.scorer.handoffs.answers import Details
from services.scorer.handoffs.records import Answer, Status
from services.scorer.handoffs.responses import (
    EXAMPLE,
    EXAMPLES,
    SAID,
    HandoffResponse,
    HandoffsResponse,
)
from services.shared.http.acting import Acting
from services.shared.http.paging import MAX_CURSOR
from services.shared.http.parameters import NO_NUL
from services.shared.http.problems import refusals
from services.shared.http.responses import documented, json_response
from services.shared.people.audit import Actor

RESPONSES: list[type[msgspec.Struct]] = [HandoffResponse, HandoffsResponse]
ANSWERED = documented(200, "The hand-off with the answer", EXAMPLE) | refusals(404, 409, 413)
router = APIRouter(
    prefix="/v1/handoffs",
    tags=["handoffs"],
    generate_unique_id_function=lambda route: route.name,
    responses=refusals(400, 401, 403, 422, 429, 503),
)


class AnswerBody(BaseModel):
    """What somebody says: who, a reason of the playbook's lists, a day, a note."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [SAID]})
    by: str = Field("", max_length=254, pattern=NO_NUL)
    reason: str = Field("", max_length=500, pattern=NO_NUL)
    until: str = Field("", max_length=100, pattern=NO_NUL, description="a day, as 2027-03-01")
    note: str = Field("", max_length=2_000, pattern=NO_NUL)

    def details(self, actor: Actor) -> Details:
        """As it is kept: by the person who is signed in, where nobody is named."""
        by = self.by.strip() or (actor.name if actor.kind == "person" else "")
        return Details(by, *(text.strip() for text in (self.reason, self.until, self.note)))


@router.get("", dependencies=QUERY_KEY, responses=documented(200, "A page", EXAMPLES))
async def list_handoffs(
    backend: BackendDep,
    status: Annotated[Status | Literal[""], Query(description="none for all")] = "",
    owner: Annotated[str, Query(max_length=254, pattern=NO_NUL)] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str, Query(max_length=MAX_CURSOR)] = "",
) -> Response:
    """Hand-offs, the oldest first; pass `next` as `cursor` for the following page."""
    return json_response(await backend.handoffs.page(status, owner, limit, cursor))


@router.get(
    "/{handoff_id}",
    dependencies=QUERY_KEY,
    responses=documented(200, "The hand-off with its history", EXAMPLE) | refusals(404),
)
async def get_handoff(backend: BackendDep, handoff_id: uuid.UUID) -> Response:
    """One hand-off with its history."""
    return json_response(await backend.handoffs.one(handoff_id))


async def _answer(
    backend: BackendDep, handoff_id: uuid.UUID, answer: Answer, body: AnswerBody, actor: Actor
) -> Response:
    details = body.details(actor)
    handoff = await backend.handoff_answers.answer(handoff_id, answer, details, actor)
    return json_response(HandoffResponse.of(handoff))


@router.post("/{handoff_id}/accept", dependencies=REPORT_KEY, responses=ANSWERED)
async def accept_handoff(
    backend: BackendDep, handoff_id: uuid.UUID, body: AnswerBody, actor: Acting
) -> Response:
    """Sales takes the lead: nurture pauses. The same answer again changes nothing."""
    return await _answer(backend, handoff_id, "accept", body, actor)


@router.post("/{handoff_id}/reject", dependencies=REPORT_KEY, responses=ANSWERED)
async def reject_handoff(
    backend: BackendDep, handoff_id: uuid.UUID, body: AnswerBody, actor: Acting
) -> Response:
    """Sales does not want the lead; it stays in nurture by the playbook's policy."""
    return await _answer(backend, handoff_id, "reject", body, actor)


@router.post("/{handoff_id}/disqualify", dependencies=REPORT_KEY, responses=ANSWERED)
async def disqualify_handoff(
    backend: BackendDep, handoff_id: uuid.UUID, body: AnswerBody, actor: Acting
) -> Response:
    """The lead is none, for a reason of `sales.disqualify_reasons`."""
    return await _answer(backend, handoff_id, "disqualify", body, actor)


@router.post("/{handoff_id}/return", dependencies=REPORT_KEY, responses=ANSWERED)
async def return_handoff(
    backend: BackendDep, handoff_id: uuid.UUID, body: AnswerBody, actor: Acting
) -> Response:
    """Sales gives the lead back to nurture; with `until` it is handed over again on that day."""
    return await _answer(backend, handoff_id, "return", body, actor)


@router.post("/{handoff_id}/meeting", dependencies=REPORT_KEY, responses=ANSWERED)
async def meet(
    backend: BackendDep, handoff_id: uuid.UUID, body: AnswerBody, actor: Acting
) -> Response:
    """Sales has a meeting with the lead, on the day `until`: an acceptance."""
    return await _answer(backend, handoff_id, "meeting", body, actor)


@router.post("/{handoff_id}/not-reached", dependencies=REPORT_KEY, responses=ANSWERED)
async def not_reached(
    backend: BackendDep, handoff_id: uuid.UUID, body: AnswerBody, actor: Acting
) -> Response:
    """The lead was called in vain; it is called again on the day `until`, without one on the next
    working day. The hand-off stays open.
    """
    handoff = await backend.handoff_answers.not_reached(handoff_id, body.details(actor), actor)
    return json_response(HandoffResponse.of(handoff))


@router.post("/{handoff_id}/note", dependencies=REPORT_KEY, responses=ANSWERED)
async def note_handoff(
    backend: BackendDep, handoff_id: uuid.UUID, body: AnswerBody, actor: Acting
) -> Response:
    """A note beside the hand-off."""
    handoff = await backend.handoff_answers.note(handoff_id, body.details(actor), actor)
    return json_response(HandoffResponse.of(handoff))


@router.post("/{handoff_id}/undo", dependencies=REPORT_KEY, responses=ANSWERED)
async def undo_answer(
    backend: BackendDep, handoff_id: uuid.UUID, body: AnswerBody, actor: Acting
) -> Response:
    """Takes the last answer back, within ten minutes."""
    handoff = await backend.handoff_answers.undo(handoff_id, body.details(actor), actor)
    return json_response(HandoffResponse.of(handoff))
