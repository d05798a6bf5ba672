"""The application that every service's HTTP begins with: health routes, and refusals as problem
documents.
"""

from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from services.shared.db import is_transient
from services.shared.errors import Kind, Reject, Retry
from services.shared.http import health, problems
from services.shared.http.problems import problem_response
from services.shared.http.rates import RateLimits
from services.shared.http.schemas import mend

log = structlog.get_logger()
SMALL_BODY = 64 * 1024  # bytes, for services that are asked questions
Readiness = health.Readiness
KIND_OF_STATUS: dict[int, Kind] = {404: "not-found", 405: "method", 413: "too-large"}
COMPARE = "Compare with /openapi.json"


class Application(FastAPI):
    """An application whose OpenAPI document holds the schema of problem documents."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        problems.add_schemas(document)
        mend(document)
        return document


def create(
    title: str, readiness: Readiness, rates: RateLimits, *, max_body: int | None = None
) -> FastAPI:
    """An application with health, metrics and the handlers of refusals; a route may take more bytes
    than `max_body`.
    """
    app = Application(
        title=title,
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        max_body_size=max_body,
    )

    @app.exception_handler(Reject)
    async def rejected(request: Request, error: Reject) -> Response:
        return problem_response(rates.limit_guessing(request, error))

    app.exception_handler(Retry)(_retry)
    app.exception_handler(SQLAlchemyError)(_database)
    app.exception_handler(OSError)(_database)
    app.exception_handler(RequestValidationError)(_malformed)
    app.exception_handler(HTTPException)(_http)
    app.exception_handler(Exception)(_crashed)
    app.include_router(health.routes(readiness))
    return app


async def _retry(_: Request, error: Retry) -> Response:
    remedy = "Send the same again after the seconds in Retry-After"
    return problem_response(Reject(str(error), remedy=remedy, kind="away"))


async def _database(request: Request, error: Exception) -> Response:
    if not is_transient(error):
        return await _crashed(request, error)
    remedy = "Ask again after the seconds in Retry-After"
    return problem_response(Reject("the database is away", remedy=remedy, kind="away"))


async def _malformed(_: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return problem_response(Reject(first["msg"], where=where, remedy=COMPARE), 422)


async def _http(request: Request, error: HTTPException) -> Response:
    kind = KIND_OF_STATUS.get(error.status_code, "invalid")
    reject = Reject(str(error.detail), remedy=COMPARE, kind=kind)
    response = problem_response(reject, error.status_code)
    response.headers.update(error.headers or {})
    if error.status_code == 405 and "allow" in response.headers:
        response.headers["Allow"] = _described_methods(request) or response.headers["Allow"]
    return response


def _described_methods(request: Request) -> str:
    """The methods that the document has of an address; '' for one that it has not."""
    route = request.scope.get("route")
    path = getattr(route, "path", request.scope["path"])
    operations = request.app.openapi()["paths"].get(path, {})
    return ", ".join(method.upper() for method in operations)


async def _crashed(request: Request, error: Exception) -> Response:
    log.error("request_failed", path=request.url.path, exc_info=error)
    remedy = "Send it again; if it stays, look into the log"
    return problem_response(Reject("an error of ours", remedy=remedy, kind="internal"))
