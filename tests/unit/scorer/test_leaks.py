"""Columns that are filled after the outcome: four disguises that the rule sees, one that it cannot,
and honest columns.
"""

from collections.abc import Callable

import numpy as np
import pytest

from services.scorer.learning import leaks
from services.scorer.learning.attributes import column
from tests.support import tables

N = 4_000
Disguise = Callable[[np.random.Generator, bool], str]


def won_amount(rng: np.random.Generator, won: bool) -> str:
    """A number that is nearly always far higher where there was a deal."""
    return f"{rng.normal(1000 if won else 100, 100):.0f}"


def contract(rng: np.random.Generator, won: bool) -> str:
    """Filled only where there was a deal; differs in every row."""
    return f"C-{rng.integers(10**9)}" if won and rng.random() < 0.4 else ""


def feedback(rng: np.random.Generator, won: bool) -> str:
    """Words of one side, asked more often of customers."""
    if rng.random() > (0.9 if won else 0.5):
        return "Select"
    return str(rng.choice(["welcome call held", "likes it"] if won else ["wrong number", "busy"]))


def tags(rng: np.random.Generator, won: bool) -> str:
    """Words of one side and of both, filled alike, under a telling name."""
    if rng.random() < 0.6:
        return "Interested"
    return str(rng.choice(["Closed"] if won else ["Ringing", "Already a student", "Switched off"]))


def grade(rng: np.random.Generator, won: bool) -> str:
    """What sales wrote down afterwards, of which every value occurs on both sides."""
    return str(rng.choice(["A", "B", "C"], p=[0.5, 0.3, 0.2] if won else [0.2, 0.3, 0.5]))


@pytest.fixture(scope="module")
def honest() -> tuple[tables.Columns, np.ndarray]:
    return tables.leads(N)


def judged(name: str, cells: list[str], outcome: np.ndarray, *kept: str) -> leaks.Findings:
    return leaks.find([column(name, cells)], outcome, frozenset(kept))


@pytest.mark.parametrize(
    ("name", "disguise", "reason"),
    [
        ("amount", won_amount, "nearly everything"),
        ("contract", contract, "filled for 4"),
        ("feedback", feedback, "one side of the outcome alone, and it is filled"),
        ("leadStatus", tags, "its name is of what is written afterwards"),
    ],
)
def test_a_leak_that_the_rule_sees_is_refused(
    name: str, disguise: Disguise, reason: str, honest: tuple[tables.Columns, np.ndarray]
) -> None:
    rng, (_, outcome) = np.random.default_rng(1), honest
    cells = [disguise(rng, bool(won)) for won in outcome]
    found = judged(name, cells, outcome)
    assert [each.column for each in found.refused] == [name]
    assert reason in found.refused[0].reason
    assert 0.5 < found.refused[0].auc_alone <= 1
    assert judged(name, cells, outcome, name) == leaks.Findings([], [])


def test_words_of_one_side_alone_are_only_suspect_under_another_name(
    honest: tuple[tables.Columns, np.ndarray],
) -> None:
    rng, (_, outcome) = np.random.default_rng(1), honest
    found = judged("remark", [tags(rng, bool(won)) for won in outcome], outcome)
    assert [each.column for each in found.suspect] == ["remark"]


def test_a_leak_that_looks_like_an_honest_column_is_not_seen(
    honest: tuple[tables.Columns, np.ndarray],
) -> None:
    """The limit of any rule without times, which docs/learning.md declares."""
    rng, (_, outcome) = np.random.default_rng(1), honest
    cells = [grade(rng, bool(won)) for won in outcome]
    assert judged("grade", cells, outcome) == leaks.Findings([], [])


def test_honest_columns_are_kept_strong_ones_too(
    honest: tuple[tables.Columns, np.ndarray],
) -> None:
    columns, outcome = honest
    for name, cells in columns.items():
        assert judged(name, cells, outcome) == leaks.Findings([], []), name
    rng = np.random.default_rng(2)
    strong = [f"{rng.normal(2.2 if won else 0):.2f}" for won in outcome]
    found = judged("hours of use", strong, outcome)
    assert not found.refused
    assert "alone it predicts much" in found.suspect[0].reason


def test_what_is_filled_alike_with_codes_of_one_side_is_refused_by_its_name(
    honest: tuple[tables.Columns, np.ndarray],
) -> None:
    """Codes are categories, though they are numbers."""
    rng, (_, outcome) = np.random.default_rng(3), honest
    codes = [
        str(1 if rng.random() < 0.5 else rng.choice([7, 8] if won else [3, 4])) for won in outcome
    ]
    assert [each.column for each in judged("result code", codes, outcome).refused] == [
        "result code"
    ]
