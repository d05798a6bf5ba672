"""What the audit log says of imports that come from elsewhere."""

import asyncio
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest.sources.contract import InboundRequest
from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.http.keys import ApiKey
from services.shared.people.audit import Actor, record

COUNTS = ("rows", "accepted", "rejected")
MOST = 1_000  # imports under way that are remembered
MAX_ID = 64  # characters of the id that an importer gives its import
MAX_DIGITS = 12


class ImportLog:
    """Notes each import when it begins and, where its importer says so, when it ends. A request
    that names no import is one of its own.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._begun: dict[tuple[str, str], None] = {}
        self._noting = asyncio.Lock()

    async def note(self, key: ApiKey, inbound: InboundRequest, items: int) -> None:
        """Before the items of a request are published. Raises Reject for what cannot be read, Retry
        while the database is away.
        """
        query = inbound.query
        run, counts = query.get("import", "")[:MAX_ID], _counts(query)
        async with self._noting:  # the batches of an import come side by side
            if counts or (key.id, run) not in self._begun:
                await self._note(key, inbound, items, run, counts)

    async def _note(
        self, key: ApiKey, inbound: InboundRequest, items: int, run: str, counts: dict[str, int]
    ) -> None:
        query = inbound.query
        details: dict[str, str | int] = {"as": query.get("as", "history")}
        if "days" in query:
            details["days"] = int(query["days"])
        if run:
            details["import"] = _plain(run)
        else:
            details["items"] = items
        file = _plain(query.get("file", ""))
        subject = f"file {file}" if file else "events"
        try:
            async with self._engine.begin() as connection:
                actor = Actor("key", key.id, key.name)
                await record(connection, actor, "import", subject, details | counts)
        except Exception as error:
            if not is_transient(error):
                raise
            raise Retry("the database is away, so that the import cannot be noted") from error
        if run:
            self._begun[key.id, run] = None
            if len(self._begun) > MOST:
                del self._begun[next(iter(self._begun))]


def is_end(inbound: InboundRequest) -> bool:
    """Whether a request brings nothing but how many rows there were."""
    return inbound.body.strip() == b"[]" and any(name in inbound.query for name in COUNTS)


def _counts(query: Mapping[str, str]) -> dict[str, int]:
    found = {name: query[name] for name in COUNTS if name in query}
    for name, count in found.items():
        if not (count.isascii() and count.isdecimal() and len(count) <= MAX_DIGITS):
            raise Reject("not a number of rows", where=f"?{name}", remedy="write a whole number")
    return {name: int(count) for name, count in found.items()}


def _plain(text: str) -> str:
    """As PostgreSQL stores it."""
    return text.replace("\0", "")
