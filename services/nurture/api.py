"""Nurture's HTTP: the decisions, with what became of them, and people in programs."""

import uuid
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture import content_api, planned_api, tasks_api
from services.nurture.calls import Calls
from services.nurture.library import ContentLibrary
from services.nurture.planned import PlannedTouches
from services.nurture.responses import (
    EnrolmentResponse,
    EnrolmentsResponse,
    TouchesResponse,
    TouchResponse,
)
from services.nurture.rules.enrolment import EnrolmentState
from services.nurture.store.enrolments import EnrolmentStore, ProgramKey
from services.nurture.store.touches import PageEnd, TouchStore
from services.shared.clock import to_us
from services.shared.contracts.touch_reasons import TouchStatus
from services.shared.http import web
from services.shared.http.acting import acts
from services.shared.http.keys import BEARER, ApiKeys, Scope, bearer
from services.shared.http.paging import MAX_CURSOR, Cursors, Position
from services.shared.http.parameters import NO_NUL, only_declared
from services.shared.http.problems import refusals
from services.shared.http.rates import RateLimits
from services.shared.http.sessions import Sessions
from services.shared.http.signin import PageSessions, SignedOut
from services.shared.settings import Settings

MAX_NAME = 200  # characters of a program's id


def create_app(
    settings: Settings,
    engine: AsyncEngine,
    keys: ApiKeys,
    readiness: web.Readiness,
    calls: Calls,
    planned: PlannedTouches,
    library: ContentLibrary,
) -> FastAPI:
    """The application; opens nothing."""
    rates = RateLimits(settings)
    app = web.create("Ripeline nurture", readiness, rates, max_body=web.SMALL_BODY)
    cursors = Cursors(settings.pepper.get_secret_value().encode())

    pepper = settings.pepper.get_secret_value().encode()
    sessions = Sessions(PageSessions(keys, pepper), pepper, engine)

    async def admit(request: Request, *scopes: Scope) -> None:
        given = bearer(request.headers.get("authorization"))
        try:  # who is signed in to the scorer's page comes with a ticket
            actor = acts(request, await sessions.who(sessions.redeem(given)))
        except SignedOut:
            actor = acts(request, keys.authorize(given, *scopes))
        rates.count_key(actor.id)

    async def may_query(request: Request) -> None:
        await admit(request, "query")

    async def may_work(request: Request) -> None:
        await admit(request, "query", "secret")

    queries = APIRouter(
        dependencies=[Depends(BEARER), Depends(may_query), Depends(only_declared)],
        responses=refusals(400, 401, 403, 422, 429, 503),
    )
    _add_touches(queries, engine, cursors)
    _add_enrolments(queries, engine, cursors)
    app.include_router(queries)
    app.include_router(planned_api.create_router(planned, may_query, may_work, cursors))
    app.include_router(content_api.create_router(library, may_query))
    app.include_router(tasks_api.create_router(engine, calls, may_query, may_work, cursors))
    return app


def _add_touches(router: APIRouter, engine: AsyncEngine, cursors: Cursors) -> None:
    @router.get("/v1/touches", tags=["touches"])
    async def touches(
        lead: uuid.UUID | None = None,
        status: Literal[TouchStatus, ""] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str, Query(max_length=MAX_CURSOR)] = "",
    ) -> TouchesResponse:
        """Decisions, oldest first; pass `next` as `cursor` for the following page."""
        scope, after = f"touches {lead} {status}", None
        if cursor:
            position = cursors.decode(scope, cursor)
            after = PageEnd(int(position.value), uuid.UUID(position.id))
        async with engine.connect() as connection:
            page = await TouchStore(connection).page(
                lead=lead, status=status or None, after=after, limit=limit
            )
        following = None
        if page.has_more:
            last = page.rows[-1]
            following = cursors.encode(scope, Position(to_us(last.decided_at), str(last.id)))
        return TouchesResponse(touches=[TouchResponse.of(row) for row in page.rows], next=following)


def _add_enrolments(router: APIRouter, engine: AsyncEngine, cursors: Cursors) -> None:
    @router.get("/v1/enrolments", tags=["enrolments"])
    async def enrolments(
        lead: uuid.UUID | None = None,
        program: Annotated[str, Query(max_length=MAX_NAME, pattern=NO_NUL)] = "",
        state: Literal[EnrolmentState, ""] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str, Query(max_length=MAX_CURSOR)] = "",
    ) -> EnrolmentsResponse:
        """People in programs, by lead; pass `next` as `cursor` for the following page."""
        scope, after = f"enrolments {lead} {program} {state}", None
        if cursor:
            position = cursors.decode(scope, cursor)
            after = ProgramKey(position.id, str(position.value))
        async with engine.connect() as connection:
            page = await EnrolmentStore(connection).page(
                lead=lead, program=program, state=state, after=after, limit=limit
            )
        following = None
        if page.has_more:
            last = page.enrolments[-1]
            following = cursors.encode(scope, Position(last.program, last.lead))
        found = [EnrolmentResponse.of(one) for one in page.enrolments]
        return EnrolmentsResponse(enrolments=found, next=following)
