"""Who an event belongs to: a function of the set of links and verdicts, never of arrival.

A `user_id` is a person. An address or external id belongs to the one person that it is linked to,
and stays by itself where there are none or several. An anonymous id's events belong to the person
of its nearest link in time; linked to more than three people it is shared and joins nobody. Links
run from the weaker identifiers of an event to its strongest.
"""

import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from services.shared.contracts.identity import Kind

SHARED_ABOVE = 3


@dataclass
class Node:
    """An identifier: the lead its events belong to (None where they are split by time), and the
    lead it had alone.
    """

    id: int
    kind: Kind
    value: str
    lead: uuid.UUID | None
    home: uuid.UUID | None


class Split(NamedTuple):
    """Leads of an anonymous id that was linked to two or three people."""

    leads: frozenset[uuid.UUID]


@dataclass
class Graph:
    """The neighbourhood of what is to be decided: nodes, links weak → strong, and pairs of users
    judged the same.
    """

    nodes: dict[int, Node] = field(default_factory=dict)
    links: dict[int, set[int]] = field(default_factory=dict)
    same: set[tuple[int, int]] = field(default_factory=set)


def assign(
    graph: Graph, undecided: Iterable[int], mint: Callable[[Node], uuid.UUID]
) -> dict[int, Split]:
    """Sets `lead` and `home` of the undecided nodes, strongest kinds first; returns those that are
    split by time.

    The others of the graph keep what they have.
    """
    split: dict[int, Split] = {}
    order = sorted(
        {graph.nodes[i].id for i in undecided},
        key=lambda i: (graph.nodes[i].kind, graph.nodes[i].value),
    )
    groups = _groups(graph)
    for i in order:
        node = graph.nodes[i]
        if node.kind is Kind.USER:
            node.lead = _own(graph.nodes[groups.get(i, i)], mint)
            continue
        people = {lead for strong in graph.links.get(i, ()) if (lead := graph.nodes[strong].lead)}
        if len(people) == 1:
            node.lead = next(iter(people))
        elif node.kind is Kind.ANONYMOUS and 1 < len(people) <= SHARED_ABOVE:
            node.lead = None
            split[i] = Split(frozenset(people))
        else:
            node.lead = _own(node, mint)
    return split


def _own(node: Node, mint: Callable[[Node], uuid.UUID]) -> uuid.UUID:
    """The node's own lead; a new one where it has lived with others since."""
    if node.home is None or node.lead != node.home:
        node.home = mint(node)
    node.lead = node.home
    return node.home


def _groups(graph: Graph) -> dict[int, int]:
    """The representative of each user that a verdict joined to others: the least id of its
    group.
    """
    root: dict[int, int] = {}

    def find(i: int) -> int:
        while root.get(i, i) != i:
            i = root[i]
        return i

    for one, other in graph.same:
        a, b = sorted((find(one), find(other)))
        root.setdefault(a, a)
        root[b] = a
    return {i: find(i) for pair in graph.same for i in pair}


class TimedLink(NamedTuple):
    """An instant at which an anonymous id was seen with a person."""

    at: int
    uid: str
    lead: uuid.UUID


def nearest(links: list[TimedLink], at: int) -> uuid.UUID:
    """The lead of the last link at or before `at`, else of the first after; `links` sorted by (at,
    uid), not empty.
    """
    index = bisect_right(links, at, key=lambda link: link.at)
    return links[max(index - 1, 0)].lead


def reviews(
    links: Mapping[int, set[int]], nodes: Mapping[int, Node], same: set[tuple[int, int]]
) -> list[tuple[int, list[int]]]:
    """(address or external id, its several users): what a person should judge."""
    groups = _groups(Graph(dict(nodes), dict(links), same))
    found = []
    for weak, strong in links.items():
        users = {groups.get(i, i) for i in strong if nodes[i].kind is Kind.USER}
        if len(users) > 1 and nodes[weak].kind in (Kind.EMAIL, Kind.EXTERNAL):
            found.append((weak, sorted(users)))
    return found
