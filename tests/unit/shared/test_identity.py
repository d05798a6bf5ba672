"""Who an event belongs to: the rules of identity as functions of links and verdicts (D1,
D2, D6).
"""

import random
import time
import uuid
from collections import Counter
from collections.abc import Iterable

import pytest

from services.scorer.identity.neighbourhood import new_lead_ids
from services.scorer.identity.rules import Graph, Node, TimedLink, assign, nearest, reviews
from services.shared.contracts.event_types import TOUCH_SENT
from services.shared.contracts.events import TOUCH_SYSTEM, ExternalId, Interaction
from services.shared.contracts.identity import Cleaner, Identifier, Kind
from services.shared.messaging.kafka.records import partition_of
from services.shared.playbook.sections import Playbook

KINDS = {"u": Kind.USER, "e": Kind.EMAIL, "x": Kind.EXTERNAL, "a": Kind.ANONYMOUS, "r": Kind.ROLE}


class Town:
    """Identifiers named by kind and number (u1, e1, x1, a1), decided again whenever a link or
    verdict comes.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.ids = {name: number for number, name in enumerate(names)}
        self.nodes = {i: Node(i, KINDS[name[0]], name, None, None) for name, i in self.ids.items()}
        self.links: dict[int, set[int]] = {}
        self.same: set[tuple[int, int]] = set()
        self.new_leads = 0
        self.split: dict[int, frozenset[uuid.UUID]] = {}

    def link(self, *pairs: str) -> "Town":
        """`a1>u1`: the weaker is seen with the stronger."""
        for pair in pairs:
            weak, strong = (self.ids[name] for name in pair.split(">"))
            self.links.setdefault(weak, set()).add(strong)
        return self.decide()

    def unlink(self, pair: str) -> "Town":
        weak, strong = (self.ids[name] for name in pair.split(">"))
        self.links[weak].discard(strong)
        return self.decide()

    def judge(self, one: str, other: str, same: bool = True) -> "Town":
        low, high = sorted((self.ids[one], self.ids[other]))
        self.same = self.same | {(low, high)} if same else self.same - {(low, high)}
        return self.decide()

    def decide(self) -> "Town":
        self.split = assign(Graph(self.nodes, self.links, self.same), self.nodes, self._new_lead)
        return self

    def _new_lead(self, _: Node) -> uuid.UUID:
        self.new_leads += 1
        return uuid.UUID(int=self.new_leads)

    def lead(self, name: str) -> uuid.UUID | None:
        return self.nodes[self.ids[name]].lead

    def together(self, *names: str) -> bool:
        return len({self.lead(name) for name in names}) == 1 and self.lead(names[0]) is not None

    def to_review(self) -> list[tuple[str, list[str]]]:
        name_of = {i: name for name, i in self.ids.items()}
        found = reviews(self.links, self.nodes, self.same)
        return sorted((name_of[weak], sorted(name_of[i] for i in strong)) for weak, strong in found)


def test_a_user_is_a_person_and_what_is_linked_to_one_alone_is_theirs() -> None:
    town = Town(["u1", "u2", "e1", "x1", "a1", "a2"]).link("e1>u1", "x1>e1", "a1>x1")
    assert town.together("u1", "e1", "x1", "a1")
    assert len({town.lead(name) for name in ("u1", "u2", "a2")}) == 3


def test_an_address_of_two_users_stays_by_itself_and_goes_to_review() -> None:
    """D2: two identified leads are never merged silently."""
    town = Town(["u1", "u2", "e1", "a1"]).link("e1>u1", "a1>e1")
    assert town.together("u1", "e1", "a1")
    assert town.to_review() == []
    town.link("e1>u2")
    assert len({town.lead(name) for name in ("u1", "u2", "e1")}) == 3
    assert town.together("e1", "a1")
    assert town.to_review() == [("e1", ["u1", "u2"])]


def test_an_external_id_of_two_users_likewise() -> None:
    """D6."""
    town = Town(["u1", "u2", "x1"]).link("x1>u1", "x1>u2")
    assert len({town.lead(name) for name in ("u1", "u2", "x1")}) == 3
    assert town.to_review() == [("x1", ["u1", "u2"])]


def test_an_address_that_loses_its_second_user_goes_back_to_the_first() -> None:
    town = Town(["u1", "u2", "e1"]).link("e1>u1", "e1>u2")
    alone = town.lead("e1")
    assert town.unlink("e1>u2").together("u1", "e1")
    assert town.to_review() == []
    assert town.link("e1>u2").lead("e1") not in (alone, town.lead("u1"), town.lead("u2"))


@pytest.mark.parametrize(
    ("people", "splits"), [(1, False), (2, True), (3, True), (4, False), (5, False)]
)
def test_an_anonymous_id_of_two_or_three_is_split_by_time_and_above_three_shared(
    people: int, splits: bool
) -> None:
    users = [f"u{n}" for n in range(people)]
    town = Town([*users, "a1"]).link(*(f"a1>{user}" for user in users))
    a1 = town.ids["a1"]
    if splits:
        assert town.lead("a1") is None
        assert town.split == {a1: frozenset(town.lead(user) for user in users)}
    else:
        assert town.split == {}
        assert (town.lead("a1") in {town.lead(user) for user in users}) is (people == 1)
    assert len({town.lead(user) for user in users}) == people


def test_people_count_and_not_identifiers() -> None:
    """Four addresses of one user do not make an anonymous id shared."""
    addresses = [f"e{n}" for n in range(4)]
    town = Town(["u1", *addresses, "a1"]).link(
        *(f"{e}>u1" for e in addresses), *(f"a1>{e}" for e in addresses)
    )
    assert town.together("u1", "a1", *addresses)


def test_a_verdict_joins_users_and_all_that_is_theirs_and_can_be_taken_back() -> None:
    town = Town(["u1", "u2", "u3", "e1", "a1", "a2"]).link("e1>u1", "e1>u2", "a1>u1", "a2>u2")
    before = {name: town.lead(name) for name in town.ids}
    town.judge("u2", "u1")
    assert town.together("u1", "u2", "e1", "a1", "a2")
    assert town.to_review() == []
    assert town.lead("u3") == before["u3"]
    town.judge("u3", "u2")
    assert town.together("u1", "u2", "u3")
    town.judge("u3", "u2", same=False).judge("u2", "u1", same=False)
    assert len({town.lead(name) for name in ("u1", "u2", "u3", "e1")}) == 4
    assert town.together("u1", "a1")
    assert town.together("u2", "a2")
    assert town.to_review() == [("e1", ["u1", "u2"])]
    assert town.lead("u1") == before["u1"]


def test_deciding_again_changes_nothing() -> None:
    town = Town(["u1", "u2", "e1", "e2", "x1", "a1", "a2"]).link(
        "e1>u1", "e2>u2", "x1>e2", "a1>e1", "a1>x1", "a2>u1"
    )
    before = {i: (node.lead, node.own_lead) for i, node in town.nodes.items()}
    assert {i: (node.lead, node.own_lead) for i, node in town.decide().nodes.items()} == before


@pytest.mark.parametrize("seed", range(30))
def test_the_order_of_links_and_verdicts_does_not_matter(seed: int) -> None:
    """The same links and verdicts make the same groups, whatever came first."""
    rng = random.Random(seed)
    names = [f"{kind}{n}" for kind in "uexa" for n in range(3)]
    facts = []
    for _ in range(14):
        weak, strong = sorted(rng.sample(names, 2), key=lambda name: -KINDS[name[0]])
        if KINDS[weak[0]] > KINDS[strong[0]] or weak[0] == "u":
            facts.append((weak, strong))

    def groups(
        order: list[tuple[str, str]],
    ) -> tuple[set[frozenset[str]], dict[str, set[frozenset[str]]]]:
        town = Town(names)
        for one, other in order:
            town = town.judge(one, other) if one[0] == other[0] else town.link(f"{one}>{other}")
        by_lead: dict[object, set[str]] = {}
        for name in names:
            by_lead.setdefault(town.lead(name) or name, set()).add(name)
        whole = {lead: frozenset(group) for lead, group in by_lead.items()}
        name_of = {i: name for name, i in town.ids.items()}
        split = {name_of[i]: {whole[lead] for lead in found} for i, found in town.split.items()}
        return set(whole.values()), split

    first = groups(facts)
    for _ in range(5):
        rng.shuffle(facts)
        assert groups(facts) == first


def test_the_nearest_link_is_the_last_before_else_the_first_after() -> None:
    one, two, three = (uuid.UUID(int=n) for n in (1, 2, 3))
    links = [TimedLink(10, "a", one), TimedLink(20, "a", two), TimedLink(20, "b", three)]
    found = {at: nearest(links, at) for at in (0, 9, 10, 19, 20, 99)}
    assert found == {0: one, 9: one, 10: one, 19: one, 20: three, 99: three}


# -- words that identify --------------------------------------------------------------------------


@pytest.fixture
def cleaner(default_playbook: Playbook) -> Cleaner:
    return Cleaner(default_playbook.identity)


def named(cleaner: Cleaner, **fields: object) -> list[Identifier]:
    return cleaner.identifiers(Interaction(**({"id": "1", "type": "page_viewed"} | fields)))  # type: ignore[arg-type]


def test_identifiers_come_strongest_first_and_clean(cleaner: Cleaner) -> None:
    found = named(
        cleaner,
        anonymous_id=" c ",
        email=" Ann@Firm.Example",
        user_id=" U7 ",
        external_id=ExternalId(" CRM ", " 9 "),
    )
    assert found == [
        Identifier(Kind.USER, "U7"),
        Identifier(Kind.EMAIL, "ann@firm.example"),
        Identifier(Kind.EXTERNAL, "9", "crm"),
        Identifier(Kind.ANONYMOUS, "c")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "junk", ["null", "NULL", " guest ", "0", "-", "undefined", "[object Object]", "", "N/A"]
)
def test_junk_identifies_nobody(cleaner: Cleaner, junk: str) -> None:
    """D2."""
    external = ExternalId("crm", junk)
    assert named(cleaner, user_id=junk, email=junk, anonymous_id=junk, external_id=external) == []
    assert named(cleaner, user_id=junk, anonymous_id="c") == [Identifier(Kind.ANONYMOUS, "c")]


@pytest.mark.parametrize(
    "email",
    ["info@firm.example", "INFO@firm.example", "sales+x@firm.example", "no-reply@firm.example"],
)
def test_a_role_address_stands_alone_and_links_nothing(cleaner: Cleaner, email: str) -> None:
    assert named(cleaner, email=email, anonymous_id="c", external_id=ExternalId("crm", "9")) == [
        Identifier(Kind.ROLE, email.lower())
    ]
    assert named(cleaner, email=email, user_id="u", anonymous_id="c") == [
        Identifier(Kind.USER, "u"),
        Identifier(Kind.ANONYMOUS, "c"),
    ]


@pytest.mark.parametrize(
    "email",
    [
        "ann",
        "ann@",
        "@firm.example",
        "ann@firm",
        "a b@firm.example",
        "a@b.example,c@d.example",
        f"{'a' * 250}@b.example",
    ],
)
def test_what_is_no_address_is_none(cleaner: Cleaner, email: str) -> None:
    assert named(cleaner, email=email) == []


def test_a_system_cannot_pass_for_another_one_by_a_separator(cleaner: Cleaner) -> None:
    assert named(cleaner, external_id=ExternalId("crm\t9", "1")) == []
    [found] = named(cleaner, external_id=ExternalId("crm", "9\t1"))
    assert Identifier.from_text(found.kind, found.text) == found


def test_a_touch_ties_an_answer_to_its_recipient_only_where_nothing_else_does(
    cleaner: Cleaner,
) -> None:
    touch = Identifier(Kind.EXTERNAL, "t1", TOUCH_SYSTEM)
    assert named(cleaner, touch_id="t1", anonymous_id="c") == [
        touch,
        Identifier(Kind.ANONYMOUS, "c"),
    ]
    assert named(cleaner, touch_id="t1", email="a@b.example") == [
        Identifier(Kind.EMAIL, "a@b.example")
    ]
    assert named(cleaner, type=TOUCH_SENT, touch_id="t1", email="a@b.example") == [
        Identifier(Kind.EMAIL, "a@b.example"),
        touch,
    ]


def test_ids_of_new_leads_differ_rise_with_time_and_say_their_version() -> None:
    first = new_lead_ids(500)
    time.sleep(0.002)
    second = new_lead_ids(500)
    assert len({*first, *second}) == 1000
    assert max(first) < min(second)
    assert {(one.version, one.variant) for one in first} == {(7, uuid.RFC_4122)}


def test_ids_of_new_leads_spread_over_the_partitions_of_a_topic() -> None:
    """Their first digits are the time, so the last ones choose."""
    shares = Counter(partition_of(str(one), 8) for one in new_lead_ids(4000))
    assert len(shares) == 8
    assert max(shares.values()) < 1.3 * min(shares.values())
