"""Who owns each event, worked out from the whole set in the words of the rules; independent of the
product's own code.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from services.scorer.processing.decoding import from_interaction, from_touch
from services.scorer.records import IncomingEvent
from services.shared.contracts.events import INTERACTIONS, ExternalId, Interaction, decode_touch
from services.shared.contracts.identity import Cleaner, Identifier, Kind
from services.shared.messaging.kafka import Record
from tests.support.histories import BASE, DAY, TYPES, Occurrence

Owner = tuple[str, Any]


def tangled(rng: random.Random, people: int, length: int) -> list[Occurrence]:
    """People whose identifiers meet wrongly more often than not: shared cookies, verdicts, repeated
    ids, role addresses.
    """
    users, emails = (
        [f"u{i}" for i in range(people)],
        [f"p{i}@firm{i % 2}.example" for i in range(people)],
    )
    cookies = [f"a{i}" for i in range(max(2, people // 2))]

    def interaction(id: str) -> Interaction:
        i, j, cookie, pick = (
            rng.randrange(people),
            rng.randrange(people),
            rng.choice(cookies),
            rng.random(),
        )
        if pick < 0.12:
            other = rng.choice([user for user in users if user != users[i]])
            verdict = {"other_user_id": other, "verdict": rng.choice(["same", "same", "different"])}
            return Interaction(
                id=id, type="identity_reviewed", user_id=users[i], properties=verdict
            )
        crm = {"external_id": ExternalId("crm", f"x{j}")}
        named: dict[str, Any] = rng.choice([
            {"anonymous_id": cookie}, {"anonymous_id": cookie}, {"anonymous_id": cookie,
            "user_id": users[i]},
            {"anonymous_id": cookie, "email": emails[i]}, {"user_id": users[i], "email": emails[j]},
            {"user_id": users[i], "email": emails[i]}, {"email": emails[i]}, {"user_id": users[i]},
            {"user_id": users[i], "email": emails[i], "anonymous_id": cookie}, crm,
            crm | {"email": emails[i]},
            crm | {"user_id": users[i]}, crm | {"anonymous_id": cookie},
            {"email": "info@firm0.example"},
            {"email": "info@firm0.example", "anonymous_id": cookie},
        ])  # fmt: skip
        return Interaction(id=id, type=rng.choice(TYPES), **named)

    out: list[Occurrence] = []
    for n in range(length):
        at = BASE + rng.randrange(60) * DAY // 2
        out.append(Occurrence(at, interaction(f"e{n}")))
        if rng.random() < 0.2:
            out.append(Occurrence(at + rng.choice([-DAY, 0, DAY]), interaction(f"e{n}")))
    return out


def shared(rng: random.Random, people: int, length: int) -> list[Occurrence]:
    """A cookie or two that a few people share at few instants, many of them at once, and bodies
    that lose to others.
    """

    def interaction(id: str) -> Interaction:
        user, cookie = f"u{rng.randrange(people)}", {"anonymous_id": f"a{rng.randrange(2)}"}
        named: dict[str, Any] = rng.choice([
            cookie, cookie, cookie, cookie | {"user_id": user}, cookie | {"user_id": user},
            cookie | {"email": f"p{user}@firm.example"}, {"user_id": user},
            {"user_id": user, "email": f"p{user}@firm.example"},
        ])  # fmt: skip
        return Interaction(id=id, type="page_viewed", **named)

    out = []
    for n in range(length):
        instants = rng.sample(range(8), k=rng.choice([1, 1, 2, 3]))
        out += [Occurrence(BASE + at * DAY, interaction(f"e{n}")) for at in instants]
    return out


def owners(records: Sequence[Record], cleaner: Cleaner) -> set[frozenset[str]]:
    """The events of each person, as sets of event ids."""
    events = _winners(records, cleaner)
    links: dict[Identifier, set[Identifier]] = defaultdict(set)
    for event in events:
        for weak in event.linked:
            links[weak].add(event.strongest)
    root = _groups(events)

    def owner(identifier: Identifier) -> Owner | None:
        """A user's group; the one person it is linked to; itself; None for a cookie of two or three
        people.
        """
        if identifier.kind is Kind.USER:
            return "user", root.get(identifier.value, identifier.value)
        people = {owner(strong) for strong in links.get(identifier, ())}
        if len(people) == 1:
            return people.pop()
        return (
            None
            if identifier.kind is Kind.ANONYMOUS and 1 < len(people) <= 3
            else ("alone", identifier)
        )

    found: dict[Owner, set[str]] = defaultdict(set)
    for event in events:
        whose = owner(event.strongest)
        if whose is None:
            seen = sorted(
                (e.at, e.uid, owner(e.strongest)) for e in events if event.strongest in e.linked
            )
            whose = ([link for link in seen if link[0] <= event.at] or seen[:1])[-1][2]
        assert whose is not None
        found[whose].add(event.uid)
    return {frozenset(uids) for uids in found.values()}


def _winners(records: Sequence[Record], cleaner: Cleaner) -> list[IncomingEvent]:
    """Of several bodies under one id the smaller."""
    best: dict[str, IncomingEvent] = {}
    for record in records:
        sent = (
            None
            if record.topic == INTERACTIONS
            else from_touch(decode_touch(record.value), cleaner)
        )
        event = from_interaction(record.value, cleaner) if record.topic == INTERACTIONS else sent
        if event and (event.uid not in best or event.rank < best[event.uid].rank):
            best[event.uid] = event
    return list(best.values())


def _groups(events: Sequence[IncomingEvent]) -> dict[str, str]:
    """A representative of each user that verdicts join to others; the last verdict on a
    pair holds.
    """
    last: dict[frozenset[str], tuple[int, str, bool]] = {}
    for event in events:
        other = event.data.properties.get("other_user_id")
        if event.data.type == "identity_reviewed" and other:
            pair = frozenset((event.strongest.value, other))
            last[pair] = max(
                last.get(pair, (-(1 << 62), "", False)),
                (event.at, event.uid, event.data.properties["verdict"] == "same"),
            )
    near: dict[str, set[str]] = defaultdict(set)
    for pair, (_, _, same) in last.items():
        if same:
            user, other = pair
            near[user].add(other)
            near[other].add(user)
    root: dict[str, str] = {}
    for user in sorted(near):
        front = [user]
        while front:
            here = front.pop()
            if here not in root:
                root[here] = user
                front += near[here]
    return root
