"""The page of the audit log, and its CSV."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.ui.frame import Frame
from services.scorer.ui.rendering import HEADERS
from services.shared.errors import Reject
from services.shared.http.acting import only
from services.shared.people.audit import ACTIONS, MAX_NAME
from services.shared.people.audit_log import AuditFilter, as_csv, lines

PER_PAGE = 50
ADMIN = only("admin")
Word = Annotated[str, Query(max_length=MAX_NAME, pattern=r"^[^\x00]*$")]
Day = Annotated[str, Query(max_length=10)]


class AuditRoutes:
    """Who did what, newest first."""

    def __init__(self, engine: AsyncEngine, frame: Frame) -> None:
        self._engine, self._frame = engine, frame

    def add_to(self, router: APIRouter) -> None:
        """Adds the routes."""
        router.add_api_route("/audit", self.audit, dependencies=[ADMIN])
        router.add_api_route("/audit.csv", self.table, dependencies=[ADMIN])

    async def audit(
        self,
        actor: Word = "",
        action: Word = "",
        subject: Word = "",
        since: Day = "",
        until: Day = "",
        before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    ) -> Response:
        """A page of lines."""
        asked = _filter(actor, action, subject, since, until)
        async with self._engine.connect() as connection:
            found = await lines(connection, asked, PER_PAGE + 1, before)
        shown = found[:PER_PAGE]
        given = {
            "actor": actor, "action": action, "subject": subject, "since": since, "until": until,
        }  # fmt: skip
        return self._frame.page(
            "audit.html",
            here="audit",
            lines=shown,
            actions=ACTIONS,
            given=given,
            before=before,
            following=shown[-1].id if len(found) > PER_PAGE else None,
        )

    async def table(
        self,
        actor: Word = "",
        action: Word = "",
        subject: Word = "",
        since: Day = "",
        until: Day = "",
    ) -> Response:
        """The newest lines as CSV."""
        asked = _filter(actor, action, subject, since, until)
        return StreamingResponse(
            as_csv(self._engine, asked),
            headers=HEADERS | {"Content-Disposition": 'attachment; filename="audit.csv"'},
            media_type="text/csv; charset=utf-8",
        )


def _filter(actor: str, action: str, subject: str, since: str, until: str) -> AuditFilter:
    """Days are days of UTC, both included."""
    last = _day(until)
    return AuditFilter(
        actor.strip(), action, subject.strip(), _day(since), last and last + timedelta(days=1)
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
