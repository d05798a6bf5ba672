"""Which programs answer, and which content suits a lead (N1-N4, N9, N13)."""

from datetime import date
from typing import Any

import pytest

from services.shared.playbook.sections import Persona
from tests.support.nurture import NOW, asking, chosen, item, lead, program, trigger


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        (["cost"], "b"), (["cost", "t"], "a"), (["t"], "a"), (None, "a"), ("cost", "b"),
        ([], "preference"), ("", "preference"), ("none", "preference"), (7, "preference"),
        (["else"], "preference"), ("Cost ; else", "b"), ("all", "a"), ('["T"]', "a"),
    ],
)  # fmt: skip
def test_only_chosen_topics_are_offered(make: Any, topics: object, expected: str) -> None:
    """N9."""
    assert chosen(make(item("a"), item("b", topic="cost")), asking(mail_topics=topics)) == expected


def test_what_was_seen_is_not_repeated_and_the_next_item_follows(make: Any) -> None:
    """N3: content that the lead found by itself counts like what we sent."""
    rules = make(item("a"), item("b"), item("c"))
    assert chosen(rules, lead(seen=frozenset({"a"}))) == "b"
    assert chosen(rules, lead(seen=frozenset({"b"}))) == "a"
    assert chosen(rules, lead(seen=frozenset("abc"))) == "nothing_suitable"


def test_prerequisites_come_first(make: Any) -> None:
    """N2."""
    rules = make(item("c", prerequisites=["a", "b"]), item("a"), item("b"))
    assert chosen(rules, lead()) == "a"
    assert chosen(rules, lead(seen=frozenset({"a"}))) == "b"
    assert chosen(rules, lead(seen=frozenset({"a", "b"}))) == "nothing_suitable"
    assert chosen(rules, lead(seen=frozenset({"a", "b"}), done={"a": NOW, "b": NOW})) == "c"


@pytest.mark.parametrize(
    ("stage", "reach"),
    [("status_quo", 0), ("awareness", 1), ("consideration", 2), ("decision", 2), ("customer", 3)],
)
def test_commercial_distance_shrinks_with_the_stage(make: Any, stage: str, reach: int) -> None:
    """N1, N2, N8: nobody unaware gets what sells, and before the hand-off nobody an offer."""
    every = ["status_quo", "awareness", "consideration", "decision", "customer"]
    for distance in range(4):
        rules = make(
            item("a", stages=every, distance=distance), programs=[program("a", stages=every)]
        )
        assert chosen(rules, lead(stage=stage), stage) == (
            "a" if distance <= reach else "nothing_suitable"
        )


@pytest.mark.parametrize(
    ("handoff", "expected"), [("", "a"), ("rejected", "a"), ("open", None), ("next", None)]
)
def test_an_offer_waits_while_a_hand_off_is_open(make: Any, handoff: str, expected: str) -> None:
    """N8: also where sales has once worked with the lead."""
    offer = item("a", stages=["decision"], distance=3)
    rules = make(offer, programs=[program("a", stages=["decision"])])
    known = lead(stage="decision", sales_status="lost", handoff=handoff)
    assert chosen(rules, known, "decision") == (expected or "nothing_suitable")


def test_an_item_for_another_stage_is_not_offered(make: Any) -> None:
    """N1."""
    rules = make(item("a", stages=["decision"]), item("b", stages=["consideration", "awareness"]))
    assert chosen(rules, lead()) == "b"


@pytest.mark.parametrize(
    ("fields", "traits", "fits"),
    [
        ({"language": "de"}, {}, False),
        ({"language": "de-AT"}, {"language": "DE"}, True),
        ({"language": "en"}, {"language": "en-GB"}, True),
        ({"countries": ["GB", "ie"]}, {"country": "gb"}, True),
        ({"countries": ["GB"]}, {"country": "FR"}, False),
        ({"countries": ["GB"]}, {}, False),
        ({"valid_until": date(2026, 5, 13)}, {}, True),
        ({"valid_until": date(2026, 5, 12)}, {}, False),
        ({"products": ["default"]}, {}, True),
        ({"products": ["other"]}, {}, False),
        ({"personas": ["buyer"]}, {"title": "CFO"}, True),
        ({"personas": ["buyer"]}, {"title": "Fitter"}, False),
        ({"service": True}, {}, False),
    ],
)
def test_language_country_date_product_and_persona_must_match(
    make: Any, fields: dict[str, Any], traits: dict[str, Any], fits: bool
) -> None:
    """N13."""
    assert chosen(make(item("a", **fields)), lead(traits=traits)) == (
        "a" if fits else "nothing_suitable"
    )


def test_only_live_programs_of_the_stage_product_and_persona_answer(make: Any) -> None:
    """N4."""
    every = [
        program("a", id="draft", state="draft"), program("a", id="test", state="test"),
        program("a", id="one"),
        program("a", id="stage", stages=["decision"]), program("a", id="product", product="other"),
        program("a", id="persona", personas=["buyer"]), program("a", id="two"),
    ]  # fmt: skip
    rules = make(item("a"), programs=every)

    def answering(**traits: str) -> list[str]:
        return [found.id for found in rules.library.programs(lead(traits=traits), trigger())]

    assert answering() == ["one", "two"]
    assert answering(title="CEO") == ["one", "persona", "two"]
    assert rules.library.programs(lead(), trigger("status_quo")) == []


def test_the_first_persona_that_matches_wins_and_the_last_takes_the_rest(make: Any) -> None:
    personas = [
        Persona(id="chief", name="c", trait="title", matches="chief"),
        Persona(id="any", name="a", trait="title", matches="."),
        Persona(id="rest", name="r"),
    ]
    rules = make(item("a"), personas=personas)
    found = [
        rules.library.persona(traits).id
        for traits in ({"title": "Chief cook"}, {"title": "Cook"}, {"title": ""}, {})
    ]
    assert found == ["chief", "any", "rest", "rest"]
