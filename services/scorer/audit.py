"""HTTP of the audit log: in pages, and as CSV."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from services.scorer.dependencies import QUERY_KEY, BackendDep, Period
from services.shared.http.paging import MAX_CURSOR, Position
from services.shared.http.parameters import NO_NUL
from services.shared.http.problems import refusals
from services.shared.http.responses import documented, json_response
from services.shared.people.audit import MAX_NAME, Action
from services.shared.people.audit_log import AuditFilter, AuditLine, as_csv, lines

router = APIRouter(
    prefix="/v1",
    tags=["audit"],
    dependencies=QUERY_KEY,
    generate_unique_id_function=lambda route: route.name,
    responses=refusals(400, 401, 403, 422, 429, 503),
)


class CsvResponse(StreamingResponse):
    """A table as it is read."""

    media_type = "text/csv; charset=utf-8"


class AuditResponse(msgspec.Struct, frozen=True):
    """A page of lines, newest first; `next` is the cursor of the following page, null on the
    last.
    """

    audit: list[AuditLine]
    next: str | None


EXAMPLE = AuditResponse(
    audit=[
        AuditLine(
            id=4711, at="2026-11-02T09:14:31Z", actor_kind="person",
            actor_id="0f0d5f5e-6f0f-4f0e-9d4e-2a1f1f6f3c11", actor="Anna Berg", action="brake",
            subject="sending", details={"to": "on"},
        )
    ],
    next=None,
)  # fmt: skip
CSV_CONTENT = {
    CsvResponse.media_type: {
        "schema": {"type": "string"},
        "example": "id,at,actor_kind,actor_id,actor,action,subject,details\r\n",
    }
}
RESPONSES: list[type[msgspec.Struct]] = [AuditResponse]


class AuditParameters(Period):
    """Which lines are asked for."""

    actor: str = Field(
        "", max_length=MAX_NAME, pattern=NO_NUL, description="a name as lines show it, or an id"
    )
    action: Action | None = None
    subject: str = Field(
        "", max_length=MAX_NAME, pattern=NO_NUL, description="a whole subject, or its kind: `lead`"
    )

    def filter(self) -> AuditFilter:
        """The filter. Raises Reject for a time that is none."""
        return AuditFilter(self.actor, self.action or "", self.subject, *self.times())


class AuditPage(AuditParameters):
    """Which lines are asked for, and which page of them."""

    limit: int = Field(100, ge=1, le=1000)
    cursor: str = Field("", max_length=MAX_CURSOR)


@router.get("/audit", responses=documented(200, "A page of lines", EXAMPLE))
async def list_audit(backend: BackendDep, asked: Annotated[AuditPage, Query()]) -> Response:
    """Who did what, newest first; pass `next` as `cursor` for the following page."""
    wanted = asked.filter()
    scope = f"audit {wanted}"
    before = int(backend.cursors.decode(scope, asked.cursor).value) if asked.cursor else None
    async with backend.engine.connect() as connection:
        found = await lines(connection, wanted, asked.limit + 1, before)
    shown, following = found[: asked.limit], None
    if len(found) > asked.limit:
        following = backend.cursors.encode(scope, Position(shown[-1].id, ""))
    return json_response(AuditResponse(shown, following))


@router.get(
    "/audit.csv",
    response_class=CsvResponse,
    responses={200: {"description": "The newest lines", "content": CSV_CONTENT}},
)
async def audit_table(backend: BackendDep, asked: Annotated[AuditParameters, Query()]) -> Response:
    """The same as a table, the newest 100,000 lines at most."""
    return CsvResponse(as_csv(backend.engine, asked.filter()))
