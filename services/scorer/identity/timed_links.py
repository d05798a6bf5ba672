"""When each anonymous id whose events are divided by time was seen with whom, in the database.

Of such an id all links are there, or none where it has not been divided since the table was made;
of other ids there are none.
"""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.identity.rules import TimedLink
from services.shared.db import rows

# the first link of all; by instant the last one up to it, and the first one after it
AROUND = """
WITH near AS (
    (SELECT at, uid, strong FROM scorer.timed_link WHERE weak = :node ORDER BY at, uid LIMIT 1)
    UNION
    SELECT l.* FROM unnest(CAST(:moments AS bigint[])) AS m(at) CROSS JOIN LATERAL (
        (SELECT at, uid, strong FROM scorer.timed_link WHERE weak = :node AND at <= m.at
        ORDER BY at DESC, uid DESC LIMIT 1)
        UNION ALL
        (SELECT at, uid, strong FROM scorer.timed_link WHERE weak = :node AND at > m.at
        ORDER BY at, uid LIMIT 1)
    ) AS l
)
SELECT near.at, near.uid, i.lead_id FROM near JOIN scorer.identifier i ON i.id = near.strong
"""


class SeenWith(NamedTuple):
    """An event, by instant (µs) and id, that links an anonymous id to a stronger identifier, by
    the number of its row.
    """

    at: int
    uid: uuid.UUID
    strong: int


class TimedLinks:
    """The links of divided ids, inside one transaction that has locked their leads."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def around(self, node: int, moments: Iterable[int]) -> list[TimedLink]:
        """The links that decide who is nearest at these instants (µs), the first ones after them,
        and the first of all, in order; none of an id that has none.
        """
        found = await rows(self._connection, AROUND, node=node, moments=sorted(set(moments)))
        return sorted(TimedLink(row.at, row.uid.hex, row.lead_id) for row in found)

    async def change(
        self, node: int, removed: Sequence[SeenWith], added: Sequence[SeenWith]
    ) -> None:
        """Takes out the links of superseded events and adds those of new ones."""
        if removed:
            await self._run(
                "DELETE FROM scorer.timed_link WHERE weak = :node AND (at, uid) IN "
                "(SELECT * FROM unnest(CAST(:at AS bigint[]), CAST(:uids AS uuid[])))",
                node=node,
                at=[link.at for link in removed],
                uids=[link.uid for link in removed],
            )
        if added:
            await self._run(
                "INSERT INTO scorer.timed_link (weak, at, uid, strong) SELECT :node, * FROM "
                "unnest(CAST(:at AS bigint[]), CAST(:uids AS uuid[]), CAST(:strong AS bigint[]))",
                node=node,
                at=[link.at for link in added],
                uids=[link.uid for link in added],
                strong=[link.strong for link in added],
            )

    async def renew(self, node: int, leads: Iterable[uuid.UUID], added: Sequence[SeenWith]) -> None:
        """Makes an id's links from the stored events of these leads and the new ones."""
        await self.forget([node])
        await self._run(
            "INSERT INTO scorer.timed_link (weak, at, uid, strong) "
            "SELECT :node, occurred_at, uid, anchor FROM scorer.event "
            "WHERE lead_id = ANY(:leads) AND weaker @> ARRAY[CAST(:node AS bigint)]",
            node=node,
            leads=sorted(leads),
        )
        await self.change(node, [], added)

    async def forget(self, nodes: Iterable[int]) -> None:
        """Takes out the links of ids that are divided no more."""
        await self._run(
            "DELETE FROM scorer.timed_link WHERE weak = ANY(:nodes)", nodes=sorted(nodes)
        )

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(text(statement), values)
