"""What came of touches: steps forward and refusals, from which the choice is learned."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.rules.comparison import Drawn
from services.nurture.rules.learned import Cell, Evidence, Outcomes
from services.nurture.store.snapshots import uuid_of, uuids
from services.shared.contracts.events import ConsentChanged
from services.shared.db import parsed, rows

WITHIN = timedelta(days=14)  # after a touch, a step forward or a refusal is one of its outcomes
REFUSAL_COST = 1.0  # in steps forward


class Progressed(NamedTuple):
    """A lead took a step forward by its own act."""

    lead: str
    product: str
    at: datetime


class OutcomeStore:
    """Outcomes within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def keep_progress(self, steps: Sequence[Progressed]) -> None:
        """Notes the first step forward after each touch; repetitions change nothing."""
        if steps:
            await self._connection.execute(
                parsed(_PROGRESS),
                {
                    "leads": uuids(step.lead for step in steps),
                    "products": [step.product for step in steps],
                    "times": [step.at for step in steps],
                    "within": WITHIN,
                },
            )

    async def keep_refusals(self, consents: Iterable[ConsentChanged]) -> None:
        """Notes the first refusal that answers each touch."""
        refused: dict[uuid.UUID, datetime] = {}
        for consent in consents:
            if consent.state == "withdrawn" and (touch := uuid_of(consent.touch)):
                refused[touch] = min(consent.at, refused.get(touch, consent.at))
        if refused:
            await self._connection.execute(
                parsed(_REFUSED), {"ids": [*refused], "times": [*refused.values()]}
            )

    async def evidence(self, now: datetime) -> Evidence:
        """What came of the touches whose time for it is over; requests are none."""
        found = await rows(self._connection, _EVIDENCE, before=now - WITHIN, within=WITHIN)
        by_item: dict[str, dict[Cell, Outcomes]] = defaultdict(dict)
        for row in found:
            reward = max(0.0, row.progressed - REFUSAL_COST * row.refused)
            by_item[row.content][Cell(row.stage, row.persona)] = Outcomes(row.sent, reward)
        return Evidence(by_item)

    async def drawn(self, program: str, now: datetime) -> list[Drawn]:
        """The touches of a program whose item was drawn, and whose time for outcomes is over."""
        found = await rows(
            self._connection, _DRAWN, program=program, before=now - WITHIN, within=WITHIN
        )
        return [
            Drawn(row.content, row.propensity, row.progressed - REFUSAL_COST * row.refused)
            for row in found
        ]


_DRAWN = """SELECT content, propensity, (progressed_at IS NOT NULL)::int AS progressed,
        coalesce(refused_at <= sent_at + CAST(:within AS interval), false)::int AS refused
    FROM nurture.touch WHERE program = :program AND status IN ('sent', 'unknown')
    AND sent_at <= :before AND propensity > 0 AND propensity < 1 ORDER BY id"""
_PROGRESS = """UPDATE nurture.touch t SET progressed_at = p.at FROM (
        SELECT s.id, min(a.at) AS at FROM nurture.touch s JOIN unnest(CAST(:leads AS uuid[]),
            CAST(:products AS text[]), CAST(:times AS timestamptz[])) AS a(lead_id, product, at)
        ON s.lead_id = a.lead_id AND s.product = a.product
        WHERE s.status IN ('sent', 'unknown') AND s.sent_at < a.at
        AND s.sent_at > a.at - CAST(:within AS interval) GROUP BY s.id) p
    WHERE t.id = p.id AND (t.progressed_at IS NULL OR t.progressed_at > p.at)"""
_REFUSED = """UPDATE nurture.touch t SET refused_at = r.at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:times AS timestamptz[])) AS r(id, at)
    WHERE t.id = r.id AND (t.refused_at IS NULL OR t.refused_at > r.at)"""
_EVIDENCE = """SELECT content, stage, persona, count(*) AS sent, count(progressed_at) AS progressed,
        count(*) FILTER (WHERE refused_at <= sent_at + CAST(:within AS interval)) AS refused
    FROM nurture.touch WHERE status IN ('sent', 'unknown') AND sent_at <= :before
    AND requested IS NOT TRUE AND content <> '' AND arm <> 'calendar'
    GROUP BY content, stage, persona"""
