"""Learned weights of what is known of a person: words, numbers, and that nothing is known."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.scorer.model.readings import number_of, word
from services.shared.playbook.learned import Attribute, Levels, Numbers


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
    number = number_of(value, attribute.reads)
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
        number = number_of(value, attribute.reads)
        if number is None or isinstance(value, str):
            return "not known" if number is None else word(value)
        return f"{number:g}"
    level = word(value)
    return level if level in attribute.levels else "another" if level else "not known"
