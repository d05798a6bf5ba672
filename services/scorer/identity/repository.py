"""Resolves a batch's identities against the database: reads the neighbourhood, lets `identity`
decide, locks, moves events.
"""

import os
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from asyncpg.pgproto.pgproto import UUID
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.identity.rules import Graph, Node, TimedLink, assign, nearest
from services.scorer.model.profile import Profile
from services.scorer.records import Arrival, Known
from services.shared.contracts.identity import KINDS, Identifier, Kind
from services.shared.db import rows
from services.shared.errors import Retry

REVIEWED = "identity_reviewed"
BLANK = msgspec.msgpack.encode(Profile())
Link = tuple[int, int]


class Verdict(NamedTuple):
    """A person's word on two users; the last one on a pair holds."""

    low: int
    high: int
    said_at: int
    uid: uuid.UUID
    same: bool


@dataclass
class Plan:
    """Who owns what after the batch: nodes as decided, what changes in the tables, and every lead
    that it touches.

    Those `born` are leads of identifiers that this very transaction is the first to hear of: nobody
    else can see them.
    """

    nodes: dict[Identifier, Node]
    graph: Graph = field(default_factory=Graph)
    new_links: set[Link] = field(default_factory=set)
    dropped: set[Link] = field(default_factory=set)
    changed: list[Node] = field(default_factory=list)
    moves: list[tuple[int, uuid.UUID, uuid.UUID]] = field(default_factory=list)
    split: dict[int, set[uuid.UUID]] = field(default_factory=dict)
    leads: set[uuid.UUID] = field(default_factory=set)
    verdicts: list[Verdict] = field(default_factory=list)
    overruled: set[uuid.UUID] = field(default_factory=set)
    born: set[uuid.UUID] = field(default_factory=set)

    def identifiers_of_born(self) -> dict[uuid.UUID, list[Identifier]]:
        """The identifiers of new leads, strongest first: whatever belongs to them belongs since
        this batch.
        """
        found: dict[uuid.UUID, list[Identifier]] = {lead: [] for lead in self.born}
        for node in ({node.id: node for node in self.nodes.values()} | self.graph.nodes).values():
            if node.lead in self.born:
                found[node.lead].append(Identifier(node.kind, node.value))
        for theirs in found.values():
            theirs.sort()
        return found


