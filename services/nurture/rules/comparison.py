"""Whether the learned choice beats the best single item, by inverse propensity scores. Pure.

Of a program's touches that were drawn, each item's value is the mean reward of its touches, each
weighted by 1 / propensity (self-normalised); the draw's own value is the plain mean.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

LEAST = 30  # touches of an item, before which nothing is said of it
Z = 1.959964  # of a two-sided interval of 95 %
Verdict = Literal["better", "not better", "too little"]


class Drawn(NamedTuple):
    """A touch whose item was drawn: with what probability, and what came of it, from −1 to 1."""

    content: str
    propensity: float
    reward: float


class Value(NamedTuple):
    """Of an item, if everybody got it: the mean reward, its standard error, and of how many
    touches.
    """

    content: str
    mean: float
    error: float
    touches: int

    def report(self) -> dict[str, Any]:
        """As JSON has it; of the learned choice without an item."""
        named = {"content": self.content} if self.content else {}
        return named | {
            "progress": round(self.mean, 4),
            "standard_error": round(self.error, 4),
            "touches": self.touches,
        }


class Comparison(NamedTuple):
    """What the learned choice brought, what each item would, and whether the difference to the best
    one can be told from chance.
    """

    learned: Value
    items: list[Value]
    verdict: Verdict

    @property
    def best(self) -> Value | None:
        """The best single item of those of which enough is known."""
        known = [item for item in self.items if item.touches >= LEAST]
        return max(known, key=lambda item: item.mean, default=None)

    def report(self, program: str) -> dict[str, Any]:
        """As JSON has it, of this program."""
        return {
            "program": program,
            "touches": self.learned.touches,
            "learned": self.learned.report(),
            "best_single_item": self.best.report() if self.best else None,
            "items": [item.report() for item in self.items],
            "beats_best_single_item": {"better": True, "not better": False}.get(self.verdict),
            "says": self.sentence,
        }

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        best = self.best
        if best is None:
            return f"too little is known: no item has gone out {LEAST} times"
        figures = f"{self.learned.mean:.1%} against {best.mean:.1%} of {best.content}"
        if self.verdict == "better":
            return f"the learned choice beats the best single item: {figures}"
        return f"the learned choice does not beat the best single item: {figures}"


def compare(drawn: Sequence[Drawn]) -> Comparison:
    """Judges the touches of one program."""
    by_item: dict[str, list[Drawn]] = defaultdict(list)
    for one in drawn:
        by_item[one.content].append(one)
    items = sorted(
        (_value(name, of_item, [1 / one.propensity for one in of_item])
         for name, of_item in by_item.items()),
        key=lambda value: (-value.mean, value.content),
    )  # fmt: skip
    learned = _value("", drawn, [1.0] * len(drawn))
    comparison = Comparison(learned, items, "too little")
    best = comparison.best
    if best is None:
        return comparison
    margin = Z * math.hypot(learned.error, best.error)
    return comparison._replace(
        verdict="better" if learned.mean - best.mean > margin else "not better"
    )


def _value(content: str, drawn: Sequence[Drawn], weights: Sequence[float]) -> Value:
    total = sum(weights)
    if not total:
        return Value(content, 0.0, 0.0, 0)
    mean = sum(w * one.reward for w, one in zip(weights, drawn, strict=True)) / total
    squares = sum((w * (one.reward - mean)) ** 2 for w, one in zip(weights, drawn, strict=True))
    return Value(content, mean, math.sqrt(squares) / total, len(drawn))
