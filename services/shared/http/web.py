"""HTTP that every service has: problem documents (RFC 9457), health, readiness and metrics."""

from collections.abc import Callable

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from services.shared.contracts.events import encode_bytes
from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.http.rates import Rates, TooMany

log = structlog.get_logger()
PROBLEMS = "https://ripeline.example/errors#"
STATUS = {  # docs/errors.md says of each what it means and how to mend it
    "invalid": 400, "no-identifier": 400, "reserved-type": 400, "form-token": 400, "key-form": 400,
    "unreadable-mail": 400, "own-mail": 400, "not-ours": 400, "bulk-mail": 400,
    "unauthorized": 401, "signature": 401, "stale": 401, "not-connected": 401, "forbidden": 403,
    "not-found": 404, "method": 405, "slow": 408, "replayed": 409, "too-large": 413,
    "media-type": 415,
    "too-many": 429, "headers": 431, "internal": 500, "away": 503, "spool-full": 503,
    "spool-share": 503,
}  # fmt: skip
SMALL_BODY = 64 * 1024  # bytes, for services that are asked questions
Readiness = Callable[[], dict[str, bool]]


def problem(reject: Reject, status: int | None = None) -> Response:
    """A refusal as `application/problem+json`: what, where, and how to mend it."""
    code = status or STATUS.get(reject.kind, 400)
    body = problem_of(reject) | {"status": code}
    headers = (
        {"Retry-After": "5"}
        if code == 503
        else {"WWW-Authenticate": "Bearer"}
        if code == 401
        else {}
    )
    answer = Response(encode_bytes(body), code, headers, "application/problem+json")
    if isinstance(reject, TooMany):
        answer.raw_headers += reject.headers
    return answer


def problem_of(reject: Reject) -> dict[str, object]:
    """The members of the problem document, without status."""
    return {
        "type": f"{PROBLEMS}{reject.kind}",
        "title": reject.title,
        "where": reject.where,
        "detail": reject.remedy or "See the documentation of the endpoint.",
    }


def create(
    title: str, readiness: Readiness, rates: Rates, *, max_body: int | None = None
) -> FastAPI:
    """An application with health, metrics and the handlers of refusals; a route may take more bytes
    than `max_body`.
    """
    app = FastAPI(
        title=title,
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        max_body_size=max_body,
    )

    @app.exception_handler(Reject)
    async def refused(request: Request, error: Reject) -> Response:
        return problem(rates.guessed(request, error))

    @app.exception_handler(Retry)
    async def away(_: Request, error: Retry) -> Response:
        return problem(
            Reject(
                str(error),
                remedy="Send the same again after the seconds in Retry-After",
                kind="away",
            )
        )

    @app.exception_handler(SQLAlchemyError)
    @app.exception_handler(OSError)
    async def database(request: Request, error: Exception) -> Response:
        if not is_transient(error):
            return await crashed(request, error)
        return problem(
            Reject(
                "the database is away",
                remedy="Ask again after the seconds in Retry-After",
                kind="away",
            )
        )

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem(Reject(first["msg"], where=where, remedy="Compare with /openapi.json"), 422)

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> Response:
        kind = {404: "not-found", 405: "method", 413: "too-large"}.get(error.status_code, "invalid")
        answer = problem(
            Reject(str(error.detail), remedy="Compare with /openapi.json", kind=kind),
            error.status_code,
        )
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def crashed(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, exc_info=error)
        return problem(
            Reject(
                "an error of ours",
                remedy="Send it again; if it stays, look into the log",
                kind="internal",
            )
        )

    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        """The process turns."""
        return {"status": "live"}

    @app.get("/health/ready", tags=["health"], response_model=None)
    async def ready() -> Response:
        """The service can do its work."""
        parts = readiness()
        code = 200 if all(parts.values()) else 503
        headers = {} if code == 200 else {"Retry-After": "1"}
        body = {"status": "ready" if code == 200 else "waiting", "parts": parts}
        return Response(encode_bytes(body), code, headers, "application/json")

    @app.get("/metrics", tags=["health"], response_model=None)
    async def metrics() -> Response:
        """Prometheus text."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app
