"""The scorer's HTTP: leads, look-up, explanation, timeline for sales systems; the page for
people.
"""

import uuid
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.queries.leads import Filter, Moved, Queries, parse_time
from services.scorer.queries.responses import LedgerResponse
from services.scorer.queries.sales_status import Outcomes, Said
from services.scorer.scoring import Scoring
from services.scorer.ui import routes as page
from services.shared.contracts.events import ExternalId, Interaction
from services.shared.contracts.identity import Cleaner, Identifier
from services.shared.errors import Reject
from services.shared.http import web
from services.shared.http.keys import ApiKeys, bearer
from services.shared.http.paging import MAX_CURSOR
from services.shared.http.rates import RateLimits
from services.shared.messaging.kafka import Publisher
from services.shared.settings import Settings

LeadId = Annotated[
    str,
    Path(
        max_length=300,
        description="the lead's id, or SYSTEM:ID, url-encoded, by the id of another system",
    ),
]
REPORTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The lead, with what was said"},
    202: {"description": "Safe, and applied soon: `{id, applied}`"},
    400: {"description": "A problem document: no such reason, product or time"},
    401: {"description": "A problem document: the key is missing or not valid"},
    403: {"description": "A problem document: a public key"},
    404: {"description": "A problem document: no such lead"},
    503: {"description": "A problem document: the broker or the database is away; see Retry-After"},
}


class External(BaseModel):
    """A lead's id in another system."""

    model_config = ConfigDict(extra="forbid")
    system: str
    id: str


class Lookup(BaseModel):
    """Exactly one identifier."""

    model_config = ConfigDict(extra="forbid")
    email: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    external_id: External | None = None


