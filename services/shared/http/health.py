"""The routes that operators' tools read: whether a service lives and can work, and its metrics."""

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict

from services.shared.contracts.events import encode_bytes

Readiness = Callable[[], dict[str, bool]]  # the parts of a service, and whether each can work


class Live(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "live"}})
    status: Literal["live"] = "live"


class Ready(BaseModel):
    """Whether all parts of a service can work."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"status": "ready", "parts": {"consumer": True}}}
    )
    status: Literal["ready", "waiting"]
    parts: dict[str, bool]


def routes(readiness: Readiness) -> APIRouter:
    """`/health/live`, `/health/ready`, `/metrics`."""
    router = APIRouter(tags=["health"])

    @router.get("/health/live")
    async def live() -> Live:
        """The process turns."""
        return Live()

    @router.get(
        "/health/ready",
        response_model=None,
        responses={
            200: {"model": Ready},
            503: {"model": Ready, "description": "Some parts cannot work yet"},
        },
    )
    async def ready() -> Response:
        """The service can do its work."""
        parts = readiness()
        code = 200 if all(parts.values()) else 503
        headers = {} if code == 200 else {"Retry-After": "1"}
        body = {"status": "ready" if code == 200 else "waiting", "parts": parts}
        return Response(encode_bytes(body), code, headers, "application/json")

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus text."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router
