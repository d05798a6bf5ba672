"""Traits of persons as columns of the layer, and the layer's weights of them as attributes."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from services.scorer.learning import leaks
from services.scorer.learning.attributes import column
from services.scorer.learning.episodes import PERSONAL, Traits
from services.scorer.learning.histories import B, F
from services.scorer.learning.leaks import Findings
from services.scorer.model.attributes import of_attribute
from services.scorer.model.readings import number_of, reading_of, word
from services.shared.playbook.learned import Attribute, Levels, Numbers, Reading

MOST_TRAITS, MOST_LEVELS = 40, 30
LEAST_SHARE = 0.02  # of the persons, of whom a trait is known
LEAST_PERSONS = 20  # of a level of its own, and of a number
NUMERIC_SHARE = 0.95
QUANTILES = (0.25, 0.5, 0.75)


class Columns(NamedTuple):
    """Attributes whose weights are all 0."""

    attributes: list[Attribute]

    def values(self, traits: Sequence[Traits]) -> F:
        """Their columns (N, P): what each weight is multiplied by."""
        parts = [_values(each, traits) for each in self.attributes]
        return np.column_stack(parts) if parts else np.zeros((len(traits), 0))

    def weighed(self, weights: F) -> list[Attribute]:
        """The attributes with the weights (P) of their columns."""
        out, rest = [], weights.tolist()
        for each in self.attributes:
            size = len(_units(each))
            out.append(_with(each, rest[:size]))
            rest = rest[size:]
        return out


def columns(persons: Sequence[Traits], without: Collection[str] = ()) -> Columns:
    """The traits that are known of enough of these persons, but for those named."""
    chosen = [name for name in known_of_enough(persons) if name not in without]
    found = (_attribute(name, persons) for name in chosen[:MOST_TRAITS])
    return Columns([each for each in found if each])


def known_of_enough(persons: Sequence[Traits]) -> list[str]:
    """The traits that are known of enough of these persons, and that say what such people are."""
    counts = Counter(name for traits in persons for name, value in traits.items() if word(value))
    least = max(LEAST_PERSONS, LEAST_SHARE * len(persons))
    return [
        name for name, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
        if count >= least and name not in PERSONAL and not name.startswith("_")
    ]  # fmt: skip


def leaking(persons: Sequence[Traits], outcome: B, vouched_for: Collection[str]) -> Findings:
    """The traits that seem to know the outcome (N) of these persons (N), by the rule of `leaks`."""
    if not 0 < outcome.sum() < len(outcome):
        return Findings([], [])
    cells = (
        column(name, [word(each.get(name)) for each in persons])
        for name in known_of_enough(persons)
    )
    return leaks.find([*cells], outcome, frozenset(vouched_for))


def _attribute(name: str, persons: Sequence[Traits]) -> Attribute | None:
    known = [traits[name] for traits in persons if word(traits.get(name))]
    reading = reading_of(Counter(map(str, known)), NUMERIC_SHARE)
    if reading and not any(isinstance(value, bool) for value in known):
        numbers = [n for value in known if (n := number_of(value, reading)) is not None]
        if len(set(numbers)) > len(QUANTILES):
            return _number(name, np.array(numbers), reading)
    levels = Counter(map(word, known))
    frequent = [
        level for level, count in sorted(levels.items(), key=lambda each: (-each[1], each[0]))
        if count >= LEAST_PERSONS
    ][:MOST_LEVELS]  # fmt: skip
    if not frequent or (len(frequent) == 1 and len(known) == len(persons)):
        return None
    return Levels(trait=name, levels=dict.fromkeys(frequent, 0.0), other=0.0, missing=0.0)


def _number(name: str, numbers: F, reading: Reading) -> Numbers:
    low, high = (float(each) for each in np.quantile(numbers, (0.01, 0.99)))
    kept = np.clip(numbers, low, high)
    knots = [float(knot) for knot in np.unique(np.quantile(kept, QUANTILES)) if low < knot < high]
    return Numbers(
        trait=name, reads=reading, low=low, high=high,
        mean=float(kept.mean()), scale=float(kept.std()) or 1.0,
        slope=0.0, knots=knots, hinges=[0.0] * len(knots), missing=0.0,
    )  # fmt: skip


def _units(attribute: Attribute) -> list[Attribute]:
    """The attribute with each of its weights 1 and all others 0, in order."""
    size = len(attribute.levels) + 2 if isinstance(attribute, Levels) else len(attribute.knots) + 2
    return [_with(attribute, row) for row in np.eye(size).tolist()]


def _with(attribute: Attribute, weights: Sequence[float]) -> Attribute:
    if isinstance(attribute, Levels):
        levels = dict(zip(attribute.levels, weights, strict=False))
        update = {"levels": levels, "other": weights[-2], "missing": weights[-1]}
    else:
        update = {"slope": weights[0], "hinges": list(weights[1:-1]), "missing": weights[-1]}
    return attribute.model_copy(update=update)


def _values(attribute: Attribute, traits: Sequence[Traits]) -> F:
    units, known = _units(attribute), {}
    out = np.empty((len(traits), len(units)))
    for row, each in enumerate(traits):
        value = each.get(attribute.trait)
        key = value if isinstance(value, str) else repr(value)
        if key not in known:
            known[key] = [of_attribute(unit, value) for unit in units]
        out[row] = known[key]
    return out
