"""What a batch changes in who owns what: links, identifiers' owners, moves of events. Pure."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from services.scorer.identity.rules import Graph, NewLead, Node, assign
from services.scorer.records import IncomingEvent
from services.shared.contracts.identity import OURS, Identifier, Kind

REVIEWED = "identity_reviewed"  # the type of event that carries a verdict
Link = tuple[int, int]  # weaker, stronger


class Verdict(NamedTuple):
    """A person's verdict on two users; the last one on a pair counts."""

    low: int
    high: int
    said_at: int
    uid: uuid.UUID
    same: bool


class Move(NamedTuple):
    """Events whose strongest identifier is this one go from one lead to another."""

    node: int
    old: uuid.UUID
    new: uuid.UUID


@dataclass
class Plan:
    """Who owns what after the batch: nodes as decided, what changes in the tables, and every lead
    that it touches.

    Of the ids in `split` the `settled` ones were split before, and none of their former links is
    another lead's than it was; those `joined` are split no more. Those `created` are leads of
    identifiers that this very transaction is the first to know, which are `made`: nobody else can
    see them. `moved` are the moves of which there were events, `divided` the leads that lost or got
    some of those of a split id. `superseded` are the uids of stored events that lost to another
    body.
    """

    nodes: dict[Identifier, Node]
    graph: Graph = field(default_factory=Graph)
    new_links: set[Link] = field(default_factory=set)
    dropped_links: set[Link] = field(default_factory=set)
    changed: list[Node] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    moved: list[Move] = field(default_factory=list)
    split: dict[int, set[uuid.UUID]] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    joined: set[int] = field(default_factory=set)
    divided: set[uuid.UUID] = field(default_factory=set)
    leads: set[uuid.UUID] = field(default_factory=set)
    verdicts: list[Verdict] = field(default_factory=list)
    superseded: set[uuid.UUID] = field(default_factory=set)
    created: set[uuid.UUID] = field(default_factory=set)
    made: set[int] = field(default_factory=set)

    @property
    def numbers(self) -> dict[Identifier, int]:
        """The numbers of the batch's identifiers."""
        return {identifier: node.id for identifier, node in self.nodes.items()}

    def identifiers_of_created(self) -> dict[uuid.UUID, list[Identifier]]:
        """The identifiers of created leads, strongest first: theirs since this batch."""
        found: dict[uuid.UUID, list[Identifier]] = {lead: [] for lead in self.created}
        nodes = {node.id: node for node in self.nodes.values()} | self.graph.nodes
        for node in nodes.values():
            if node.lead in self.created:
                found[node.lead].append(Identifier.from_text(node.kind, node.value))
        for identifiers in found.values():
            identifiers.sort(key=attrgetter("rank"))
        return found

    def identified(self) -> set[uuid.UUID]:
        """Leads that got or lost identifiers; touches, which name whom we wrote to, are none."""
        gained = {
            node.lead
            for node in self.changed
            if node.lead and not (node.kind is Kind.EXTERNAL and node.value.startswith(OURS))
        }
        return gained | self.left_behind()

    def left_behind(self) -> set[uuid.UUID]:
        """Leads that events or identifiers may have left."""
        moved = {move.old for move in self.moves}
        return moved | {lead for leads in self.split.values() for lead in leads}

    def merged_away(
        self, gone: Iterable[uuid.UUID], in_use: set[uuid.UUID]
    ) -> dict[uuid.UUID, uuid.UUID]:
        """Into which of the leads in use those that are gone were merged."""
        target = {move.old: move.new for move in self.moves if move.new in in_use}
        for leads in self.split.values():
            target |= {lead: min(leads & in_use) for lead in leads - set(target)}
        return {lead: target[lead] for lead in gone if lead in target}


def decide(plan: Plan, undecided: set[int], new_lead: NewLead) -> None:
    """Assigns the undecided nodes of the plan's graph; adds what changes to the plan."""
    graph = plan.graph
    left: dict[int, set[int]] = defaultdict(set)
    for weak, former in plan.dropped_links:
        left[weak].add(former)
    before = {i: (node.lead, node.own_lead) for i, node in graph.nodes.items()}
    split = assign(graph, undecided, new_lead)
    for i in undecided:
        node, (lead, own_lead) = graph.nodes[i], before[i]
        if (node.lead, node.own_lead) != (lead, own_lead):
            plan.changed.append(node)
        neighbours = {before[strong][0] for strong in graph.links.get(i, set()) | left[i]}
        if i in split:
            plan.split[i] = {near for near in neighbours | split[i] | {lead, own_lead} if near}
            stayed = {strong for strong in graph.links[i] if (i, strong) not in plan.new_links}
            if lead is None and all(
                before[strong][0] == graph.nodes[strong].lead for strong in stayed | left[i]
            ):
                plan.settled.add(i)
        elif node.lead and lead and node.lead != lead:
            plan.moves.append(Move(i, lead, node.lead))
        elif node.lead and not lead and node.kind is Kind.ANONYMOUS:
            olds = {old for old in neighbours | {own_lead} if old and old != node.lead}
            plan.moves += [Move(i, old, node.lead) for old in olds]
            plan.joined.add(i)
    plan.leads |= {lead for move in plan.moves for lead in (move.old, move.new)}
    plan.leads |= {lead for leads in plan.split.values() for lead in leads}


def bound_identifiers(events: Iterable[IncomingEvent]) -> dict[Identifier, set[Identifier]]:
    """By identifier, those that decide its owner: the stronger ones of its events, and users of
    verdicts on each other.
    """
    bound: dict[Identifier, set[Identifier]] = defaultdict(set)
    for event in events:
        for weak in event.linked:
            bound[weak].add(event.strongest)
        if other := judged_with(event):
            bound[other].add(event.strongest)
            bound[event.strongest].add(other)
    return bound


def judged_with(event: IncomingEvent) -> Identifier | None:
    """The other user of a verdict."""
    if event.data.type != REVIEWED:
        return None
    other = str(event.data.properties.get("other_user_id", "")).strip()
    if not other or event.strongest.kind is not Kind.USER or other == event.strongest.value:
        return None
    return Identifier(Kind.USER, other)


def verdicts_of(events: Iterable[IncomingEvent], nodes: Mapping[Identifier, Node]) -> list[Verdict]:
    """The verdicts in a batch."""
    found = []
    for event in events:
        if other := judged_with(event):
            low, high = sorted((nodes[event.strongest].id, nodes[other].id))
            same = event.data.properties.get("verdict") == "same"
            found.append(Verdict(low, high, event.at, uuid.UUID(event.uid), same))
    return found


def by_lead(events: Iterable[IncomingEvent]) -> dict[uuid.UUID, list[IncomingEvent]]:
    """Assigned events by their lead."""
    groups: dict[uuid.UUID, list[IncomingEvent]] = defaultdict(list)
    for event in events:
        if event.lead:
            groups[event.lead].append(event)
    return groups
