"""The neighbourhood of a batch in the database: its identifiers, links and verdicts."""

import os
import time
import uuid
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

from asyncpg.pgproto.pgproto import UUID
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.identity.resolver import Link, Plan, Verdict, bound_identifiers
from services.scorer.identity.rules import Graph, Node
from services.scorer.records import IncomingEvent, StoredEvent
from services.shared.contracts.identity import KINDS, Identifier, Kind
from services.shared.db import rows
from services.shared.errors import Retry


class Neighbourhood:
    """Reads what a batch's identities depend on; creates the identifiers that are missing.

    `created` are leads of identifiers that this transaction is the first to know, `made` the nodes
    that it created, `decided` those of them that got their lead at once.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.created: set[uuid.UUID] = set()
        self.made: set[int] = set()
        self.decided: set[int] = set()

    # -- identifiers ------------------------------------------------------------------------------

    async def nodes(self, events: Sequence[IncomingEvent]) -> dict[Identifier, Node]:
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
        self.created |= {node.own_lead for node in created.values() if node.own_lead}
        self.made |= {node.id for node in created.values()}
        self.decided |= {node.id for node in created.values() if node.lead}
        if any(node.lead and node.lead not in self.created for node in created.values()):
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

    async def load_graph(self, plan: Plan, undecided: set[int], judged: set[int]) -> set[int]:
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

    async def known_links(self, links: set[Link]) -> set[Link]:
        if not links:
            return set()
        found = await rows(
            self._connection,
            "SELECT l.weak, l.strong FROM unnest(CAST(:weak AS bigint[]), "
            "CAST(:strong AS bigint[])) AS w(weak, strong) JOIN scorer.link l USING (weak, strong)",
            **link_columns(links),
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

    async def unsupported(self, superseded: Sequence[StoredEvent]) -> set[Link]:
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

    async def judged(self, plan: Plan) -> set[int]:
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


def _rank(verdict: Verdict) -> tuple[int, uuid.UUID]:
    return verdict.said_at, verdict.uid


def _nodes_of(found: Iterable[Any]) -> dict[Identifier, Node]:
    """Rows of `scorer.identifier` by their identifier."""
    nodes = [
        Node(number, KINDS[kind], value, lead, own_lead)
        for number, kind, value, lead, own_lead in found
    ]
    return {Identifier.from_text(node.kind, node.value): node for node in nodes}


def link_columns(links: set[Link]) -> dict[str, list[int]]:
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
