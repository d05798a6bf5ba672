"""Identity in the database: reads the neighbourhood of a batch, lets the resolver decide, and
writes links, owners and moved events.
"""

import os
import time
import uuid
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from asyncpg.pgproto.pgproto import UUID
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.identity.resolver import (
    Link,
    Plan,
    Verdict,
    bound_identifiers,
    decide,
    verdicts_of,
)
from services.scorer.identity.rules import Graph, Node, TimedLink, nearest
from services.scorer.model.profile import Profile
from services.scorer.records import IncomingEvent, StoredEvent
from services.shared.contracts.identity import KINDS, Identifier, Kind
from services.shared.db import rows
from services.shared.errors import Retry

EMPTY_PROFILE = msgspec.msgpack.encode(Profile())


class IdentityResolver:
    """Identity resolution inside one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._new_leads: dict[int, uuid.UUID] = {}  # by node: a repeated plan gives the same ids
        self._created: set[uuid.UUID] = set()
        self._decided: set[int] = set()  # nodes that got their lead when they were created

    async def plan(
        self, events: Sequence[IncomingEvent], superseded: Sequence[StoredEvent]
    ) -> Plan:
        """Decides for the batch, locking nothing: call again after locking `leads`, until they are
        all locked or created.
        """
        plan = Plan(await self._nodes(events), created=self._created)
        numbers = plan.numbers
        links = {
            (numbers[weak], numbers[event.strongest]) for event in events for weak in event.linked
        }
        plan.new_links = links - await self._known_links(links)
        plan.dropped_links = await self._unsupported(superseded) - links
        undecided = {weak for weak, _ in plan.new_links | plan.dropped_links}
        undecided |= {node.id for node in plan.nodes.values() if node.lead is None}
        undecided -= self._decided
        plan.verdicts = verdicts_of(events, plan.nodes)
        plan.superseded = {event.uid for event in superseded}
        judged = await self._judged(plan)
        if undecided | judged:
            undecided = await self._load_graph(plan, undecided, judged)
            decide(plan, undecided, self._new_lead)
        plan.leads |= {node.lead for node in plan.nodes.values() if node.lead}
        plan.leads |= {event.lead for event in superseded}
        return plan

    def _new_lead(self, node: Node) -> uuid.UUID:
        return self._new_leads.setdefault(node.id, new_lead_ids(1)[0])

    async def apply(self, plan: Plan) -> set[uuid.UUID]:
        """Writes links and owners, moves the stored events; returns leads to be refolded."""
        if plan.new_links:
            await self._run(
                "INSERT INTO scorer.link SELECT * FROM unnest(CAST(:weak AS bigint[]), "
                "CAST(:strong AS bigint[])) ON CONFLICT DO NOTHING",
                **_columns(plan.new_links),
            )
        if plan.dropped_links:
            await self._run(
                "DELETE FROM scorer.link WHERE (weak, strong) IN "
                "(SELECT * FROM unnest(CAST(:weak AS bigint[]), CAST(:strong AS bigint[])))",
                **_columns(plan.dropped_links),
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
        return await self._move_events(plan)

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

    async def _move_events(self, plan: Plan) -> set[uuid.UUID]:
        refold: set[uuid.UUID] = set()
        for node, old, new in plan.moves:
            moved = await self._connection.execute(
                text(
                    "UPDATE scorer.event SET lead_id = :new WHERE lead_id = :old AND anchor = :node"
                ),
                {"node": node, "old": old, "new": new},
            )
            refold |= {old, new} if moved.rowcount else {old}
        return refold

    async def distribute(self, plan: Plan, events: Sequence[IncomingEvent]) -> set[uuid.UUID]:
        """Gives the events of split anonymous ids, stored and new, to the person of the nearest
        link in time; returns leads to be refolded.
        """
        refold: set[uuid.UUID] = set()
        for node, leads in plan.split.items():
            links = await self._timed_links(plan, node, leads, events)
            refold |= await self._distribute_stored(node, leads, links)
            for event in events:
                if plan.nodes[event.strongest].id == node:
                    event.lead = nearest(links, event.at)
        return refold

    async def _distribute_stored(
        self, node: int, leads: set[uuid.UUID], links: Sequence[TimedLink]
    ) -> set[uuid.UUID]:
        stored = await rows(
            self._connection,
            "SELECT uid, occurred_at, lead_id FROM scorer.event "
            "WHERE lead_id = ANY(:leads) AND anchor = :node",
            leads=sorted(leads),
            node=node,
        )
        owners = [(row, nearest(links, row.occurred_at)) for row in stored]
        moved = [(row, lead) for row, lead in owners if row.lead_id != lead]
        if moved:
            await self._run(
                "UPDATE scorer.event e SET lead_id = n.lead FROM unnest(CAST(:uids AS uuid[]), "
                "CAST(:leads AS uuid[])) AS n(uid, lead) WHERE e.uid = n.uid",
                uids=[row.uid for row, _ in moved],
                leads=[lead for _, lead in moved],
            )
        return {lead for _, lead in moved} | {row.lead_id for row, _ in moved}

    async def _timed_links(
        self, plan: Plan, node: int, leads: set[uuid.UUID], events: Iterable[IncomingEvent]
    ) -> list[TimedLink]:
        stored = await rows(
            self._connection,
            "SELECT uid, occurred_at, anchor, lead_id FROM scorer.event "
            "WHERE lead_id = ANY(:leads) AND weaker @> ARRAY[CAST(:node AS bigint)]",
            leads=sorted(leads),
            node=node,
        )
        links = [TimedLink(row.occurred_at, row.uid.hex, row.lead_id) for row in stored]
        links += [
            TimedLink(event.at, event.uid, event.lead)
            for event in events
            if event.lead and any(plan.nodes[weak].id == node for weak in event.linked)
        ]
        return sorted(links)

    # -- identifiers ------------------------------------------------------------------------------

    async def _nodes(self, events: Sequence[IncomingEvent]) -> dict[Identifier, Node]:
        """The rows of all identifiers; the missing ones are created, in order, so that two
        transactions never wait crosswise.
        """
        bound = bound_identifiers(events)
        wanted = {name for event in events for name in event.identifiers} | bound.keys()
        found = await self._find(wanted)
        if missing := sorted(wanted - found.keys(), key=attrgetter("rank")):
            found |= await self._create(missing, bound)
            if len(found) < len(wanted):
                found |= await self._find(wanted - found.keys())
        return found

    async def _create(
        self, missing: list[Identifier], bound: dict[Identifier, set[Identifier]]
    ) -> dict[Identifier, Node]:
        """Adds identifiers; returns those with which no other transaction was faster, which nobody
        else can see yet.

        A new one that nothing binds has a lead of its own, and a new one that is bound to just one
        such follows it: so much is decided without a look at the graph.
        """
        alone = [name for name in missing if name not in bound]
        own = dict(zip(alone, new_lead_ids(len(alone)), strict=True))
        leads = own | {
            name: own[strong]
            for name in missing
            if len(bound.get(name, ())) == 1
            for strong in bound[name]
            if strong in own
        }
        created = _nodes_of(
            await rows(
                self._connection,
                "INSERT INTO scorer.identifier (kind, value, lead_id, home) "
                "SELECT * FROM unnest(CAST(:kinds AS smallint[]), CAST(:texts AS text[]), "
                "CAST(:leads AS uuid[]), CAST(:own AS uuid[])) "
                "ON CONFLICT DO NOTHING RETURNING id, kind, value, lead_id, home",
                kinds=[int(name.kind) for name in missing],
                texts=[name.text for name in missing],
                leads=[leads.get(name) for name in missing],
                own=[own.get(name) for name in missing],
            )
        )
        self._created |= {node.own_lead for node in created.values() if node.own_lead}
        self._decided |= {node.id for node in created.values() if node.lead}
        if any(node.lead and node.lead not in self._created for node in created.values()):
            raise Retry("another process was faster with what these identifiers follow")
        return created

    async def _find(self, wanted: Iterable[Identifier]) -> dict[Identifier, Node]:
        names = sorted(wanted)
        return _nodes_of(
            await rows(
                self._connection,
                "SELECT i.id, i.kind, i.value, i.lead_id, i.home "
                "FROM unnest(CAST(:kinds AS smallint[]), CAST(:texts AS text[])) "
                "AS w(kind, value) JOIN scorer.identifier i USING (kind, value)",
                kinds=[int(name.kind) for name in names],
                texts=[name.text for name in names],
            )
        )

    # -- the graph --------------------------------------------------------------------------------

    async def _load_graph(self, plan: Plan, undecided: set[int], judged: set[int]) -> set[int]:
        """Loads what depends on the undecided and what they depend on; returns all undecided."""
        graph = plan.graph
        users = judged | {
            node.id
            for node in plan.nodes.values()
            if node.id in undecided and node.kind is Kind.USER
        }
        graph.same = await self._same_users(plan, users)
        paired = {i for pair in graph.same for i in pair}
        undecided = await self._dependents(undecided | users | paired)
        stored = await rows(
            self._connection,
            "SELECT weak, strong FROM scorer.link WHERE weak = ANY(:ids)",
            ids=sorted(undecided),
        )
        links = {(row.weak, row.strong) for row in stored} | plan.new_links
        for weak, strong in links - plan.dropped_links:
            graph.links.setdefault(weak, set()).add(strong)
        graph.nodes = {node.id: node for node in plan.nodes.values()}
        needed = {i for targets in graph.links.values() for i in targets} | paired | undecided
        needed |= {former for _, former in plan.dropped_links}
        await self._load_nodes(graph, needed - set(graph.nodes))
        return undecided

    async def _load_nodes(self, graph: Graph, ids: set[int]) -> None:
        if ids:
            found = await rows(
                self._connection,
                "SELECT id, kind, value, lead_id, home FROM scorer.identifier WHERE id = ANY(:ids)",
                ids=sorted(ids),
            )
            graph.nodes |= {node.id: node for node in _nodes_of(found).values()}

    async def _known_links(self, links: set[Link]) -> set[Link]:
        if not links:
            return set()
        found = await rows(
            self._connection,
            "SELECT l.weak, l.strong FROM unnest(CAST(:weak AS bigint[]), "
            "CAST(:strong AS bigint[])) AS w(weak, strong) JOIN scorer.link l USING (weak, strong)",
            **_columns(links),
        )
        return {(row.weak, row.strong) for row in found}

    async def _dependents(self, ids: set[int]) -> set[int]:
        """The ids and all weaker identifiers whose owner may follow theirs."""
        found, front = set(ids), set(ids)
        while front:
            below = await rows(
                self._connection,
                "SELECT DISTINCT weak FROM scorer.link WHERE strong = ANY(:ids)",
                ids=sorted(front),
            )
            front = {row.weak for row in below} - found
            found |= front
        return found

    async def _unsupported(self, superseded: Sequence[StoredEvent]) -> set[Link]:
        """Links that rest on superseded events alone."""
        dropped: set[Link] = set()
        uids = [event.uid for event in superseded]
        for event in superseded:
            for weak in event.linked:
                other = await rows(
                    self._connection,
                    "SELECT 1 FROM scorer.event WHERE lead_id = :lead AND anchor = :strongest "
                    "AND uid <> ALL(:uids) AND weaker @> ARRAY[CAST(:weak AS bigint)] LIMIT 1",
                    lead=event.lead,
                    strongest=event.strongest,
                    uids=uids,
                    weak=weak,
                )
                if not other:
                    dropped.add((weak, event.strongest))
        return dropped

    # -- verdicts ---------------------------------------------------------------------------------

    async def _judged(self, plan: Plan) -> set[int]:
        """The users of new verdicts, and of those that fall with a superseded event."""
        fallen = []
        if plan.superseded:
            fallen = await rows(
                self._connection,
                "SELECT low, high FROM scorer.verdict WHERE uid = ANY(:uids)",
                uids=sorted(plan.superseded),
            )
        return {i for verdict in (*fallen, *plan.verdicts) for i in (verdict.low, verdict.high)}

    async def _same_users(self, plan: Plan, users: set[int]) -> set[Link]:
        """Pairs judged the same in the groups of these users."""
        pairs: set[Link] = set()
        known, front = set(users), set(users)
        while front:
            last: dict[Link, Verdict] = {}
            for verdict in await self._verdicts_on(plan, front):
                pair = verdict.low, verdict.high
                if pair not in last or _rank(verdict) > _rank(last[pair]):
                    last[pair] = verdict
            pairs |= {pair for pair, verdict in last.items() if verdict.same}
            front = {i for pair in pairs for i in pair} - known
            known |= front
        return pairs

    async def _verdicts_on(self, plan: Plan, users: set[int]) -> list[Verdict]:
        stored = await rows(
            self._connection,
            "SELECT low, high, said_at, uid, same FROM scorer.verdict "
            "WHERE (low = ANY(:ids) OR high = ANY(:ids)) AND uid <> ALL(:superseded)",
            ids=sorted(users),
            superseded=sorted(plan.superseded),
        )
        new = [verdict for verdict in plan.verdicts if users & {verdict.low, verdict.high}]
        return [*(Verdict(*row) for row in stored), *new]

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(text(statement), values)


def _rank(verdict: Verdict) -> tuple[int, uuid.UUID]:
    return verdict.said_at, verdict.uid


def _nodes_of(found: Iterable[Any]) -> dict[Identifier, Node]:
    """Rows of `scorer.identifier` by their identifier."""
    nodes = [
        Node(number, KINDS[kind], value, lead, own_lead)
        for number, kind, value, lead, own_lead in found
    ]
    return {Identifier.from_text(node.kind, node.value): node for node in nodes}


def _columns(links: set[Link]) -> dict[str, list[int]]:
    pairs = sorted(links)
    return {"weak": [weak for weak, _ in pairs], "strong": [strong for _, strong in pairs]}


def new_lead_ids(count: int) -> list[uuid.UUID]:
    """UUIDs of version 7 (RFC 9562): they rise with time, so that new rows lie side by side."""
    head = (time.time_ns() // 1_000_000).to_bytes(6)
    noise = os.urandom(10 * count)
    return [
        UUID(
            head
            + bytes((noise[i] & 0x0F | 0x70, noise[i + 1], noise[i + 2] & 0x3F | 0x80))
            + noise[i + 3 : i + 10]
        )
        for i in range(0, 10 * count, 10)
    ]
