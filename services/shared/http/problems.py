"""Refusals on the wire: problem documents (RFC 9457), and how OpenAPI documents describe them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from fastapi import Response

from services.shared.contracts.events import encode_bytes
from services.shared.errors import Kind, Reject
from services.shared.http.rates import TooManyRequests

TYPES = "https://ripeline.example/errors#"  # with the kind: a heading of docs/errors.md
MEDIA = "application/problem+json"
RETRY_AFTER_S = 5
STATUS: Mapping[Kind, int] = {
    "invalid": 400, "no-identifier": 400, "reserved-type": 400, "form-token": 400, "key-form": 400,
    "unreadable-mail": 400, "own-mail": 400, "not-ours": 400, "bulk-mail": 400,
    "unauthorized": 401, "signature": 401, "stale": 401, "not-connected": 401, "forbidden": 403,
    "not-found": 404, "method": 405, "slow": 408, "replayed": 409, "conflict": 409,
    "too-large": 413, "media-type": 415, "too-many": 429,
    "headers": 431, "internal": 500, "lead-unreadable": 500, "away": 503,
    "spool-full": 503, "spool-share": 503,
}  # fmt: skip


class Problem(msgspec.Struct, frozen=True):
    """A refusal: what it is, where, and how to mend it."""

    type: str
    title: str
    where: str
    detail: str
    status: int


def problem_of(reject: Reject, status: int | None = None) -> Problem:
    """The problem document of a refusal; with the status of its kind unless another is given."""
    return Problem(
        TYPES + reject.kind,
        reject.title,
        reject.where,
        reject.remedy or "See the documentation of the endpoint.",
        status or STATUS[reject.kind],
    )


def problem_response(reject: Reject, status: int | None = None) -> Response:
    """The answer to a refused request."""
    problem = problem_of(reject, status)
    headers = {}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    elif reject.kind == "method":
        headers["Allow"] = "POST"
    elif problem.status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    response = Response(encode_bytes(problem), problem.status, headers, MEDIA)
    if isinstance(reject, TooManyRequests):
        response.raw_headers += reject.headers
    return response


# -- in OpenAPI documents -------------------------------------------------------------------------


class _Documented(NamedTuple):
    """What a status means, and an example of its problem document."""

    meaning: str
    kind: Kind
    title: str
    where: str
    detail: str


_DOCUMENTED: Mapping[int, _Documented] = {
    400: _Documented(
        "Something cannot be read as what it should be",
        "invalid", "not RFC 3339", "at", "write 2026-01-02T03:04:05Z",
    ),
    401: _Documented(
        "No key, or none that is in force",
        "unauthorized", "the API key is missing or not valid", "Authorization",
        "send `Authorization: Bearer rl_<id>_<secret>` with a key that is in force",
    ),
    403: _Documented(
        "The key or the origin may not do this",
        "forbidden", "a key of scope 'public' may not do this", "Authorization",
        "use a key of scope query",
    ),
    404: _Documented(
        "There is nothing under this address",
        "not-found", "Not Found", "", "Compare with /openapi.json",
    ),
    405: _Documented(
        "Another method is wanted",
        "method", "Method Not Allowed", "", "Compare with /openapi.json",
    ),
    408: _Documented(
        "The request came too slowly",
        "slow", "the request came too slowly", "", "send it again, in one go",
    ),
    409: _Documented(
        "It was received already, or contradicts what was said before",
        "replayed", "this request was received already", "", "send every event once",
    ),
    413: _Documented(
        "The body is too large",
        "too-large", "the body is over 5 MB", "body", "send at most 5 MB at once, unzipped",
    ),
    415: _Documented(
        "Another content type is wanted",
        "media-type", "content type 'text/csv'", "Content-Type", "use one of application/json",
    ),
    422: _Documented(
        "A parameter is not what it should be",
        "invalid", "Input should be less than or equal to 500", "query.limit",
        "Compare with /openapi.json",
    ),
    429: _Documented(
        "Too many requests; Retry-After says when to send again",
        "too-many", "too many requests of this key", "",
        "send it again after the seconds in Retry-After",
    ),
    431: _Documented(
        "The headers are too large",
        "headers", "there is too much around the body", "", "send fewer headers",
    ),
    500: _Documented(
        "An error of ours",
        "internal", "an error of ours", "", "Send it again; if it stays, look into the log",
    ),
    503: _Documented(
        "Not now; Retry-After says when to send again",
        "away", "the database is away", "", "Ask again after the seconds in Retry-After",
    ),
}  # fmt: skip
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
_SCHEMAS = msgspec.json.schema_components([Problem], ref_template="#/components/schemas/{name}")[1]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What to pass as `responses` of a route that may refuse with these statuses. A route with
    parameters names 422, or FastAPI describes an answer that we never give.
    """
    return {status: _response(status) for status in statuses}


def _response(status: int) -> dict[str, Any]:
    meaning, kind, title, where, detail = _DOCUMENTED[status]
    content = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "example": msgspec.to_builtins(Problem(TYPES + kind, title, where, detail, status)),
    }
    response: dict[str, Any] = {"description": meaning, "content": {MEDIA: content}}
    return response | ({"headers": _RETRY_AFTER} if status in (429, 503) else {})


def add_schemas(document: dict[str, Any]) -> None:
    """Adds the schema that `refusals` refer to."""
    document.setdefault("components", {}).setdefault("schemas", {}).update(_SCHEMAS)
