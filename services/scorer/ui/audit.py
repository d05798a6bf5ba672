"""The page of the audit log, and its CSV."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.ui.frame import Frame
from services.scorer.ui.rendering import HEADERS
from services.shared.errors import Reject
from services.shared.http.acting import only
from services.shared.http.parameters import NO_NUL
from services.shared.people.audit import ACTIONS, MAX_NAME
from services.shared.people.audit_log import AuditFilter, as_csv, lines

PER_PAGE = 50
ADMIN = only("admin")


class Asked(BaseModel):
    """Which lines; days are days of UTC, both included."""

    actor: str = Field("", max_length=MAX_NAME, pattern=NO_NUL)
    action: str = Field("", max_length=MAX_NAME, pattern=NO_NUL)
    subject: str = Field("", max_length=MAX_NAME, pattern=NO_NUL)
    since: str = Field("", max_length=10)
    until: str = Field("", max_length=10)

    def filter(self) -> AuditFilter:
        """The filter. Raises Reject for a day that is none."""
        last = _day(self.until)
        return AuditFilter(
            self.actor.strip(), self.action, self.subject.strip(), _day(self.since),
            last and last + timedelta(days=1),
        )  # fmt: skip


class AskedPage(Asked):
    """Which lines, and those before which."""

    before: int | None = Field(None, ge=1, le=2**62)


class AuditRoutes:
    """Who did what, newest first."""

    def __init__(self, engine: AsyncEngine, frame: Frame) -> None:
        self._engine, self._frame = engine, frame

    def add_to(self, router: APIRouter) -> None:
        """Adds the routes."""
        router.add_api_route("/audit", self.audit, dependencies=[ADMIN])
        router.add_api_route("/audit.csv", self.table, dependencies=[ADMIN])

    async def audit(self, asked: Annotated[AskedPage, Query()]) -> Response:
        """A page of lines."""
        async with self._engine.connect() as connection:
            found = await lines(connection, asked.filter(), PER_PAGE + 1, asked.before)
        shown = found[:PER_PAGE]
        return self._frame.page(
            "audit.html",
            here="audit",
            lines=shown,
            actions=ACTIONS,
            given=asked.model_dump(exclude={"before"}),
            before=asked.before,
            following=shown[-1].id if len(found) > PER_PAGE else None,
        )

    async def table(self, asked: Annotated[Asked, Query()]) -> Response:
        """The newest lines as CSV."""
        return StreamingResponse(
            as_csv(self._engine, asked.filter()),
            headers=HEADERS | {"Content-Disposition": 'attachment; filename="audit.csv"'},
            media_type="text/csv; charset=utf-8",
        )


def _day(text: str) -> datetime | None:
    """When a day begins. Raises Reject."""
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
        if not 1900 <= day.year < 2200:
            raise ValueError
    except ValueError:
        raise Reject(
            "no such day", where="since, until", remedy="write it like 2026-01-31"
        ) from None
    return datetime.combine(day, time(), UTC)
