"""What the API's routes are given: the backend, and parts of a request once they are checked."""

import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.handoffs.answers import HandoffAnswers
from services.scorer.handoffs.queries import HandoffQueries
from services.scorer.queries.filters import LeadFilter, SalesFilter
from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.lookup import lead_reference
from services.scorer.queries.model import ModelQueries
from services.scorer.queries.reports import ReportQueries
from services.scorer.queries.repository import UnknownLead
from services.scorer.queries.sales_status import SalesReports
from services.scorer.queries.timeline import TimelineQueries
from services.scorer.queries.use import QueryUse
from services.scorer.scoring import Scoring
from services.shared.clock import from_us, to_us
from services.shared.contracts.identity import Identifier
from services.shared.errors import Reject
from services.shared.http import parameters
from services.shared.http.acting import acts
from services.shared.http.keys import BEARER, ApiKeys, bearer
from services.shared.http.paging import Cursors
from services.shared.http.rates import RateLimits
from services.shared.playbook.sections import UNKNOWN

LEAD_OR_SYSTEM = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[^:/]+:[^/]+)$"


@dataclass(frozen=True)
class Backend:
    """What answers; lies in the application's state."""

    scoring: Scoring
    keys: ApiKeys
    rates: RateLimits
    leads: LeadQueries
    timelines: TimelineQueries
    sales: SalesReports
    models: ModelQueries
    reports: ReportQueries
    use: QueryUse
    handoffs: HandoffQueries
    handoff_answers: HandoffAnswers
    engine: AsyncEngine
    cursors: Cursors

    def product(self, name: str) -> str:
        """The product, the first one where none is named. Raises Reject for an unknown one."""
        products = self.leads.products
        if name and name not in products:
            raise Reject(
                f"no product {name!r}",
                where="product",
                remedy=f"use one of {', '.join(products)}",
            )
        return name or products[0]


class FilterParameters(BaseModel):
    """Which leads are asked for, in a list or for a forecast."""

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
    company: str = Field(
        "",
        max_length=200,
        description="in any case; of leads that name none the domain of their address",
    )

    def filter(self, backend: Backend) -> LeadFilter:
        """The filter. Raises Reject for an unknown product or stage."""
        product = backend.product(self.product)
        stages = [*backend.scoring.playbook.stages, UNKNOWN]
        if self.stage and self.stage not in stages:
            raise Reject(
                f"no stage {self.stage!r}", where="stage", remedy=f"use one of {', '.join(stages)}"
            )
        return LeadFilter(
            product=product,
            stage=self.stage,
            min_likelihood=self.min_likelihood,
            min_fit=self.min_fit,
            min_engagement=self.min_engagement,
            sales_status=self.sales_status,
            company=self.company.strip(),
        )


# async although they wait for nothing: FastAPI runs other functions in threads


async def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


BackendDep = Annotated[Backend, Depends(_backend)]


async def may_query(request: Request, backend: BackendDep) -> None:
    """Wants a key of scope query. Raises Reject."""
    key = backend.keys.authorize(bearer(request.headers.get("authorization")), "query")
    backend.rates.count_key(key.id)
    backend.use.count(key.id)
    acts(request, key)


async def may_report(request: Request, backend: BackendDep) -> None:
    """Wants a key of scope secret or query. Raises Reject."""
    key = backend.keys.authorize(bearer(request.headers.get("authorization")), "secret", "query")
    backend.rates.count_key(key.id)
    acts(request, key)


async def only_declared(request: Request, backend: BackendDep) -> None:
    """Wants no parameter that the route does not declare. Raises Reject, or MergedAway for a lead
    that is at another address, where the same is asked.
    """
    try:
        await parameters.only_declared(request)
    except Reject:
        with suppress(ValueError, UnknownLead):
            await backend.leads.check(uuid.UUID(request.path_params.get("lead_id", "")))
        raise


async def _reference(
    backend: BackendDep,
    lead_id: Annotated[
        str,
        Path(
            max_length=300,
            description="the lead's id, or SYSTEM:ID, url-encoded, by the id of another system",
            json_schema_extra={"pattern": LEAD_OR_SYSTEM},
        ),
    ],
) -> uuid.UUID | Identifier:
    return lead_reference(backend.scoring.cleaner, lead_id)


LeadReference = Annotated[uuid.UUID | Identifier, Depends(_reference)]


async def _lead_id(backend: BackendDep, reference: LeadReference) -> uuid.UUID:
    if isinstance(reference, Identifier):
        return await backend.leads.look_up(reference, "path.lead_id")
    return reference


LeadId = Annotated[uuid.UUID, Depends(_lead_id)]


async def _product(backend: BackendDep, product: Annotated[str, Query(max_length=200)] = "") -> str:
    return backend.product(product)


Product = Annotated[str, Depends(_product)]


async def _moment(
    at: Annotated[str, Query(max_length=64, description="RFC 3339; default now")] = "",
) -> int | None:
    return parse_time(at) if at else None


Moment = Annotated[int | None, Depends(_moment)]


def parse_time(text: str, where: str = "at") -> int:
    """An RFC 3339 time as µs. Raises Reject, which names `where` it was given."""
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 1900 <= moment.year < 2200:
        raise Reject(
            "not a time with a zone between 1900 and 2200",
            where=where,
            remedy="write it like 2026-01-31T12:00:00Z",
        )
    return to_us(moment)


class Period(BaseModel):
    """From when and until when something counts."""

    since: str = Field("", max_length=64, description="RFC 3339; from then on")
    until: str = Field("", max_length=64, description="RFC 3339; before then")

    def times(self) -> tuple[datetime | None, datetime | None]:
        """Its two ends, None for none. Raises Reject for a time that is none."""
        since, until = (
            from_us(parse_time(text, name)) if text else None
            for name, text in (("since", self.since), ("until", self.until))
        )
        return since, until


QUERY_KEY = [Depends(BEARER), Depends(may_query), Depends(only_declared)]
REPORT_KEY = [Depends(BEARER), Depends(may_report), Depends(only_declared)]