class Ownership:
    """Identity resolution inside one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._minted: dict[int, uuid.UUID] = {}
        self._born: set[uuid.UUID] = set()
        self._settled: set[int] = set()

    async def plan(self, arrivals: list[Arrival], losers: Iterable[Known]) -> Plan:
        """Decides for the batch, locking nothing: call again after locking `leads`, until they are
        all locked or born.
        """
        plan = Plan(await self._nodes(arrivals), born=self._born)
        ids = {one: node.id for one, node in plan.nodes.items()}
        pairs = {(ids[weak], ids[a.ids[0]]) for a in arrivals for weak in a.ids[1:]}
        plan.new_links = pairs - await self._known_links(pairs)
        plan.dropped = await self._unsupported(losers) - pairs
        undecided = {weak for weak, _ in plan.new_links | plan.dropped}
        undecided |= {node.id for node in plan.nodes.values() if node.lead is None}
        undecided -= self._settled
        plan.verdicts, plan.overruled = (
            _verdicts_of(arrivals, plan.nodes),
            {loser.uid for loser in losers},
        )
        judged = await self._judged(plan)
        if undecided | judged:
            await self._decide(plan, undecided, judged)
        plan.leads |= {node.lead for node in plan.nodes.values() if node.lead}
        plan.leads |= {loser.lead for loser in losers}
        return plan

    async def _decide(self, plan: Plan, undecided: set[int], judged: set[int]) -> None:
        """Loads what depends on the undecided and what they depend on, and assigns."""
        graph = plan.graph
        users = judged | {
            node.id
            for node in plan.nodes.values()
            if node.id in undecided and node.kind is Kind.USER
        }
        graph.same = await self._verdicts(plan, users)
        undecided = await self._dependents(
            undecided | users | {i for pair in graph.same for i in pair}
        )
        found = await rows(
            self._connection,
            "SELECT weak, strong FROM scorer.link WHERE weak = ANY(:ids)",
            ids=sorted(undecided),
        )
        for weak, strong in (
            {(row.weak, row.strong) for row in found} | plan.new_links
        ) - plan.dropped:
            graph.links.setdefault(weak, set()).add(strong)
        graph.nodes = {node.id: node for node in plan.nodes.values()}
        left: dict[int, set[int]] = defaultdict(set)
        for weak, former in plan.dropped:
            left[weak].add(former)
        strong = {i for targets in graph.links.values() for i in targets} | {
            i for pair in graph.same for i in pair
        }
        strong |= {former for _, former in plan.dropped}
        await self._load_by_id(graph, (strong | undecided) - set(graph.nodes))
        before = {i: (node.lead, node.home) for i, node in graph.nodes.items()}
        split = assign(graph, undecided, self._mint)
        for i in undecided:
            node, (lead, home) = graph.nodes[i], before[i]
            if (node.lead, node.home) != (lead, home):
                plan.changed.append(node)
            if i in split:
                near = (
                    {before[s][0] for s in graph.links.get(i, set()) | left[i]}
                    | split[i].leads
                    | {lead, home}
                )
                plan.split[i] = {one for one in near if one}
            elif node.lead and lead and node.lead != lead:
                plan.moves.append((i, lead, node.lead))
            elif node.lead and not lead and node.kind is Kind.ANONYMOUS:
                olds = {before[s][0] for s in graph.links.get(i, set()) | left[i]} | {home}
                plan.moves += [(i, old, node.lead) for old in olds if old and old != node.lead]
        for _, old, new in plan.moves:
            plan.leads |= {old, new}
        plan.leads |= {one for near in plan.split.values() for one in near}

    def _mint(self, node: Node) -> uuid.UUID:
        return self._minted.setdefault(node.id, mint(1)[0])

    async def lock(self, leads: Iterable[uuid.UUID]) -> dict[uuid.UUID, Any]:
        """Locks the rows of these leads in order of their ids; returns those that exist."""
        found = await rows(
            self._connection,
            "SELECT id, version, profile, provisional, excluded, engaged_at FROM scorer.lead "
            "WHERE id = ANY(:ids) ORDER BY id FOR UPDATE",
            ids=sorted(leads),
        )
        return {row.id: row for row in found}

    async def apply(self, plan: Plan) -> set[uuid.UUID]:
        """Writes links and owners, moves the stored events of what moved; returns leads that must
        be folded anew.
        """
        if plan.new_links:
            await self._run(
                "INSERT INTO scorer.link SELECT * FROM unnest(CAST(:weak AS bigint[]), "
                "CAST(:strong AS bigint[])) "
                "ON CONFLICT DO NOTHING",
                **_columns(plan.new_links),
            )
        if plan.dropped:
            await self._run(
                "DELETE FROM scorer.link WHERE (weak, strong) IN "
                "(SELECT * FROM unnest(CAST(:weak AS bigint[]), CAST(:strong AS bigint[])))",
                **_columns(plan.dropped),
            )
        if plan.changed:
            await self._run(
                "UPDATE scorer.identifier i SET lead_id = n.lead, home = n.home FROM "
                "unnest(CAST(:ids AS bigint[]), "
                "CAST(:leads AS uuid[]), CAST(:homes AS uuid[])) AS n(id, lead, home) WHERE "
                "i.id = n.id",
                ids=[node.id for node in plan.changed],
                leads=[node.lead for node in plan.changed],
                homes=[node.home for node in plan.changed],
            )
            # every lead has a row from the first, else it could not be locked; those born are
            # written later
            await self._run(
                "INSERT INTO scorer.lead (id, profile) SELECT id, :blank FROM "
                "unnest(CAST(:leads AS uuid[])) AS n(id) ORDER BY id ON CONFLICT DO NOTHING",
                leads=sorted({node.lead for node in plan.changed if node.lead} - plan.born),
                blank=BLANK,
            )
        if plan.overruled:
            await self._run(
                "DELETE FROM scorer.verdict WHERE uid = ANY(:uids)", uids=sorted(plan.overruled)
            )
        for verdict in plan.verdicts:
            await self._run(
                "INSERT INTO scorer.verdict VALUES (:low, :high, :said_at, :uid, :same) ON "
                "CONFLICT DO NOTHING",
                **verdict._asdict(),
            )
        anew: set[uuid.UUID] = set()
        for node, old, new in plan.moves:
            moved = await self._connection.execute(
                text(
                    "UPDATE scorer.event SET lead_id = :new WHERE lead_id = :old AND anchor = :node"
                ),
                {"node": node, "old": old, "new": new},
            )
            anew |= {old, new} if moved.rowcount else {old}
        return anew

    async def distribute(self, plan: Plan, arrivals: list[Arrival]) -> set[uuid.UUID]:
        """Gives the events of split anonymous ids, stored and new, to the person of the nearest
        link in time.
        """
        anew: set[uuid.UUID] = set()
        for node, leads in plan.split.items():
            links = await self._timed_links(plan, node, leads, arrivals)
            stored = await rows(
                self._connection,
                "SELECT uid, occurred_at, lead_id FROM scorer.event WHERE lead_id = "
                "ANY(:leads) AND anchor = :node",
                leads=sorted(leads), node=node,
            )  # fmt: skip
            right = [(row, nearest(links, row.occurred_at)) for row in stored]
            wrong = [(row, lead) for row, lead in right if row.lead_id != lead]
            if wrong:
                await self._run(
                    "UPDATE scorer.event e SET lead_id = n.lead FROM unnest(CAST(:uids AS uuid[]), "
                    "CAST(:leads AS uuid[])) AS n(uid, lead) WHERE e.uid = n.uid",
                    uids=[row.uid for row, _ in wrong],
                    leads=[lead for _, lead in wrong],
                )
                anew |= {lead for _, lead in wrong} | {row.lead_id for row, _ in wrong}
            for arrival in arrivals:
                if plan.nodes[arrival.ids[0]].id == node:
                    arrival.lead = nearest(links, arrival.at)
        return anew

    async def _timed_links(
        self, plan: Plan, node: int, leads: set[uuid.UUID], arrivals: list[Arrival]
    ) -> list[TimedLink]:
        stored = await rows(
            self._connection,
            "SELECT uid, occurred_at, anchor, lead_id FROM scorer.event "
            "WHERE lead_id = ANY(:leads) AND weaker @> ARRAY[CAST(:node AS bigint)]",
            leads=sorted(leads), node=node,
        )  # fmt: skip
        links = [TimedLink(row.occurred_at, row.uid.hex, row.lead_id) for row in stored]
        links += [
            TimedLink(arrival.at, arrival.uid, arrival.lead)
            for arrival in arrivals
            if arrival.lead and any(plan.nodes[weak].id == node for weak in arrival.ids[1:])
        ]
        return sorted(links)

    # -- reading ----------------------------------------------------------------------------------

    async def _nodes(self, arrivals: Iterable[Arrival]) -> dict[Identifier, Node]:
        """The rows of all identifiers; the missing ones are made, in order, so that two makers
        never wait crosswise.
        """
        wanted = {one for arrival in arrivals for one in arrival.ids}
        bound: dict[Identifier, set[Identifier]] = defaultdict(set)
        for arrival in arrivals:
            for weak in arrival.ids[1:]:
                bound[weak].add(arrival.ids[0])
            for other in _judged(arrival):
                bound[other].add(arrival.ids[0])
                bound[arrival.ids[0]].add(other)
        wanted |= bound.keys()
        found = await self._find(wanted)
        if missing := sorted(wanted - found.keys()):
            found |= await self._make(missing, bound)
            if len(found) < len(wanted):
                found |= await self._find(wanted - found.keys())
        return found

    async def _make(
        self, missing: list[Identifier], bound: dict[Identifier, set[Identifier]]
    ) -> dict[Identifier, Node]:
        """Adds identifiers; returns those in whose making no other transaction was faster, which
        nobody else can see yet.

        A new one that nothing binds has a lead of its own, and a new one that is bound to just one
        such follows it: so much is settled without a look at the graph.
        """
        alone = [one for one in missing if one not in bound]
        homes = dict(zip(alone, mint(len(alone)), strict=True))
        leads = homes | {
            one: homes[strong]
            for one in missing
            if len(bound.get(one, ())) == 1
            for strong in bound[one]
            if strong in homes
        }
        made = _named(
            await rows(
                self._connection,
                "INSERT INTO scorer.identifier (kind, value, lead_id, home) SELECT * FROM "
                "unnest(CAST(:kinds AS smallint[]), "
                "CAST(:words AS text[]), CAST(:leads AS uuid[]), CAST(:homes AS uuid[])) "
                "ON CONFLICT DO NOTHING RETURNING id, kind, value, lead_id, home",
                kinds=[int(one.kind) for one in missing],
                words=[one.value for one in missing],
                leads=[leads.get(one) for one in missing],
                homes=[homes.get(one) for one in missing],
            )
        )
        self._born |= {node.home for node in made.values() if node.home}
        self._settled |= {node.id for node in made.values() if node.lead}
        if any(node.lead and node.lead not in self._born for node in made.values()):
            raise Retry("another process was faster with what these identifiers follow")
        return made

    async def _find(self, wanted: Iterable[Identifier]) -> dict[Identifier, Node]:
        words = sorted(wanted)
        return _named(
            await rows(
                self._connection,
                "SELECT i.id, i.kind, i.value, i.lead_id, i.home FROM unnest(CAST(:kinds AS "
                "smallint[]), "
                "CAST(:words AS text[])) AS w(kind, value) JOIN scorer.identifier i USING "
                "(kind, value)",
                kinds=[int(one.kind) for one in words],
                words=[one.value for one in words],
            )
        )

    async def _load_by_id(self, graph: Graph, ids: set[int]) -> None:
        if ids:
            found = await rows(
                self._connection,
                "SELECT id, kind, value, lead_id, home FROM scorer.identifier WHERE id = ANY(:ids)",
                ids=sorted(ids),
            )
            graph.nodes |= {node.id: node for node in _named(found).values()}

    async def _known_links(self, pairs: set[Link]) -> set[Link]:
        if not pairs:
            return set()
        found = await rows(
            self._connection,
            "SELECT l.weak, l.strong FROM unnest(CAST(:weak AS bigint[]), CAST(:strong AS "
            "bigint[])) AS w(weak, strong) "
            "JOIN scorer.link l USING (weak, strong)",
            **_columns(pairs),
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

    async def _unsupported(self, losers: Iterable[Known]) -> set[Link]:
        """Links that only the losing bodies of repeated ids spoke for."""
        dropped: set[Link] = set()
        losers = list(losers)
        for loser in losers:
            for weak in loser.weaker:
                other = await rows(
                    self._connection,
                    "SELECT 1 FROM scorer.event WHERE lead_id = :lead AND anchor = :anchor AND "
                    "uid <> ALL(:uids) AND weaker @> ARRAY[CAST(:weak AS bigint)] LIMIT 1",
                    lead=loser.lead,
                    anchor=loser.anchor,
                    uids=[one.uid for one in losers],
                    weak=weak,
                )
                if not other:
                    dropped.add((weak, loser.anchor))
        return dropped

    async def _judged(self, plan: Plan) -> set[int]:
        """The users on whom a verdict is said, or taken back with the body that said it."""
        found = []
        if plan.overruled:
            found = await rows(
                self._connection,
                "SELECT low, high FROM scorer.verdict WHERE uid = ANY(:uids)",
                uids=sorted(plan.overruled),
            )
        return {i for one in (*found, *plan.verdicts) for i in (one.low, one.high)}

    async def _verdicts(self, plan: Plan, users: set[int]) -> set[Link]:
        """Pairs judged the same in the groups of these users."""
        pairs: set[Link] = set()
        known, front = set(users), set(users)
        while front:
            stored = await rows(
                self._connection,
                "SELECT low, high, said_at, uid, same FROM scorer.verdict WHERE (low = "
                "ANY(:ids) OR high = ANY(:ids)) AND uid <> ALL(:overruled)",
                ids=sorted(front),
                overruled=sorted(plan.overruled),
            )
            last: dict[Link, Any] = {}
            for one in (*stored, *(v for v in plan.verdicts if v.low in front or v.high in front)):
                pair = one.low, one.high
                if pair not in last or (one.said_at, one.uid) > (
                    last[pair].said_at,
                    last[pair].uid,
                ):
                    last[pair] = one
            pairs |= {pair for pair, one in last.items() if one.same}
            front = {i for pair in pairs for i in pair} - known
            known |= front
        return pairs

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(text(statement), values)


def _named(found: Iterable[Any]) -> dict[Identifier, Node]:
    """Rows of `scorer.identifier` in hand."""
    nodes = [
        Node(number, KINDS[kind], value, lead, home) for number, kind, value, lead, home in found
    ]
    return {Identifier(node.kind, node.value): node for node in nodes}


def mint(count: int) -> list[uuid.UUID]:
    """Ids for new leads: UUIDs of version 7 (RFC 9562), which rise with time, so that what is new
    lies side by side on disk.
    """
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


def _judged(arrival: Arrival) -> list[Identifier]:
    """The other user of a verdict."""
    if arrival.data.type != REVIEWED:
        return []
    other = str(arrival.data.properties.get("other_user_id", "")).strip()
    if not other or arrival.ids[0].kind is not Kind.USER or other == arrival.ids[0].value:
        return []
    return [Identifier(Kind.USER, other)]


def _verdicts_of(arrivals: Iterable[Arrival], nodes: dict[Identifier, Node]) -> list[Verdict]:
    """The verdicts that a batch says."""
    found = []
    for arrival in arrivals:
        for other in _judged(arrival):
            low, high = sorted((nodes[arrival.ids[0]].id, nodes[other].id))
            same = arrival.data.properties.get("verdict") == "same"
            found.append(Verdict(low, high, arrival.at, uuid.UUID(arrival.uid), same))
    return found


def _columns(links: set[Link]) -> dict[str, list[int]]:
    pairs = sorted(links)
    return {"weak": [weak for weak, _ in pairs], "strong": [strong for _, strong in pairs]}


def by_lead(arrivals: Iterable[Arrival]) -> dict[uuid.UUID, list[Arrival]]:
    """Arrivals grouped by their lead."""
    groups: dict[uuid.UUID, list[Arrival]] = defaultdict(list)
    for arrival in arrivals:
        if arrival.lead:
            groups[arrival.lead].append(arrival)
    return groups
