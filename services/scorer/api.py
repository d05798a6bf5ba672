"""The scorer's HTTP: leads, look-up, explanation, timeline and sales status for sales systems; the
page for people.
"""

from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response
from msgspec.structs import replace
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer import audit, estimates, handoff_api, reporting
from services.scorer.dependencies import (
    QUERY_KEY,
    REPORT_KEY,
    Backend,
    BackendDep,
    FilterParameters,
    LeadId,
    LeadReference,
    Moment,
    Product,
    parse_time,
)
from services.scorer.handoffs.answers import HandoffAnswers
from services.scorer.handoffs.queries import HandoffQueries
from services.scorer.queries import examples
from services.scorer.queries.filters import LeadFilter, Order
from services.scorer.queries.lag import Lag
from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.lookup import LookupBody, identifier_of
from services.scorer.queries.model import ModelQueries
from services.scorer.queries.reports import ReportQueries
from services.scorer.queries.repository import MergedAway, UnknownLead
from services.scorer.queries.responses import (
    LeadResponse,
    LeadsResponse,
    LedgerResponse,
    PendingReportResponse,
)
from services.scorer.queries.sales_status import SalesReport, SalesReports
from services.scorer.queries.summary import words_of
from services.scorer.queries.summary_response import LeadInFullResponse
from services.scorer.queries.timeline import TimelineQueries, TimelineResponse
from services.scorer.queries.use import QueryUse
from services.scorer.scoring import Scoring
from services.scorer.ui import routes as page
from services.shared.errors import Reject
from services.shared.http import web
from services.shared.http.acting import Acting
from services.shared.http.keys import ApiKeys
from services.shared.http.paging import MAX_CURSOR, Cursors
from services.shared.http.problems import problem_response, refusals
from services.shared.http.rates import RateLimits
from services.shared.http.responses import add_response_types, documented, json_response
from services.shared.messaging.kafka import Publisher
from services.shared.settings import Settings

MERGED_AWAY: dict[int | str, dict[str, Any]] = {
    308: {"description": "The lead was merged into another; Location is that one's address"}
}
router = APIRouter(
    prefix="/v1/leads",
    tags=["leads"],
    generate_unique_id_function=lambda route: route.name,
    responses=refusals(400, 401, 403, 422, 429, 503),
)


def create_app(
    settings: Settings,
    engine: AsyncEngine,
    scoring: Scoring,
    keys: ApiKeys,
    readiness: web.Readiness,
    publisher: Publisher,
    lag: Lag | None = None,
) -> FastAPI:
    """The application; opens nothing."""
    rates, pepper = RateLimits(settings), settings.pepper.get_secret_value().encode()
    app = web.create("Ripeline scorer", readiness, rates, max_body=web.SMALL_BODY)
    leads = LeadQueries(engine, scoring, pepper, lag)
    sales = SalesReports(engine, scoring, leads, publisher, pepper)
    timelines = TimelineQueries(engine, scoring, pepper)
    reports = ReportQueries(engine, scoring)
    models, cursors = ModelQueries(engine, scoring), Cursors(pepper)
    app.state.backend = Backend(
        scoring,
        keys,
        rates,
        leads,
        timelines,
        sales,
        models,
        reports,
        QueryUse(engine),
        HandoffQueries(engine, pepper),
        HandoffAnswers(engine, scoring, pepper),
        engine,
        cursors,
    )
    app.exception_handler(MergedAway)(_redirect)
    app.exception_handler(UnknownLead)(_unknown)
    app.include_router(router)
    app.include_router(estimates.router)
    app.include_router(reporting.router)
    app.include_router(handoff_api.router)
    app.include_router(audit.router)
    add_response_types(
        app,
        [
            LeadResponse,
            LeadInFullResponse,
            LeadsResponse,
            LedgerResponse,
            TimelineResponse,
            PendingReportResponse,
            *estimates.RESPONSES,
            *reporting.RESPONSES,
            *handoff_api.RESPONSES,
            *audit.RESPONSES,
        ],
    )
    page.mount(app, settings, engine, scoring, leads, keys, sales, reports)
    return app


async def _redirect(request: Request, error: MergedAway) -> Response:
    path = request.url.path.replace(str(request.path_params.get("lead_id")), str(error.into))
    query = f"?{request.url.query}" if request.url.query else ""
    return Response(status_code=308, headers={"Location": path + query})


async def _unknown(request: Request, error: UnknownLead) -> Response:
    """404, with the advice to ask again where events wait that may make the lead."""
    backend: Backend = request.app.state.backend
    is_behind = error.is_behind
    if is_behind is None:
        is_behind = await backend.leads.is_behind()
    if not is_behind:
        return problem_response(error)
    remedy = "not yet applied: try again in a second"
    response = problem_response(
        Reject(error.title, where=error.where, remedy=remedy, kind=error.kind)
    )
    response.headers["Retry-After"] = "1"
    return response


