"""The report on the learned choice says when it is not worth it (N10)."""

import random

import pytest

from services.nurture.rules.comparison import LEAST, Drawn, compare
from services.nurture.rules.learned import Cell, Evidence, Outcomes, draw

CELL = Cell("awareness", "")


def simulated(chances: dict[str, dict[bool, float]], seed: int, learned: bool) -> list[Drawn]:
    """2,000 touches to readers of two kinds, of which the choice knows the kind where it learns."""
    draws = random.Random(seed)
    found, known = [], {}
    for n in range(2_000):
        kind = draws.random() < 0.5
        cell = Cell("s", str(kind)) if learned else CELL
        evidence = Evidence({name: dict(known.get(name, {})) for name in chances})
        names, plain = [*chances], [False] * len(chances)
        place, propensity = draw(evidence, cell, names, plain, f"{seed}{n}")
        name = names[place]
        reward = float(draws.random() < chances[name][kind])
        found.append(Drawn(name, propensity, reward))
        before = known.setdefault(name, {}).get(cell, Outcomes())
        known[name][cell] = Outcomes(before.sent + 1, before.reward + reward)
    return found


def test_where_one_item_is_best_for_all_learning_does_not_beat_it() -> None:
    chances = {"a": {False: 0.3, True: 0.3}, "b": {False: 0.1, True: 0.1}}
    found = compare(simulated(chances, 1, learned=True))
    assert found.best
    assert (found.best.content, found.verdict) == ("a", "not better")
    assert "does not beat the best single item" in found.sentence
    assert abs(found.best.mean - 0.3) < 5 * found.best.error + 0.01


def test_where_readers_differ_and_the_choice_knows_it_learning_wins() -> None:
    chances = {"a": {False: 0.6, True: 0.05}, "b": {False: 0.05, True: 0.6}}
    found = compare(simulated(chances, 2, learned=True))
    assert found.verdict == "better"
    blind = compare(simulated(chances, 2, learned=False))
    assert blind.verdict == "not better"


def test_of_a_few_touches_nothing_is_said() -> None:
    drawn = [Drawn("a", 0.5, 1.0)] * (LEAST - 1)
    assert compare(drawn).verdict == compare([]).verdict == "too little"
    assert "too little is known" in compare(drawn).sentence


def test_an_unlucky_propensity_is_weighed_out() -> None:
    """Readers who progress anyway got `a` rarely: its plain mean is too low."""
    drawn = [Drawn("a", 0.1, 1.0)] * 40 + [Drawn("a", 0.9, 0.0)] * 360
    (value,) = compare(drawn).items
    assert value.mean == pytest.approx(0.5)
