"""The routes of calls: what people are to do, and what came of it."""

import uuid
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.calls import Calls
from services.nurture.responses import TaskResponse, TasksResponse
from services.nurture.store.calls import CallState, CallStore
from services.shared.clock import from_us, to_us
from services.shared.contracts.touch_reasons import CallAnswer
from services.shared.http.acting import Acting, only
from services.shared.http.keys import BEARER
from services.shared.http.paging import MAX_CURSOR, Cursors, Position
from services.shared.http.parameters import NO_NUL, only_declared
from services.shared.http.problems import refusals


class TaskOutcome(BaseModel):
    """What came of a call."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"outcome": "reached", "note": "Wants a quote"}]},
    )

    outcome: CallAnswer
    note: str = Field("", max_length=2000, pattern=NO_NUL)


def create_router(
    engine: AsyncEngine,
    calls: Calls,
    may_query: Callable[..., Any],
    may_work: Callable[..., Any],
    cursors: Cursors,
) -> APIRouter:
    """The routes; `may_query` raises for who may not read, `may_work` for who may not answer."""
    router = APIRouter(tags=["tasks"])
    reads = [Depends(BEARER), Depends(may_query), Depends(only_declared)]
    works = [Depends(BEARER), Depends(may_work), Depends(only_declared), only("sales", "admin")]

    @router.get("/v1/tasks", dependencies=reads, responses=refusals(400, 401, 403, 422, 429, 503))
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
        dependencies=works,
        responses=refusals(400, 401, 403, 404, 413, 422, 429, 503),
    )
    async def outcome(task: uuid.UUID, body: TaskOutcome, actor: Acting) -> TaskResponse:
        """Says what came of a call; the same answer again changes nothing."""
        return TaskResponse.of(await calls.answer(task, body.outcome, body.note, actor))

    return router
