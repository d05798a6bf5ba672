"""Reads the audit log: in pages, newest first, and as CSV."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.shared.clock import rfc3339
from services.shared.db import rows
from services.shared.spreadsheet import csv_of

CSV_PAGE, CSV_MOST = 1_000, 100_000  # lines read at once, and of a file
COLUMNS = ("id", "at", "actor_kind", "actor_id", "actor", "action", "subject", "details")


class AuditFilter(NamedTuple):
    """Which lines: `actor` is a name as lines show it or an id, `subject` a whole subject or its
    kind; from `since` on and before `until`.
    """

    actor: str = ""
    action: str = ""
    subject: str = ""
    since: datetime | None = None
    until: datetime | None = None


class AuditLine(msgspec.Struct, frozen=True):
    """Who did what to what."""

    id: int
    at: str
    actor_kind: str
    actor_id: str
    actor: str
    action: str
    subject: str
    details: dict[str, Any]


async def lines(
    connection: AsyncConnection, asked: AuditFilter, limit: int, before: int | None = None
) -> list[AuditLine]:
    """The newest lines, or those before the line of an id."""
    wanted = {
        name: value for name, value in (asked._asdict() | {"before": before}).items() if value
    }
    where = " AND ".join(_CONDITIONS[name] for name in wanted) or "true"
    found = await rows(
        connection,
        f"SELECT {', '.join(COLUMNS)} FROM access.audit WHERE {where} "
        "ORDER BY id DESC LIMIT :limit",
        limit=limit,
        **wanted,
    )
    return [AuditLine(row.id, rfc3339(row.at), *row[2:]) for row in found]


async def as_csv(engine: AsyncEngine, asked: AuditFilter) -> AsyncIterator[str]:
    """The newest CSV_MOST lines as parts of a CSV file with a header."""
    yield csv_of([COLUMNS])
    before, written = None, 0
    while written < CSV_MOST:
        async with engine.connect() as connection:
            found = await lines(connection, asked, CSV_PAGE, before)
        if found:
            yield csv_of([_cells(line) for line in found])
            before, written = found[-1].id, written + len(found)
        if len(found) < CSV_PAGE:
            return


def _cells(line: AuditLine) -> list[str]:
    details = msgspec.json.encode(line.details).decode()
    cells = (
        line.id, line.at, line.actor_kind, line.actor_id, line.actor, line.action, line.subject,
        details,
    )  # fmt: skip
    return [str(cell) for cell in cells]


_CONDITIONS = {
    "actor": "(actor = :actor OR actor_id = :actor)",
    "action": "action = :action",
    "subject": "(subject = :subject OR starts_with(subject, :subject || ' '))",
    "since": "at >= :since",
    "until": "at < :until",
    "before": "id < :before",
}
