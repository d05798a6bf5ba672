"""The scorer's HTTP: leads, look-up, explanation, timeline for sales systems; the page for people."""

import uuid
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer import page
from services.scorer.handler import Handler
from services.scorer.ledger import as_json
from services.scorer.queries import Filter, Moved, Queries, parse_time
from services.shared import web
from services.shared.errors import Reject
from services.shared.events import ExternalId, Interaction
from services.shared.identity import Cleaner, Identifier
from services.shared.keys import Keys, bearer
from services.shared.rates import Rates
from services.shared.settings import Settings


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


def create_app(settings: Settings, engine: AsyncEngine, handler: Handler, keys: Keys, readiness: web.Readiness) -> FastAPI:
    """The application; opens nothing."""
    rates = Rates(settings)
    app = web.create("Ripeline scorer", readiness, rates, max_body=web.SMALL_BODY)
    queries = Queries(engine, handler, settings.pepper.get_secret_value().encode())
    app.state.queries = queries

    @app.exception_handler(Moved)
    async def moved(request: Request, error: Moved) -> Response:
        path = request.url.path.replace(str(request.path_params.get("lead_id")), str(error.into))
        query = f"?{request.url.query}" if request.url.query else ""
        return Response(status_code=308, headers={"Location": path + query})

    async def may_query(request: Request) -> None:
        rates.key(keys.check(bearer(request.headers.get("authorization")), "query").id)

    def product_of(product: Annotated[str, Query(max_length=200)] = "") -> str:
        if product and product not in queries.products:
            raise Reject(f"no product {product!r}", where="product", remedy=f"use one of {', '.join(queries.products)}")
        return product or queries.products[0]

    def moment(at: Annotated[str, Query(max_length=64, description="RFC 3339; default now")] = "") -> int | None:
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
        cursor: Annotated[str, Query(max_length=500)] = "",
    ) -> Response:
        """Leads by their stored numbers, highest first; pass `next` as `cursor` for the following page."""
        stages = [*handler.playbook.stages, "unknown"]
        if stage and stage not in stages:
            raise Reject(f"no stage {stage!r}", where="stage", remedy=f"use one of {', '.join(stages)}")
        asked = Filter(product, stage, min_likelihood, min_fit, min_engagement, order, limit, cursor)
        return _json(await queries.leads(asked))

    @app.post("/v1/leads/lookup", **guarded, tags=["leads"])
    async def lookup(body: Lookup, product: Annotated[str, Depends(product_of)]) -> Response:
        """The lead that one identifier belongs to; personal data travel in the body, never in an address."""
        return _json(await queries.lead(await queries.lookup(_identifier(handler.cleaner, body)), product))

    @app.get("/v1/leads/{lead_id}", **guarded, tags=["leads"])
    async def lead(
        lead_id: uuid.UUID, product: Annotated[str, Depends(product_of)], at: Annotated[int | None, Depends(moment)]
    ) -> Response:
        """One lead with its numbers for this moment, or for `at`; 308 where it was merged into another."""
        return _json(await queries.lead(lead_id, product, at))

    @app.get("/v1/leads/{lead_id}/explain", **guarded, tags=["leads"])
    async def explain(
        lead_id: uuid.UUID, product: Annotated[str, Depends(product_of)], at: Annotated[int | None, Depends(moment)]
    ) -> Response:
        """Why this likelihood: start + Σ delta = logit(likelihood)."""
        return _json(as_json(await queries.explain(lead_id, product, at)))

    @app.get("/v1/leads/{lead_id}/timeline", **guarded, tags=["leads"])
    async def timeline(
        lead_id: uuid.UUID,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str, Query(max_length=500)] = "",
    ) -> Response:
        """What happened, oldest first: events, announcements, touches."""
        return _json(await queries.timeline(lead_id, limit, cursor))

    page.mount(app, settings, engine, handler, queries, keys)
    return app


def _identifier(cleaner: Cleaner, body: Lookup) -> Identifier:
    given = [name for name in ("email", "user_id", "anonymous_id", "external_id") if getattr(body, name) is not None]
    if len(given) != 1:
        raise Reject("name exactly one identifier", where="body", remedy="send email, user_id, anonymous_id or external_id")
    external = ExternalId(body.external_id.system, body.external_id.id) if body.external_id else None
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
        raise Reject("this identifies nobody", where=given[0], remedy="it is empty, malformed or a placeholder", kind="not-found")
    return found[0]


def _json(body: Any) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