def create_app(
    settings: Settings,
    engine: AsyncEngine,
    scoring: Scoring,
    keys: ApiKeys,
    readiness: web.Readiness,
    publisher: Publisher,
) -> FastAPI:
    """The application; opens nothing."""
    rates = RateLimits(settings)
    app = web.create("Ripeline scorer", readiness, rates, max_body=web.SMALL_BODY)
    pepper = settings.pepper.get_secret_value().encode()
    queries = Queries(engine, scoring, pepper)
    outcomes = Outcomes(engine, scoring, queries, publisher, pepper)
    app.state.queries = queries

    @app.exception_handler(Moved)
    async def moved(request: Request, error: Moved) -> Response:
        path = request.url.path.replace(str(request.path_params.get("lead_id")), str(error.into))
        query = f"?{request.url.query}" if request.url.query else ""
        return Response(status_code=308, headers={"Location": path + query})

    async def may_query(request: Request) -> None:
        rates.count_key(keys.authorize(bearer(request.headers.get("authorization")), "query").id)

    async def may_report(request: Request) -> None:
        rates.count_key(
            keys.authorize(bearer(request.headers.get("authorization")), "secret", "query").id
        )

    async def named(lead_id: LeadId) -> uuid.UUID | Identifier:
        return _reference(scoring.cleaner, lead_id)

    async def found(lead: Annotated[uuid.UUID | Identifier, Depends(named)]) -> uuid.UUID:
        return await queries.lookup(lead, "path.lead_id") if isinstance(lead, Identifier) else lead

    def product_of(product: Annotated[str, Query(max_length=200)] = "") -> str:
        if product and product not in queries.products:
            raise Reject(
                f"no product {product!r}",
                where="product",
                remedy=f"use one of {', '.join(queries.products)}",
            )
        return product or queries.products[0]

    def moment(
        at: Annotated[str, Query(max_length=64, description="RFC 3339; default now")] = "",
    ) -> int | None:
        return parse_time(at) if at else None

    guarded: dict[str, Any] = {"dependencies": [Depends(may_query)], "response_model": None}

    @app.get("/v1/leads", **guarded, tags=["leads"])
    async def leads(
        product: Annotated[str, Depends(product_of)],
        stage: Annotated[str, Query(max_length=100)] = "",
        min_likelihood: Annotated[float | None, Query(ge=0, le=1)] = None,
        min_fit: Annotated[float | None, Query(ge=0, le=100)] = None,
        min_engagement: Annotated[float | None, Query(ge=0, le=100)] = None,
        order: Literal["likelihood", "engagement", "fit", "last_event_at"] = "likelihood",
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        cursor: Annotated[str, Query(max_length=MAX_CURSOR)] = "",
    ) -> Response:
        """Leads by their stored numbers, highest first; pass `next` as `cursor` for the following
        page.
        """
        stages = [*scoring.playbook.stages, "unknown"]
        if stage and stage not in stages:
            raise Reject(
                f"no stage {stage!r}", where="stage", remedy=f"use one of {', '.join(stages)}"
            )
        asked = Filter(
            product, stage, min_likelihood, min_fit, min_engagement, order, limit, cursor
        )
        return _json(await queries.leads(asked))

    @app.post("/v1/leads/lookup", **guarded, tags=["leads"])
    async def lookup(body: Lookup, product: Annotated[str, Depends(product_of)]) -> Response:
        """The lead that one identifier belongs to; personal data travel in the body, never in an
        address.
        """
        return _json(
            await queries.lead(await queries.lookup(_identifier(scoring.cleaner, body)), product)
        )

    @app.get("/v1/leads/{lead_id}", **guarded, tags=["leads"])
    async def lead(
        lead_id: Annotated[uuid.UUID, Depends(found)],
        product: Annotated[str, Depends(product_of)],
        at: Annotated[int | None, Depends(moment)],
    ) -> Response:
        """One lead with its numbers for this moment, or for `at`; 308 where it was merged into
        another.
        """
        return _json(await queries.lead(lead_id, product, at))

    @app.get("/v1/leads/{lead_id}/explain", **guarded, tags=["leads"])
    async def explain(
        lead_id: Annotated[uuid.UUID, Depends(found)],
        product: Annotated[str, Depends(product_of)],
        at: Annotated[int | None, Depends(moment)],
    ) -> Response:
        """Why this likelihood: start + Σ delta = logit(likelihood)."""
        return _json(LedgerResponse.of(await queries.explain(lead_id, product, at)))

    @app.get("/v1/leads/{lead_id}/timeline", **guarded, tags=["leads"])
    async def timeline(
        lead_id: Annotated[uuid.UUID, Depends(found)],
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str, Query(max_length=MAX_CURSOR)] = "",
    ) -> Response:
        """What happened, oldest first: events, announcements, touches."""
        return _json(await queries.timeline(lead_id, limit, cursor))

    reporting: dict[str, Any] = {
        "dependencies": [Depends(may_report)],
        "response_model": None,
        "responses": REPORTED,
    }

    @app.post("/v1/leads/{lead_id}/status", **reporting, tags=["leads"])
    async def status(
        lead: Annotated[uuid.UUID | Identifier, Depends(named)],
        said: Said,
        product: Annotated[str, Depends(product_of)],
    ) -> Response:
        """What sales says of a lead: 200 with the lead once it counts, 202 where it is safe and
        will count soon.
        """
        taken = await outcomes.report(lead, said)
        if taken.lead is None:
            return _json({"id": taken.id, "applied": False}, 202)
        product = said.product or product
        try:
            return _json(await queries.lead(taken.lead, product))
        except Moved as merged:
            return _json(await queries.lead(merged.into, product))

    page.mount(app, settings, engine, scoring, queries, keys, outcomes)
    return app


def _identifier(cleaner: Cleaner, body: Lookup, where: str = "") -> Identifier:
    given = [
        name
        for name in ("email", "user_id", "anonymous_id", "external_id")
        if getattr(body, name) is not None
    ]
    if len(given) != 1:
        raise Reject(
            "name exactly one identifier",
            where="body",
            remedy="send email, user_id, anonymous_id or external_id",
        )
    external = (
        ExternalId(body.external_id.system, body.external_id.id) if body.external_id else None
    )
    named = Interaction(
        id="",
        type="",
        email=body.email or "",
        user_id=body.user_id or "",
        anonymous_id=body.anonymous_id or "",
        external_id=external,
    )
    found = cleaner.identifiers(named)
    if not found or any("\0" in one.value for one in found):
        remedy = "it is empty, malformed or a placeholder"
        raise Reject(
            "this identifies nobody", where=where or given[0], remedy=remedy, kind="not-found"
        )
    return found[0]


def _reference(cleaner: Cleaner, said: str) -> uuid.UUID | Identifier:
    """What stands for a lead in an address: its own id, or SYSTEM:ID. Raises Reject."""
    try:
        return uuid.UUID(said)
    except ValueError:
        system, _, external = said.partition(":")
    if not system or not external:
        raise RequestValidationError(
            [{"loc": ("path", "lead_id"), "msg": "neither a lead's id nor SYSTEM:ID"}]
        )
    return _identifier(
        cleaner, Lookup(external_id=External(system=system, id=external)), "path.lead_id"
    )


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
