"""Reading hand-offs: lists and single ones with their history."""

import uuid

from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.handoffs.responses import HandoffResponse, HandoffsResponse
from services.scorer.handoffs.store import HandoffStore
from services.shared.clock import from_us, to_us
from services.shared.http.paging import Cursors, Position


class HandoffQueries:
    """Read access to hand-offs."""

    def __init__(self, engine: AsyncEngine, pepper: bytes) -> None:
        self._engine, self._cursors = engine, Cursors(pepper)

    async def page(self, status: str, owner: str, limit: int, cursor: str) -> HandoffsResponse:
        """Hand-offs of a status and an owner ('' for all), the oldest first. Raises Reject for a
        cursor of another list.
        """
        scope, after = f"handoffs {status} {owner}", None
        if cursor:
            position = self._cursors.decode(scope, cursor)
            after = from_us(int(position.value)), uuid.UUID(position.id)
        statuses = [status] if status else []
        async with self._engine.connect() as connection:
            page = await HandoffStore(connection).page(
                statuses=statuses, owner=owner, after=after, limit=limit
            )
        following = None
        if page.has_more:
            last = page.handoffs[-1]
            at = last.opened_at or last.detected_at
            following = self._cursors.encode(scope, Position(to_us(at), str(last.id)))
        return HandoffsResponse([HandoffResponse.of(each) for each in page.handoffs], following)

    async def one(self, handoff_id: uuid.UUID) -> HandoffResponse:
        """One hand-off with its history. Raises Reject `not-found`."""
        async with self._engine.connect() as connection:
            store = HandoffStore(connection)
            handoff = await store.get(handoff_id)
            steps = await store.steps(handoff_id)
        return HandoffResponse.of(handoff, steps)
