"""The routes that operators' tools read: whether a service lives and can work, and its metrics."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict

from services.shared.contracts.events import encode_bytes


class Part(NamedTuple):
    """A part of a service, and why it cannot work, in a sentence; '' where it can. A service works
    without a part that is not `needed`.
    """

    problem: str
    needed: bool = True


Readiness = Callable[[], dict[str, bool | Part]]  # a plain bool says whether a needed part can work


class Live(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "live"}})
    status: Literal["live"] = "live"


class Ready(BaseModel):
    """Whether all parts of a service can work, and why not: `degraded` where it works without some
    of them, `waiting` where it does not.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "waiting",
                "parts": {"broker": False, "consumer": True},
                "why": {"broker": "the broker has not answered for 4 s"},
            }
        }
    )
    status: Literal["ready", "degraded", "waiting"]
    parts: dict[str, bool]
    why: dict[str, str] = {}

    @classmethod
    def of(cls, found: dict[str, bool | Part]) -> "Ready":
        """What the parts amount to."""
        parts = {
            name: part if isinstance(part, Part) else Part("" if part else "it cannot work yet")
            for name, part in found.items()
        }
        why = {name: part.problem for name, part in parts.items() if part.problem}
        is_waiting = any(part.problem and part.needed for part in parts.values())
        return cls(
            status="waiting" if is_waiting else "degraded" if why else "ready",
            parts={name: not part.problem for name, part in parts.items()},
            why=why,
        )


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
            200: {"model": Ready, "description": "It can work, perhaps without some parts"},
            503: {"model": Ready, "description": "Some parts cannot work yet"},
        },
    )
    async def ready() -> Response:
        """The service can do its work."""
        found = Ready.of(readiness())
        code = 503 if found.status == "waiting" else 200
        headers = {} if code == 200 else {"Retry-After": "1"}
        return Response(encode_bytes(found.model_dump()), code, headers, "application/json")

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus text."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router
