"""Learned weights of what is known of a person: words, numbers, and that nothing is known."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from services.shared.playbook.learned import Attribute, Levels, Numbers

MOST_LETTERS = 80  # of a word that has a weight of its own
PLACEHOLDERS = frozenset({
    "", "-", "--", "?", "n/a", "na", "none", "null", "unknown", "select", "please select", "(none)",
    "not specified", "undefined",
})  # fmt: skip


class AttributeWeights:
    """The log-odds of a model's attributes."""

    def __init__(self, attributes: Sequence[Attribute]) -> None:
        self._attributes = tuple(attributes)

    def __call__(self, traits: Mapping[str, Any]) -> float:
        """Their sum, in the model's order."""
        return sum(of_attribute(each, traits.get(each.trait)) for each in self._attributes)

    def reasons(self, traits: Mapping[str, Any]) -> list[tuple[str, float]]:
        """(words, log-odds) of each."""
        return [
            (f"{each.trait}: {said(each, value)}", of_attribute(each, value))
            for each in self._attributes
            for value in (traits.get(each.trait),)
        ]


def of_attribute(attribute: Attribute, value: Any) -> float:
    """The log-odds that one value adds."""
    if isinstance(attribute, Levels):
        level = word(value)
        return attribute.levels.get(level, attribute.other) if level else attribute.missing
    number = number_of(value)
    if number is None:
        return attribute.missing
    kept = min(max(number, attribute.low), attribute.high)
    hinges = (
        weight * max(kept - knot, 0.0)
        for knot, weight in zip(attribute.knots, attribute.hinges, strict=True)
    )
    return (attribute.slope * (kept - attribute.mean) + sum(hinges)) / attribute.scale


def said(attribute: Levels | Numbers, value: Any) -> str:
    """The value as the model reads it, in words."""
    if isinstance(attribute, Numbers):
        number = number_of(value)
        return "not known" if number is None else f"{number:g}"
    level = word(value)
    return level if level in attribute.levels else "another" if level else "not known"


def word(value: Any) -> str:
    """A value as a word in small letters and single blanks; '' for what says nothing."""
    if value is None or isinstance(value, dict | list):
        return ""
    text = " ".join(str(value).casefold().split())[:MOST_LETTERS]
    return "" if text in PLACEHOLDERS else text


def number_of(value: Any) -> float | None:
    """A value as a finite number; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
