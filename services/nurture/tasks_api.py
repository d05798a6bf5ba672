"""The routes of calls: what people are to do, and what came of it."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.calls import Calls
from services.nurture.responses import TaskResponse, TasksResponse
from services.nurture.store.calls import CallState, CallStore
from services.shared.clock import from_us, to_us
from services.shared.contracts.touch_reasons import CallAnswer
from services.shared.http.acting import Acting, acts
from services.shared.http.keys import BEARER, ApiKeys, bearer
from services.shared.http.paging import MAX_CURSOR, Cursors, Position
from services.shared.http.parameters import NO_NUL, only_declared
from services.shared.http.problems import refusals
from services.shared.http.rates import RateLimits


class TaskOutcome(BaseModel):
    """What came of a call."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"outcome": "reached", "note": "Wants a quote"}]},
    )

    outcome: CallAnswer
    note: str = Field("", max_length=2000, pattern=NO_NUL)


def create_router(
    engine: AsyncEngine, keys: ApiKeys, rates: RateLimits, cursors: Cursors, calls: Calls
) -> APIRouter:
    """The routes; keys of scope query or secret may use them."""
    router = APIRouter(tags=["tasks"])

    async def may_work(request: Request) -> None:
        key = keys.authorize(bearer(request.headers.get("authorization")), "query", "secret")
        rates.count_key(key.id)
        acts(request, key)

    known = [Depends(BEARER), Depends(may_work), Depends(only_declared)]

    @router.get("/v1/tasks", dependencies=known, responses=refusals(400, 401, 403, 422, 429, 503))
    async def tasks(
        state: CallState = "",
        lead: uuid.UUID | None = None,
        assignee: Annotated[str, Query(max_length=200, pattern=NO_NUL)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str, Query(max_length=MAX_CURSOR)] = "",
    ) -> TasksResponse:
        """Calls that people are asked to make, oldest first; pass `next` as `cursor` for the
        following page.
        """
        scope, after = f"tasks {state} {lead} {assignee}", None
        if cursor:
            position = cursors.decode(scope, cursor)
            after = from_us(int(position.value)), uuid.UUID(position.id)
        async with engine.connect() as connection:
            page = await CallStore(connection).page(
                lead=lead, assignee=assignee, state=state, after=after, limit=limit
            )
        following = None
        if page.has_more:
            last = page.rows[-1]
            following = cursors.encode(scope, Position(to_us(last.created_at), str(last.touch_id)))
        return TasksResponse(tasks=[TaskResponse.of(row) for row in page.rows], next=following)

    @router.post(
        "/v1/tasks/{task}/outcome",
        dependencies=known,
        responses=refusals(400, 401, 403, 404, 413, 422, 429, 503),
    )
    async def outcome(task: uuid.UUID, body: TaskOutcome, actor: Acting) -> TaskResponse:
        """Says what came of a call; the same answer again changes nothing."""
        return TaskResponse.of(await calls.answer(task, body.outcome, body.note, actor))

    return router
