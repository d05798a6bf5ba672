"""When each anonymous id that several people share was seen with whom, in the database.

There are rows of those ids alone whose events are split by time; whose a link is the event says.
"""

import uuid
from collections.abc import Iterable, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.identity.rules import TimedLink
from services.shared.db import rows, value

# of each instant the last link up to it, and the first one after it
AROUND = """
SELECT n.at, n.uid, e.lead_id FROM (
    SELECT DISTINCT near.at, near.uid FROM unnest(CAST(:moments AS bigint[])) AS m(at)
    CROSS JOIN LATERAL (
        (SELECT at, uid FROM scorer.timed_link WHERE weak = :node AND at <= m.at
        ORDER BY at DESC, uid DESC LIMIT 1)
        UNION ALL
        (SELECT at, uid FROM scorer.timed_link WHERE weak = :node AND at > m.at
        ORDER BY at, uid LIMIT 1)
    ) AS near
) AS n JOIN scorer.event e ON e.uid = n.uid
"""


class TimedLinks:
    """The stored links of split ids, inside one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def are_known(self, node: int) -> bool:
        """Whether there are any: none of an id that was never split."""
        found = await value(
            self._connection,
            "SELECT 1 FROM scorer.timed_link WHERE weak = :node LIMIT 1",
            node=node,
        )
        return found is not None

    async def renew(self, node: int, leads: Iterable[uuid.UUID]) -> None:
        """Makes them from the stored events of these leads."""
        await self._connection.execute(
            text("DELETE FROM scorer.timed_link WHERE weak = :node"), {"node": node}
        )
        await self._connection.execute(
            text(
                "INSERT INTO scorer.timed_link (weak, at, uid) SELECT :node, occurred_at, uid "
                "FROM scorer.event WHERE lead_id = ANY(:leads) "
                "AND weaker @> ARRAY[CAST(:node AS bigint)]"
            ),
            {"node": node, "leads": sorted(leads)},
        )

    async def add(self, node: int, links: Sequence[TimedLink]) -> None:
        """Adds those of new events."""
        if links:
            await self._connection.execute(
                text(
                    "INSERT INTO scorer.timed_link (weak, at, uid) SELECT :node, * "
                    "FROM unnest(CAST(:at AS bigint[]), CAST(:uids AS uuid[])) "
                    "ON CONFLICT DO NOTHING"
                ),
                {
                    "node": node,
                    "at": [link.at for link in links],
                    "uids": [uuid.UUID(link.uid) for link in links],
                },
            )

    async def around(self, node: int, moments: Iterable[int]) -> list[TimedLink]:
        """The stored links that decide who is nearest at these instants (µs), and the first ones
        after them, in order.
        """
        found = await rows(self._connection, AROUND, node=node, moments=sorted(set(moments)))
        return sorted(TimedLink(row.at, row.uid.hex, row.lead_id) for row in found)
