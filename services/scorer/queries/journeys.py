"""The journeys of all leads, read from their stored events."""

import uuid

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.reports.journeys import UNKNOWN_SOURCE, Journeys
from services.shared.clock import DAY
from services.shared.db import rows, without_limits

# what a body says is looked for as text first: to read all of them as JSON takes ten times as long
_JOURNEYS = """
SELECT e.lead_id, min(e.occurred_at) AS began,
    min(e.occurred_at) FILTER (WHERE e.body LIKE :outcome_text
        AND e.body::json ->> 'type' = :outcome) AS reached,
    (array_agg(e.body::json ->> 'source' ORDER BY e.occurred_at, e.uid)
        FILTER (WHERE e.body LIKE '%"source":%' AND e.body::json ->> 'source' <> ''))[1] AS source,
    sum(CAST(e.body::json ->> 'cost' AS float8)) FILTER (WHERE e.body LIKE '%"cost":%'
        AND json_typeof(e.body::json -> 'cost') = 'number') AS cost
FROM scorer.event e JOIN scorer.lead l ON l.id = e.lead_id
WHERE e.source <> 'nurture' AND e.occurred_at <= :now
AND l.merged_into IS NULL AND NOT l.provisional AND l.excluded = ''
GROUP BY e.lead_id ORDER BY e.lead_id
"""

_SOURCES = """
SELECT DISTINCT ON (e.lead_id) e.lead_id, e.body::json ->> 'source' AS source
FROM scorer.event e JOIN scorer.entry n USING (lead_id) WHERE e.source <> 'nurture'
AND e.body LIKE '%"source":%' AND e.body::json ->> 'source' <> ''
ORDER BY e.lead_id, e.occurred_at, e.uid
"""


async def read_journeys(connection: AsyncConnection, outcome: str, now: int) -> Journeys:
    """All leads up to `now` (µs), from their first event to the first of the type `outcome`; a
    visitor who is nobody yet and who is no lead by the playbook's rules are left out. Costs are the
    sum of those that a lead's events name.
    """
    await without_limits(connection)
    found = await rows(
        connection, _JOURNEYS, outcome=outcome, outcome_text=f'%"type":"{_literal(outcome)}"%',
        now=now,
    )  # fmt: skip
    names = sorted({row.source or UNKNOWN_SOURCE for row in found})
    place = {name: number for number, name in enumerate(names)}
    return Journeys(
        np.array([row.began / DAY for row in found]),
        np.array([np.nan if row.reached is None else row.reached / DAY for row in found]),
        np.array([place[row.source or UNKNOWN_SOURCE] for row in found], np.int64),
        names,
        np.array([np.nan if row.cost is None else row.cost for row in found]),
        now / DAY,
    )


async def sources_of_entered(connection: AsyncConnection) -> dict[uuid.UUID, str]:
    """The first source that the events of each lead name which could be nurtured; of a lead that
    has none, nothing.
    """
    return {row.lead_id: row.source for row in await rows(connection, _SOURCES)}


def _literal(text: str) -> str:
    """The text within a pattern of LIKE."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