class ListParameters(FilterParameters):
    """What a list of leads is asked for."""

    updated_since: str = Field(
        "",
        max_length=64,
        description="RFC 3339; leads whose numbers were stored then or later (`as_of`)",
    )
    order: Order = "likelihood"
    limit: int = Field(50, ge=1, le=500)
    cursor: str = Field("", max_length=MAX_CURSOR)

    def filter(self, backend: Backend) -> LeadFilter:
        """The filter. Raises Reject for an unknown product or stage, or a time that is none."""
        return replace(
            super().filter(backend),
            updated_since=(
                parse_time(self.updated_since, "updated_since") if self.updated_since else None
            ),
            order=self.order,
            limit=self.limit,
            cursor=self.cursor,
        )


@router.get(
    "",
    dependencies=QUERY_KEY,
    responses=documented(200, "A page of leads", examples.LEADS),
)
async def list_leads(backend: BackendDep, asked: Annotated[ListParameters, Query()]) -> Response:
    """Leads by their stored numbers, highest first; pass `next` as `cursor` for the following
    page.
    """
    return json_response(LeadsResponse.of(await backend.leads.page(asked.filter(backend))))


@router.post(
    "/lookup",
    dependencies=QUERY_KEY,
    responses=documented(200, "The lead", examples.LEAD) | refusals(404),
)
async def look_up(backend: BackendDep, body: LookupBody, product: Product) -> Response:
    """The lead that one identifier belongs to; personal data travel in the body, never in an
    address.
    """
    identifier = identifier_of(backend.scoring.cleaner, body)
    lead = await backend.leads.lead(await backend.leads.look_up(identifier), product)
    return json_response(LeadResponse.of(lead))


@router.get("/lookup", include_in_schema=False)
async def look_up_by_address() -> Response:
    """No lead has this id. Raises HTTPException 405."""
    raise HTTPException(405, headers={"Allow": "POST"})


@router.get(
    "/{lead_id}",
    dependencies=QUERY_KEY,
    responses=documented(200, "The lead", examples.LEAD_IN_FULL) | MERGED_AWAY | refusals(404),
)
async def get_lead(
    backend: BackendDep,
    lead_id: LeadId,
    product: Product,
    at: Moment,
    summary: Annotated[bool, Query(description="with the reasons, which are a fold more")] = False,
) -> Response:
    """One lead with its numbers for this moment, or for `at`, and where `summary` is asked for in
    short why; 308 where it was merged into another.
    """
    if not summary:
        lead = await backend.leads.lead(lead_id, product, at)
        return json_response(LeadInFullResponse.in_full(lead, None))
    found = await backend.leads.in_full(lead_id, product, at)
    return json_response(LeadInFullResponse.in_full(found.lead, found.summary))


@router.get(
    "/{lead_id}/explain",
    dependencies=QUERY_KEY,
    responses=documented(200, "The ledger", examples.LEDGER) | MERGED_AWAY | refusals(404),
)
async def explain(backend: BackendDep, lead_id: LeadId, product: Product, at: Moment) -> Response:
    """Why this likelihood: start + Σ delta = logit(likelihood)."""
    ledger = await backend.leads.explain(lead_id, product, at)
    return json_response(LedgerResponse.of(ledger, words_of(backend.scoring.playbook)))


@router.get(
    "/{lead_id}/timeline",
    dependencies=QUERY_KEY,
    responses=documented(200, "A page of items", examples.TIMELINE) | MERGED_AWAY | refusals(404),
)
async def timeline(
    backend: BackendDep,
    lead_id: LeadId,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str, Query(max_length=MAX_CURSOR)] = "",
) -> Response:
    """What happened, oldest first: events, announcements, touches."""
    return json_response(await backend.timelines.page(lead_id, limit, cursor))


@router.post(
    "/{lead_id}/status",
    dependencies=REPORT_KEY,
    responses=documented(200, "The lead, with what was reported", examples.LEAD)
    | documented(202, "Safe, and applied soon", examples.PENDING)
    | refusals(404),
)
async def report_status(
    backend: BackendDep,
    lead: LeadReference,
    report: SalesReport,
    product: Product,
    actor: Acting,
) -> Response:
    """What sales reports of a lead: 200 with the lead once it counts, 202 where it is safe and
    will count soon.
    """
    safe = await backend.sales.submit(lead, report, actor)
    if safe.lead is None:
        return json_response(PendingReportResponse(safe.id, applied=False), 202)
    product = report.product or product
    try:
        found = await backend.leads.lead(safe.lead, product)
    except MergedAway as merged:
        found = await backend.leads.lead(merged.into, product)
    return json_response(LeadResponse.of(found))
