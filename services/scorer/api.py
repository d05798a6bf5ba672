"""The scorer's HTTP: leads, look-up, explanation, timeline and sales status for sales systems; the
page for people.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.dependencies import (
    BEARER,
    Backend,
    BackendDep,
    LeadId,
    LeadReference,
    Moment,
    Product,
    may_query,
    may_report,
    parse_time,
)
from services.scorer.queries import examples
from services.scorer.queries.filters import LeadFilter, Order, SalesFilter
from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.lookup import LookupBody, identifier_of
from services.scorer.queries.repository import MergedAway
from services.scorer.queries.responses import (
    LeadResponse,
    LeadsResponse,
    LedgerResponse,
    PendingReportResponse,
)
from services.scorer.queries.sales_status import SalesReport, SalesReports
from services.scorer.queries.timeline import TimelineQueries, TimelineResponse
from services.scorer.scoring import Scoring
from services.scorer.ui import routes as page
from services.shared.errors import Reject
from services.shared.http import web
from services.shared.http.keys import ApiKeys
from services.shared.http.paging import MAX_CURSOR
from services.shared.http.problems import refusals
from services.shared.http.rates import RateLimits
from services.shared.http.responses import add_response_types, documented, json_response
from services.shared.messaging.kafka import Publisher
from services.shared.playbook.sections import UNKNOWN
from services.shared.settings import Settings

QUERY_KEY = [Depends(BEARER), Depends(may_query)]
REPORT_KEY = [Depends(BEARER), Depends(may_report)]
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
) -> FastAPI:
    """The application; opens nothing."""
    rates, pepper = RateLimits(settings), settings.pepper.get_secret_value().encode()
    app = web.create("Ripeline scorer", readiness, rates, max_body=web.SMALL_BODY)
    leads = LeadQueries(engine, scoring, pepper)
    sales = SalesReports(engine, scoring, leads, publisher, pepper)
    timelines = TimelineQueries(engine, scoring, pepper)
    app.state.backend = Backend(scoring, keys, rates, leads, timelines, sales)
    app.exception_handler(MergedAway)(_redirect)
    app.include_router(router)
    add_response_types(
        app, [LeadResponse, LeadsResponse, LedgerResponse, TimelineResponse, PendingReportResponse]
    )
    page.mount(app, settings, engine, scoring, leads, keys, sales)
    return app


async def _redirect(request: Request, error: MergedAway) -> Response:
    path = request.url.path.replace(str(request.path_params.get("lead_id")), str(error.into))
    query = f"?{request.url.query}" if request.url.query else ""
    return Response(status_code=308, headers={"Location": path + query})


class ListParameters(BaseModel):
    """What a list of leads is asked for."""

    product: str = Field("", max_length=200)
    stage: str = Field("", max_length=100)
    min_likelihood: float | None = Field(None, ge=0, le=1)
    min_fit: float | None = Field(None, ge=0, le=100)
    min_engagement: float | None = Field(None, ge=0, le=100)
    sales_status: SalesFilter = Field(
        "",
        description="what sales reported last of the product; `none` for leads without a report, "
        "`any` for all. Without it those disqualified or won are left out, but in the stage "
        "`customer` only those disqualified",
    )
    updated_since: str = Field(
        "",
        max_length=64,
        description="RFC 3339; leads whose numbers were stored then or later (`as_of`)",
    )
    company: str = Field(
        "",
        max_length=200,
        description="in any case; of leads that name none the domain of their address",
    )
    order: Order = "likelihood"
    limit: int = Field(50, ge=1, le=500)
    cursor: str = Field("", max_length=MAX_CURSOR)

    def filter(self, product: str) -> LeadFilter:
        """The filter for this product, which is known."""
        return LeadFilter(
            product=product,
            stage=self.stage,
            min_likelihood=self.min_likelihood,
            min_fit=self.min_fit,
            min_engagement=self.min_engagement,
            sales_status=self.sales_status,
            updated_since=(
                parse_time(self.updated_since, "updated_since") if self.updated_since else None
            ),
            company=self.company.strip(),
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
    product = backend.product(asked.product)
    stages = [*backend.scoring.playbook.stages, UNKNOWN]
    if asked.stage and asked.stage not in stages:
        raise Reject(
            f"no stage {asked.stage!r}", where="stage", remedy=f"use one of {', '.join(stages)}"
        )
    return json_response(LeadsResponse.of(await backend.leads.page(asked.filter(product))))


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


@router.get(
    "/{lead_id}",
    dependencies=QUERY_KEY,
    responses=documented(200, "The lead", examples.LEAD) | MERGED_AWAY | refusals(404),
)
async def get_lead(backend: BackendDep, lead_id: LeadId, product: Product, at: Moment) -> Response:
    """One lead with its numbers for this moment, or for `at`; 308 where it was merged into
    another.
    """
    return json_response(LeadResponse.of(await backend.leads.lead(lead_id, product, at)))


@router.get(
    "/{lead_id}/explain",
    dependencies=QUERY_KEY,
    responses=documented(200, "The ledger", examples.LEDGER) | MERGED_AWAY | refusals(404),
)
async def explain(backend: BackendDep, lead_id: LeadId, product: Product, at: Moment) -> Response:
    """Why this likelihood: start + Σ delta = logit(likelihood)."""
    return json_response(LedgerResponse.of(await backend.leads.explain(lead_id, product, at)))


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
    backend: BackendDep, lead: LeadReference, report: SalesReport, product: Product
) -> Response:
    """What sales reports of a lead: 200 with the lead once it counts, 202 where it is safe and
    will count soon.
    """
    safe = await backend.sales.submit(lead, report)
    if safe.lead is None:
        return json_response(PendingReportResponse(safe.id, applied=False), 202)
    product = report.product or product
    try:
        found = await backend.leads.lead(safe.lead, product)
    except MergedAway as merged:
        found = await backend.leads.lead(merged.into, product)
    return json_response(LeadResponse.of(found))
