"""Fit (who they are), engagement (what they do, decaying) and likelihood (will they buy), as pure
functions.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from services.scorer.model.stage_filter import NEVER, F, I
from services.shared.clock import DAY
from services.shared.playbook.patterns import Pattern
from services.shared.playbook.sections import Engagement, Fit, FitRule

LOGIT_LIMIT = 12.0
MEMORY = 10_000


def logit(p: F) -> F:
    """log(p / (1 − p)), clipped at ±12."""
    with np.errstate(divide="ignore"):
        return np.clip(np.log(p) - np.log1p(-p), -LOGIT_LIMIT, LOGIT_LIMIT)


def probability(z: F) -> F:
    """The inverse of `logit`."""
    return 1 / (1 + np.exp(-z))


class FitScore:
    """Declared rules over traits: 0 to 100 points and a grade; `effect` is what fit adds to the
    likelihood's logit.
    """

    def __init__(self, rules: Fit) -> None:
        self._fit = rules
        self._words = {
            id(rule): frozenset(word.lower() for word in rule.one_of) for rule in rules.rules
        }
        self._patterns = {
            id(rule): Pattern(rule.matches, rule.ignoring) for rule in rules.rules if rule.matches
        }
        self._grades = sorted(rules.grades.items(), key=lambda grade: -grade[1])
        self._traits = list(dict.fromkeys(rule.trait for rule in rules.rules))
        self._of_text = lru_cache(maxsize=MEMORY)(self._holding)  # words come again and again
        self._points = lru_cache(maxsize=MEMORY)(self._sum)

    def points(self, traits: Mapping[str, Any]) -> float:
        """Base and the points of every rule that holds, within 0 and 100."""
        return self._points(self._held(traits))

    def reasons(self, traits: Mapping[str, Any]) -> list[tuple[str, float]]:
        """(why, points) of each rule that holds."""
        return [(rule.why, rule.points) for rule in self._chosen(self._held(traits))]

    def grade(self, points: float) -> str:
        """The first grade whose threshold is reached, else D."""
        return next((name for name, least in self._grades if points >= least), "D")

    def qualified(self, points: float) -> bool:
        """Fit alone makes a lead qualified."""
        return points >= self._fit.qualified_at

    def effect(self, points: F | float) -> Any:
        """β·(fit − 50)/25 with β = ln 1.5 by default."""
        return self._fit.weight * (points - 50.0) / 25.0

    def _held(self, traits: Mapping[str, Any]) -> int:
        """The rules that hold, the n-th as the bit of value 2ⁿ."""
        held = 0
        for trait in self._traits:
            value = traits.get(trait)
            held |= (
                self._of_text(trait, value)
                if value is None or type(value) is str
                else self._holding(trait, value)
            )
        return held

    def _holding(self, trait: str, value: Any) -> int:
        return sum(
            1 << n
            for n, rule in enumerate(self._fit.rules)
            if rule.trait == trait and self._holds(rule, value)
        )

    def _chosen(self, held: int) -> list[FitRule]:
        return [rule for n, rule in enumerate(self._fit.rules) if held >> n & 1]

    def _sum(self, held: int) -> float:
        return min(
            100.0, max(0.0, self._fit.base + sum(rule.points for rule in self._chosen(held)))
        )

    def _holds(self, rule: FitRule, value: Any) -> bool:
        if rule.present is not None:
            return (value is not None) == rule.present
        if value is None:
            return False
        if rule.one_of:
            return str(value).strip().lower() in self._words[id(rule)]
        if rule.matches:
            return self._patterns[id(rule)].is_in(str(value))
        try:
            number = float(value)
        except (TypeError, ValueError):
            return False
        least = rule.at_least if rule.at_least is not None else number
        most = rule.at_most if rule.at_most is not None else number
        return least <= number <= most


class EngagementScore:
    """Decayed points by group: E ← E·2^(−Δ/half-life) + points; shown as the sum of the capped
    groups, 0 to 100.
    """

    def __init__(self, rules: Engagement) -> None:
        self.groups = list(rules.groups)
        self.cap: F = np.array([group.cap for group in rules.groups.values()], float)
        self.rate: F = np.array(
            [1 / (group.half_life_days * DAY) for group in rules.groups.values()]
        )
        self.acts = list(rules.acts)
        self.rule = {name: i for i, name in enumerate(self.acts)}
        acts = rules.acts.values()
        self.points: F = np.array([act.points for act in acts], float)
        self.group: I = np.array([self.groups.index(act.group) for act in acts], np.int64)
        self.limit: I = np.array([act.limit for act in acts], np.int64)
        self.period: I = np.array([int(act.days * DAY) for act in acts], np.int64)

    def decayed(self, points: F, points_at: I, at: I) -> F:
        """Group points (G, L) carried from `points_at` to `at` (L)."""
        elapsed = np.where(points_at > NEVER, at - points_at, 0).astype(np.float64)
        return points * self.decay(elapsed)

    def decay(self, elapsed: F) -> F:
        """What is left of each group's points (G, L) after `elapsed` µs (L)."""
        return np.exp2(-(self.rate[:, None] * elapsed))

    def shown(self, points: F) -> F:
        """Engagement (L), 0 to 100, of group points (G, L) after the caps."""
        total = np.minimum(points[0], self.cap[0])
        for group in range(1, len(self.cap)):
            total = total + np.minimum(points[group], self.cap[group])
        return np.clip(total, 0.0, 100.0)
