"""How a figure is taken: a warm-up, then ours and the limit in turn, and the median of each; what a
benchmark reports.
"""

import sys
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any, NamedTuple

Measure = Callable[[], Awaitable[float]]


class Pair(NamedTuple):
    """Ours beside the limit, in the same unit."""

    ours: float
    limit: float

    @property
    def ratio(self) -> float:
        return self.ours / self.limit

    def as_json(self) -> dict[str, float]:
        return {
            "ours": round(self.ours, 4),
            "limit": round(self.limit, 4),
            "ratio": round(self.ratio, 3),
        }


async def alternate(ours: Measure, limit: Measure, rounds: int) -> Pair:
    """Medians of so many rounds of each, taken in turn after one that does not count."""
    await ours(), await limit()
    taken = [(await ours(), await limit()) for _ in range(rounds)]
    return Pair(median(mine for mine, _ in taken), median(other for _, other in taken))


def report_progress(what: str) -> None:
    """A line of progress."""
    print(what, file=sys.stderr, flush=True)


class Line(NamedTuple):
    """A line of the table."""

    name: str
    what: str
    ours: str
    limit: str
    result: str
    goal: str
    met: bool


class Outcome(NamedTuple):
    """What a benchmark found: its value in the JSON object, and its lines in the table."""

    value: Any
    lines: list[Line]


def line_of(
    name: str, what: str, pair: Pair, unit: str, goal: float, *, at_most: bool = False
) -> Line:
    """The line of a ratio that should reach the goal, or stay below it."""
    met = pair.ratio <= goal if at_most else pair.ratio >= goal
    shown = [f"{value:,.2f}" if value < 100 else f"{value:,.0f}" for value in pair]
    return Line(
        name,
        what,
        f"{shown[0]} {unit}",
        f"{shown[1]} {unit}",
        f"{pair.ratio:.2f}",
        f"{'≤' if at_most else '≥'} {goal:g}",
        met,
    )
