"""Identity in the database: plans whose a batch's events are, and writes links, owners and moved
events.
"""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.identity.neighbourhood import Neighbourhood, link_columns, new_lead_ids
from services.scorer.identity.owned_events import BODY, Mover, OwnedEvents
from services.scorer.identity.resolver import Move, Plan, decide, verdicts_of
from services.scorer.identity.rules import Node
from services.scorer.model.profile import Profile
from services.scorer.records import IncomingEvent, StoredEvent

EMPTY_PROFILE = msgspec.msgpack.encode(Profile())


class IdentityResolver:
    """Identity resolution inside one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._read, self._events = Neighbourhood(connection), OwnedEvents(connection)
        self._new_leads: dict[int, uuid.UUID] = {}  # by node: a repeated plan gives the same ids

    async def plan(
        self, events: Sequence[IncomingEvent], superseded: Sequence[StoredEvent]
    ) -> Plan:
        """Decides for the batch, locking nothing: call again after locking `leads`, until they are
        all locked or created.
        """
        nodes = await self._read.nodes(events)
        plan = Plan(nodes, created=self._read.created, made=self._read.made)
        numbers = plan.numbers
        links = {
            (numbers[weak], numbers[event.strongest]) for event in events for weak in event.linked
        }
        plan.new_links = links - await self._read.known_links(links)
        plan.dropped_links = await self._read.unsupported(superseded) - links
        # also where others still hold a superseded event's link: it may have been the nearest
        unlinked = {weak for event in superseded for weak in event.linked}
        undecided = {weak for weak, _ in plan.new_links} | unlinked
        undecided |= {node.id for node in plan.nodes.values() if node.lead is None}
        undecided -= self._read.decided
        plan.verdicts = verdicts_of(events, plan.nodes)
        plan.superseded = {event.uid for event in superseded}
        judged = await self._read.judged(plan)
        if undecided | judged:
            undecided = await self._read.load_graph(plan, undecided, judged)
            decide(plan, undecided, self._new_lead)
        plan.leads |= {node.lead for node in plan.nodes.values() if node.lead}
        plan.leads |= {event.lead for event in superseded}
        return plan

    def _new_lead(self, node: Node) -> uuid.UUID:
        return self._new_leads.setdefault(node.id, new_lead_ids(1)[0])

    async def apply(self, plan: Plan, mover: Mover) -> set[uuid.UUID]:
        """Writes links and owners, moves the stored events; returns leads to be refolded."""
        if plan.new_links:
            await self._run(
                "INSERT INTO scorer.link SELECT * FROM unnest(CAST(:weak AS bigint[]), "
                "CAST(:strong AS bigint[])) ON CONFLICT DO NOTHING",
                **link_columns(plan.new_links),
            )
        if plan.dropped_links:
            await self._run(
                "DELETE FROM scorer.link WHERE (weak, strong) IN "
                "(SELECT * FROM unnest(CAST(:weak AS bigint[]), CAST(:strong AS bigint[])))",
                **link_columns(plan.dropped_links),
            )
        if plan.changed:
            await self._write_owners(plan)
        if plan.superseded:
            await self._run(
                "DELETE FROM scorer.verdict WHERE uid = ANY(:uids)", uids=sorted(plan.superseded)
            )
        for verdict in plan.verdicts:
            await self._run(
                "INSERT INTO scorer.verdict VALUES (:low, :high, :said_at, :uid, :same) "
                "ON CONFLICT DO NOTHING",
                **verdict._asdict(),
            )
        return await self._move_events(plan, mover)

    async def _write_owners(self, plan: Plan) -> None:
        await self._run(
            "UPDATE scorer.identifier i SET lead_id = n.lead, home = n.own_lead "
            "FROM unnest(CAST(:ids AS bigint[]), CAST(:leads AS uuid[]), CAST(:own AS uuid[])) "
            "AS n(id, lead, own_lead) WHERE i.id = n.id",
            ids=[node.id for node in plan.changed],
            leads=[node.lead for node in plan.changed],
            own=[node.own_lead for node in plan.changed],
        )
        # Every lead has a row, else it could not be locked; those created are written later.
        await self._run(
            "INSERT INTO scorer.lead (id, profile) SELECT id, :empty "
            "FROM unnest(CAST(:leads AS uuid[])) AS n(id) ORDER BY id ON CONFLICT DO NOTHING",
            leads=sorted({node.lead for node in plan.changed if node.lead} - plan.created),
            empty=EMPTY_PROFILE,
        )

    async def _move_events(self, plan: Plan, mover: Mover) -> set[uuid.UUID]:
        """Reads each old lead's events once, whatever the number of ids that leave it."""
        owners: dict[uuid.UUID, dict[int, uuid.UUID]] = defaultdict(dict)
        for node, old, new in plan.moves:
            owners[old][node] = new
        for old, new_of in sorted(owners.items()):
            moved: set[int] = set()
            more = BODY if await mover.begin(old, set(new_of.values())) else ""
            async for stored in self._events.of(old, list(new_of), more=more):
                await self._events.give([(row.uid, new_of[row.anchor]) for row in stored])
                if more:
                    await mover.pass_on(old, [(row, new_of[row.anchor]) for row in stored])
                moved |= {row.anchor for row in stored}
            await mover.end(old)
            plan.moved += [Move(node, old, new_of[node]) for node in sorted(moved)]
        return owners.keys() | {move.new for move in plan.moved}

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(text(statement), values)
