"""Who somebody is: points of fit and exclusions, each the same however often it is asked
(S1, D7).
"""

from typing import Any

import pytest

from services.scorer.model.exclusions import Exclusions
from services.scorer.model.score import FitScore
from services.shared.playbook.sections import Exclusion, Fit, FitRule

RULES = [
    FitRule(trait="title", matches="head|chief", points=10, why="decides"),
    FitRule(trait="title", matches="student", points=-70, why="studies"),
    FitRule(trait="size", at_least=50, at_most=500, points=5, why="our size"),
    FitRule(trait="country", one_of=["DE", "1"], points=3, why="near"),
    FitRule(trait="phone", present=True, points=1, why="can be called"),
    FitRule(trait="phone", present=False, points=-1, why="cannot be called"),
    FitRule(trait="role", matches="owner|ceo", ignoring="product owner", points=7, why="owns"),
    FitRule(trait="tags", matches="vip", points=40, why="important"),
]


@pytest.mark.parametrize(
    ("traits", "points"),
    [
        ({}, 49),
        ({"title": "Head of Sales"}, 59),
        ({"title": "head of the STUDENT union"}, 0),
        ({"role": "Owner"}, 56),
        ({"role": "Product Owner"}, 49),
        ({"role": "Product owner and CEO"}, 56),
        ({"size": 50}, 54),
        ({"size": "500"}, 54),
        ({"size": 501}, 49),
        ({"size": "many"}, 49),
        ({"country": " de "}, 52),
        ({"country": 1}, 52),
        ({"country": True}, 49),
        ({"country": 1.0}, 49),
        ({"country": "1"}, 52),
        ({"phone": "123", "colour": "blue"}, 51),
        ({"phone": ""}, 51),
        ({"tags": ["VIP", "new"]}, 89),
        ({"tags": ["vip"], "title": "chief", "size": 99, "country": "DE", "phone": 1}, 100),
    ],
)
def test_points_are_the_base_and_every_rule_that_holds_within_0_and_100(
    traits: dict[str, Any], points: float
) -> None:
    fit = FitScore(Fit(rules=RULES))
    assert [fit.points(traits) for _ in range(3)] == [points] * 3
    assert min(100, max(0, 50 + sum(worth for _, worth in fit.reasons(traits)))) == points


def test_what_was_asked_before_changes_no_answer() -> None:
    """Words are remembered; 1, 1.0 and True are equal to Python and are not the same trait."""
    fit = FitScore(Fit(rules=RULES))
    values = ["1", 1, 1.0, True, None, "de", "DE"]
    once = [fit.points({"country": value}) for value in values]
    assert [fit.points({"country": value}) for value in reversed(values)] == once[::-1]


EXCLUSIONS = Exclusions([
    Exclusion(reason="competitor", domains=["rival.example"], trait="company", one_of=["Rival",
    "Gear"]),
    Exclusion(reason="test", emails=["probe@firm.example"], domains=["firm.test"]),
    Exclusion(reason="partner", trait="relationship", one_of=["partner"]),
])  # fmt: skip


@pytest.mark.parametrize(
    ("emails", "traits", "reason"),
    [
        ([], {}, ""),
        (["a@firm.example"], {"company": "Firm"}, ""),
        (["a@rival.example"], {}, "competitor"),
        (["a@mail.rival.example"], {}, "competitor"),
        (["a@notrival.example", "rival.example@firm.example"], {}, ""),
        (["a@firm.example", "b@rival.example"], {}, "competitor"),
        (["probe@firm.example"], {}, "test"),
        (["a@firm.test"], {"company": "gear"}, "competitor"),
        (["a@firm.test"], {"relationship": "Partner"}, "test"),
        (["a@firm.example"], {"relationship": "Partner"}, "partner"),
        (["a@firm.example"], {"relationship": None, "company": 7}, ""),
    ],
)
def test_the_first_rule_that_an_address_or_trait_meets_excludes(
    emails: list[str], traits: dict[str, Any], reason: str
) -> None:
    assert EXCLUSIONS.reason(emails, traits) == reason
