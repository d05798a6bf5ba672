"""HTTP about the estimate itself: the model in use, and forecasts of lists."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from services.scorer.dependencies import QUERY_KEY, BackendDep, FilterParameters
from services.scorer.queries.model import (
    AlarmResponse,
    ForecastResponse,
    ModelResponse,
    PastForecast,
    UseResponse,
)
from services.shared.http.problems import refusals
from services.shared.http.responses import documented, json_response

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
    precision_at_capacity={"capacity": 20, "weeks": 61, "taken": 1220, "precision": 0.213},
    alarms=[AlarmResponse("2026-10-28", "silent", "webinar has been silent for 6 days")],
    checked_days=["2026-11-02", "2026-11-01", "2026-10-31"],
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
    dependencies=QUERY_KEY,
    generate_unique_id_function=lambda route: route.name,
    responses=refusals(400, 401, 403, 422, 429, 503),
)


@router.get("/model", responses=documented(200, "The model in use", MODEL))
async def get_model(backend: BackendDep) -> Response:
    """What the model in use was learned from, the evidence for it, and how its predictions compare
    with what came of them.
    """
    return json_response(await backend.models.model())


@router.get("/forecast", responses=documented(200, "The forecast", FORECAST))
async def get_forecast(
    backend: BackendDep, asked: Annotated[FilterParameters, Query()]
) -> Response:
    """Expected outcomes of the leads of a list, and how past forecasts did."""
    return json_response(await backend.models.forecast(asked.filter(backend)))
