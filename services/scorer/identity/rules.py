"""Who an event belongs to: a function of the set of links and verdicts, never of arrival order.

A `user_id` is a person. An address or external id belongs to the one person that it is linked to,
and stays by itself where there are none or several. An anonymous id's events belong to the person
of its nearest link in time; linked to more than three people it is shared and joins nobody. Links
run from the weaker identifiers of an event to its strongest.
"""

import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from services.shared.contracts.identity import Kind

SHARED_ABOVE = 3
BEFORE_ALL, AFTER_ALL = -(1 << 62), 1 << 62  # µs


@dataclass
class Node:
    """An identifier: the lead its events belong to (None where they are split by time), and the
    lead of its own, which it has while it belongs to no other.
    """

    id: int
    kind: Kind
    value: str
    lead: uuid.UUID | None
    own_lead: uuid.UUID | None


@dataclass
class Graph:
    """The neighbourhood of what is to be decided: nodes by id, links weak → strong, and pairs of
    users judged the same.
    """

    nodes: dict[int, Node] = field(default_factory=dict)
    links: dict[int, set[int]] = field(default_factory=dict)
    same: set[tuple[int, int]] = field(default_factory=set)


NewLead = Callable[[Node], uuid.UUID]  # an id for a lead of the node's own


def assign(
    graph: Graph, undecided: Iterable[int], new_lead: NewLead
) -> dict[int, frozenset[uuid.UUID]]:
    """Sets `lead` and `own_lead` of the undecided nodes, strongest kinds first.

    The other nodes keep what they have. Returns the leads of those anonymous ids that are split by
    time, having been linked to two or three people.
    """
    split: dict[int, frozenset[uuid.UUID]] = {}
    order = sorted(
        {graph.nodes[i].id for i in undecided},
        key=lambda i: (graph.nodes[i].kind, graph.nodes[i].value),
    )
    groups = _groups(graph.same)
    for i in order:
        node = graph.nodes[i]
        if node.kind is Kind.USER:
            node.lead = _own(graph.nodes[groups.get(i, i)], new_lead)
            continue
        people = {lead for strong in graph.links.get(i, ()) if (lead := graph.nodes[strong].lead)}
        if len(people) == 1:
            node.lead = next(iter(people))
        elif node.kind is Kind.ANONYMOUS and 1 < len(people) <= SHARED_ABOVE:
            node.lead = None
            split[i] = frozenset(people)
        else:
            node.lead = _own(node, new_lead)
    return split


def _own(node: Node, new_lead: NewLead) -> uuid.UUID:
    """The node's own lead; a new one where it has belonged to others since."""
    if node.own_lead is None or node.lead != node.own_lead:
        node.own_lead = new_lead(node)
    node.lead = node.own_lead
    return node.own_lead


def _groups(same: Iterable[tuple[int, int]]) -> dict[int, int]:
    """The representative of each user that a verdict joined to others: the least id of its
    group.
    """
    root: dict[int, int] = {}

    def find(i: int) -> int:
        while root.get(i, i) != i:
            i = root[i]
        return i

    pairs = list(same)
    for first, second in pairs:
        low, high = sorted((find(first), find(second)))
        root.setdefault(low, low)
        root[high] = low
    return {i: find(i) for pair in pairs for i in pair}


class TimedLink(NamedTuple):
    """An instant (µs) at which an anonymous id was seen with a person."""

    at: int
    uid: str
    lead: uuid.UUID


def nearest(links: Sequence[TimedLink], at: int) -> uuid.UUID:
    """The lead of the last link at or before `at`, else of the first after; `links` sorted, not
    empty.
    """
    index = bisect_right(links, at, key=lambda link: link.at)
    return links[max(index - 1, 0)].lead


class Span(NamedTuple):
    """Instants from `since` to before `until` (µs), at which the nearest link was the one lead's
    and is the other's.
    """

    since: int
    until: int
    old: uuid.UUID
    new: uuid.UUID


def passed_on(
    before: Sequence[TimedLink], after: Sequence[TimedLink], changed: Iterable[int]
) -> list[Span]:
    """The spans in which another lead's link is nearest than before, where links came or went at
    the instants `changed`.

    Of both lists, sorted and not empty, the first link of all and those around the changed
    instants are enough.
    """
    instants = sorted({link.at for link in (*before, *after)})
    spans = [Span(BEFORE_ALL, instants[0], before[0].lead, after[0].lead)]
    for at in sorted(set(changed)):
        index = bisect_right(instants, at)
        until = instants[index] if index < len(instants) else AFTER_ALL
        spans.append(Span(at, until, nearest(before, at), nearest(after, at)))
    return [span for span in spans if span.old != span.new]


def reviews(
    links: Mapping[int, set[int]], nodes: Mapping[int, Node], same: set[tuple[int, int]]
) -> list[tuple[int, list[int]]]:
    """(address or external id, its several users): what a person should judge."""
    groups = _groups(same)
    found = []
    for weak, strong in links.items():
        users = {groups.get(i, i) for i in strong if nodes[i].kind is Kind.USER}
        if len(users) > 1 and nodes[weak].kind in (Kind.EMAIL, Kind.EXTERNAL):
            found.append((weak, sorted(users)))
    return found
