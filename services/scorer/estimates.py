"""HTTP about the estimate itself: the model in use, and forecasts of lists."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field

from services.scorer.dependencies import BackendDep, may_query, only_declared
from services.scorer.queries.filters import LeadFilter, SalesFilter
from services.scorer.queries.model import (
    AlarmResponse,
    ForecastResponse,
    ModelResponse,
    PastForecast,
    UseResponse,
)
from services.shared.errors import Reject
from services.shared.http.keys import BEARER
from services.shared.http.problems import refusals
from services.shared.http.responses import documented, json_response
from services.shared.playbook.sections import UNKNOWN

RESPONSES: list[type[msgspec.Struct]] = [ModelResponse, ForecastResponse]
AT = "2026-11-02T03:10:00Z"
MODEL = ModelResponse(
    version="4be1c0a7d2f3",
    about="Learned from 412 outcomes of 9120 leads: the archive.",
    outcome="opportunity_opened",
    horizon_days=90,
    calibrated=True,
    training={"source": "the archive", "leads": 9120, "events": 88310, "outcomes": 412},
    evidence={"gain": {"n": 30122, "mean": 0.0121, "low": 0.0093, "high": 0.0149}},
    checked_at=AT,
    check={"matured": 61023, "outcomes": 398, "months": [], "alarms": []},
    alarms=[AlarmResponse("2026-10-28", "silent", "webinar has been silent for 6 days")],
    history=[UseResponse("4be1c0a7d2f3", AT, "on 30122 later predictions it is better")],
)
FORECAST = ForecastResponse(
    as_of=AT, horizon_days=90, outcome="opportunity_opened", model="4be1c0a7d2f3",
    calibrated=True, leads=2110, expected=41.2, low=27.5, high=54.9, hits=0.92,
    past=[PastForecast("2026-07-01T00:00:00Z", 1980, 39.0, 25.7, 52.3, 44)],
)  # fmt: skip
router = APIRouter(
    prefix="/v1",
    tags=["model"],
    dependencies=[Depends(BEARER), Depends(may_query), Depends(only_declared)],
    generate_unique_id_function=lambda route: route.name,
    responses=refusals(400, 401, 403, 422, 429, 503),
)


class ForecastParameters(BaseModel):
    """Which leads are forecast: as a list of leads is asked for."""

    product: str = Field("", max_length=200)
    stage: str = Field("", max_length=100)
    min_likelihood: float | None = Field(None, ge=0, le=1)
    min_fit: float | None = Field(None, ge=0, le=100)
    min_engagement: float | None = Field(None, ge=0, le=100)
    sales_status: SalesFilter = Field(
        "", description="as for a list; without it those disqualified or won are left out"
    )
    company: str = Field("", max_length=200)


@router.get("/model", responses=documented(200, "The model in use", MODEL))
async def get_model(backend: BackendDep) -> Response:
    """What the model in use was learned from, the evidence for it, and how its predictions compare
    with what came of them.
    """
    return json_response(await backend.models.model())


@router.get("/forecast", responses=documented(200, "The forecast", FORECAST))
async def get_forecast(
    backend: BackendDep, asked: Annotated[ForecastParameters, Query()]
) -> Response:
    """Expected outcomes of the leads of a list, and how past forecasts did."""
    product = backend.product(asked.product)
    stages = [*backend.scoring.playbook.stages, UNKNOWN]
    if asked.stage and asked.stage not in stages:
        raise Reject(
            f"no stage {asked.stage!r}", where="stage", remedy=f"use one of {', '.join(stages)}"
        )
    leads = LeadFilter(
        product=product,
        stage=asked.stage,
        min_likelihood=asked.min_likelihood,
        min_fit=asked.min_fit,
        min_engagement=asked.min_engagement,
        sales_status=asked.sales_status,
        company=asked.company.strip(),
    )
    return json_response(await backend.models.forecast(leads))
