"""How much is asked of the API, by day and key."""

import asyncio
import time
from collections import Counter
from datetime import UTC, date, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.db import is_transient

WRITE_S = 10.0  # between two writes; what was counted since is lost with the process


class QueryUse:
    """Counts queries, and writes the counts now and then."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._counts: Counter[tuple[date, str]] = Counter()
        self._next, self._lock = 0.0, asyncio.Lock()
        self._writing: asyncio.Task[None] | None = None

    def count(self, key_id: str) -> None:
        """Counts a query by a key."""
        self._counts[datetime.now(UTC).date(), key_id] += 1
        if time.monotonic() >= self._next and (self._writing is None or self._writing.done()):
            self._next = time.monotonic() + WRITE_S
            self._writing = asyncio.create_task(self.write())

    async def write(self) -> None:
        """Adds what was counted to the table; while the database is away it is kept."""
        async with self._lock:
            counts, self._counts = self._counts, Counter()
            if not counts:
                return
            columns = {
                "days": [day for day, _ in counts],
                "keys": [key for _, key in counts],
                "numbers": [*counts.values()],
            }
            try:
                async with self._engine.begin() as connection:
                    await connection.execute(text(_ADD), columns)
            except Exception as error:
                self._counts += counts
                if not is_transient(error):
                    raise


_ADD = """INSERT INTO scorer.query_use AS u (day, key_id, queries) SELECT * FROM unnest(
    CAST(:days AS date[]), CAST(:keys AS text[]), CAST(:numbers AS bigint[]))
    ON CONFLICT (day, key_id) DO UPDATE SET queries = u.queries + excluded.queries"""
