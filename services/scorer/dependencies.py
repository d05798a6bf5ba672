"""What the API's routes are given: the backend, and parts of a request once they are checked."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Path, Query, Request
from fastapi.security import HTTPBearer

from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.lookup import lead_reference
from services.scorer.queries.sales_status import SalesReports
from services.scorer.queries.timeline import TimelineQueries
from services.scorer.scoring import Scoring
from services.shared.clock import to_us
from services.shared.contracts.identity import Identifier
from services.shared.errors import Reject
from services.shared.http.keys import ApiKeys, bearer
from services.shared.http.rates import RateLimits


@dataclass(frozen=True)
class Backend:
    """What answers; lies in the application's state."""

    scoring: Scoring
    keys: ApiKeys
    rates: RateLimits
    leads: LeadQueries
    timelines: TimelineQueries
    sales: SalesReports

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


# async although they wait for nothing: FastAPI runs other functions in threads


async def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


BackendDep = Annotated[Backend, Depends(_backend)]
# describes the header in the OpenAPI document; the key itself is checked below
BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="`rl_<id>_<secret>`")


async def may_query(request: Request, backend: BackendDep) -> None:
    """Wants a key of scope query. Raises Reject."""
    key = backend.keys.authorize(bearer(request.headers.get("authorization")), "query")
    backend.rates.count_key(key.id)


async def may_report(request: Request, backend: BackendDep) -> None:
    """Wants a key of scope secret or query. Raises Reject."""
    key = backend.keys.authorize(bearer(request.headers.get("authorization")), "secret", "query")
    backend.rates.count_key(key.id)


async def _reference(
    backend: BackendDep,
    lead_id: Annotated[
        str,
        Path(
            max_length=300,
            description="the lead's id, or SYSTEM:ID, url-encoded, by the id of another system",
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
