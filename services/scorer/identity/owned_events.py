"""Stored events by the lead that has them: read some at a time, and given to others."""

import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.identity.rules import AFTER_ALL, BEFORE_ALL
from services.shared.db import rows

SLICE = 1000  # stored events in hand at once
BODY = ", received_at, body"


class Mover(Protocol):
    """Who is told of stored events that change hands."""

    async def begin(self, old: uuid.UUID, new: Collection[uuid.UUID]) -> bool:
        """Before events of one lead go to others; whether `pass_on` is wanted."""

    async def pass_on(self, old: uuid.UUID, moved: Sequence[tuple[Any, uuid.UUID]]) -> None:
        """Rows of events, with BODY, that have gone from one lead, and to whom."""

    async def end(self, old: uuid.UUID) -> None:
        """When all have gone."""


class OwnedEvents:
    """The stored events of leads that this transaction has locked."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def of(
        self,
        lead: uuid.UUID,
        nodes: Sequence[int],
        since: int = BEFORE_ALL,
        until: int = AFTER_ALL,
        *,
        more: str = "",
    ) -> AsyncIterator[Sequence[Any]]:
        """A lead's events under these identifiers, of the instants from `since` to before `until`
        (µs), some at a time in the order of the fold: `uid`, `occurred_at`, `anchor`, and more
        columns. They may be given away meanwhile.
        """
        at, uid = since, uuid.UUID(int=0)
        while stored := await rows(
            self._connection,
            # a subquery under IS TRUE is no join: PostgreSQL looks its rows up in a hash table
            f"SELECT uid, occurred_at, anchor{more} FROM scorer.event WHERE lead_id = :lead "
            "AND (anchor IN (SELECT unnest(CAST(:nodes AS bigint[])))) IS TRUE "
            "AND (occurred_at, uid) > (:at, :uid) AND occurred_at < :until "
            "ORDER BY occurred_at, uid LIMIT :slice",
            lead=lead, nodes=nodes, at=at, uid=uid, until=until, slice=SLICE,
        ):  # fmt: skip
            yield stored
            at, uid = stored[-1].occurred_at, stored[-1].uid

    async def give(self, moved: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> None:
        """Gives events, by their ids, to leads."""
        if moved:
            await self._connection.execute(
                text(
                    "UPDATE scorer.event e SET lead_id = n.lead FROM unnest(CAST(:uids AS uuid[]), "
                    "CAST(:leads AS uuid[])) AS n(uid, lead) WHERE e.uid = n.uid"
                ),
                {"uids": [uid for uid, _ in moved], "leads": [lead for _, lead in moved]},
            )
