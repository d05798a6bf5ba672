"""The learned choice: Thompson sampling against its closed form (N10)."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import betaln

from services.nurture.rules.decision import Send
from services.nurture.rules.learned import (
    DRAWS,
    FLOOR,
    NO_EVIDENCE,
    Beta,
    Cell,
    Evidence,
    Outcomes,
    draw,
    posterior,
    probabilities,
)
from tests.support.nurture import NOW, decide, item, lead, program, trigger

CELL, OTHER = Cell("awareness", "buyer"), Cell("decision", "buyer")


def is_greater(one: Beta, other: Beta) -> float:
    """P(X > Y) of two independent beta variables, for a whole `a` of X: the closed form of Evan
    Miller, "Formulas for Bayesian A/B Testing".
    """
    return sum(
        math.exp(
            betaln(other.a + i, one.b + other.b)
            - math.log(one.b + i)
            - betaln(1 + i, one.b)
            - betaln(other.a, other.b)
        )
        for i in range(round(one.a))
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Beta(1, 1), Beta(1, 1)), (Beta(5, 20), Beta(3, 30)), (Beta(2, 50), Beta(9, 60)),
        (Beta(40, 60), Beta(35, 65)), (Beta(1, 200), Beta(30, 10)),
    ],
)  # fmt: skip
def test_of_two_items_each_is_drawn_as_often_as_the_closed_form_says(
    one: Beta, other: Beta
) -> None:
    """N10: but for the floor."""
    exact = is_greater(one, other)
    seeds = [f"touch {n}" for n in range(40)]
    plain = np.ones(2)
    found = np.mean([probabilities([one, other], plain, seed) for seed in seeds], axis=0)
    expected = FLOOR + (1 - 2 * FLOOR) * np.array([exact, 1 - exact])
    deviation = math.sqrt(max(exact * (1 - exact), 1e-4) / (DRAWS * len(seeds)))
    assert np.abs(found - expected).max() < 5 * deviation + 1e-3


def test_the_propensity_is_how_often_an_item_is_chosen() -> None:
    evidence = Evidence({"a": {CELL: Outcomes(50, 10)}, "b": {CELL: Outcomes(50, 6)}})
    chosen = [draw(evidence, CELL, ["a", "b"], [False, False], f"t{n}") for n in range(1500)]
    share = np.mean([place == 0 for place, _ in chosen])
    propensity = np.mean([p if place == 0 else 1 - p for place, p in chosen])
    assert abs(share - propensity) < 5 * math.sqrt(0.25 / len(chosen))
    assert 0.6 < share < 0.99


def test_a_choice_is_decided_by_the_id_of_its_touch() -> None:
    """A crash in the middle of a decision changes nothing."""
    evidence = Evidence({"a": {CELL: Outcomes(9, 3)}})
    for n in range(20):
        first, again = (draw(evidence, CELL, list("abc"), [False] * 3, str(n)) for _ in range(2))
        assert first == again
    assert len({draw(evidence, CELL, list("abc"), [False] * 3, str(n))[0] for n in range(60)}) == 3


@pytest.mark.parametrize("count", [2, 5, 40])
def test_nothing_is_ever_out_of_the_question(count: int) -> None:
    strong = Evidence({"i0": {CELL: Outcomes(5_000, 4_900)}})
    names = [f"i{n}" for n in range(count)]
    believed = [posterior(strong, CELL, name) for name in names]
    shares = probabilities(believed, np.ones(count), "seed")
    assert shares.min() >= min(FLOOR, 1 / (2 * count)) - 1e-12
    assert shares.sum() == pytest.approx(1)
    assert shares[0] > 0.45


def test_what_is_known_of_an_item_elsewhere_counts_where_nothing_is_known_here() -> None:
    evidence = Evidence({"a": {OTHER: Outcomes(100, 40)}, "b": {OTHER: Outcomes(100, 5)}})
    a, b = posterior(evidence, CELL, "a"), posterior(evidence, CELL, "b")
    assert a.a / (a.a + a.b) > 0.3 > 0.1 > b.a / (b.a + b.b)
    own = Evidence({"a": {OTHER: Outcomes(100, 40), CELL: Outcomes(400, 4)}})
    c = posterior(own, CELL, "a")
    assert c.a / (c.a + c.b) < 0.05, "much of its own outweighs it"


@pytest.mark.parametrize("choice", ["author", "learned"])
def test_a_program_keeps_its_authors_order_unless_it_says_that_it_learns(
    make: Any, choice: str
) -> None:
    items = [item(name) for name in "abcd"]
    rules = make(*items, programs=[program(*"abcd", choice=choice)])
    found = [
        decide(rules, lead(), trigger(), rules.playbook.programs[0], NOW, None, f"t{n}")
        for n in range(30)
    ]
    sends = [one for one in found if isinstance(one, Send)]
    assert len(sends) == 30
    if choice == "author":
        assert {(one.content.id, one.propensity) for one in sends} == {("a", 1.0)}
    else:
        assert len({one.content.id for one in sends}) > 1
        assert all(0 < one.propensity < 1 for one in sends)
    assert rules.library.evidence == NO_EVIDENCE
