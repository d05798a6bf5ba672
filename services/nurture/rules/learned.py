"""The learned choice: hierarchical Thompson sampling on what leads did after an item. Pure.

An item's chance in a cell of stage and persona is Beta(a + K·m, b + K·(1 − m)), m its mean over all
cells, which is drawn towards the mean of everything in the same way. The draw is decided by the id
of the touch, so that a repetition chooses the same; the propensity is the share of `DRAWS` draws,
mixed with a floor.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 1_000  # from which the propensity is counted
POOLING = 10.0  # observations that the mean over all cells stands for
PRIOR_MEAN = 0.1  # of progress, before anything is known
PRIOR_WEIGHT = 4.0
FLOOR = 0.02  # the least probability of each item, or half an even share where that is less
TOPIC_MATCH = 1.5  # how much more an item counts that goes on with what the lead has answered


class Cell(NamedTuple):
    """Leads that are alike: in a stage, of a persona."""

    stage: str
    persona: str


class Outcomes(NamedTuple):
    """What came of touches: how many, and their reward in all, which lies between 0 and `sent`."""

    sent: int = 0
    reward: float = 0.0


class Evidence(NamedTuple):
    """Outcomes by item and cell."""

    by_item: Mapping[str, Mapping[Cell, Outcomes]] = {}

    def pooled(self, item: str) -> Outcomes:
        """Of one item over all cells."""
        known = self.by_item.get(item, {}).values()
        return Outcomes(sum(one.sent for one in known), sum(one.reward for one in known))

    def in_cell(self, item: str, cell: Cell) -> Outcomes:
        """Of one item in a cell."""
        return self.by_item.get(item, {}).get(cell, Outcomes())


class Beta(NamedTuple):
    """The parameters of a posterior."""

    a: float
    b: float


NO_EVIDENCE = Evidence()


def posterior(evidence: Evidence, cell: Cell, item: str) -> Beta:
    """What is believed of an item's chance in a cell."""
    pooled, own = evidence.pooled(item), evidence.in_cell(item, cell)
    mean = (pooled.reward + PRIOR_WEIGHT * PRIOR_MEAN) / (pooled.sent + PRIOR_WEIGHT)
    return Beta(own.reward + POOLING * mean, max(own.sent - own.reward, 0.0) + POOLING * (1 - mean))


def draw(
    evidence: Evidence, cell: Cell, items: Sequence[str], matches: Sequence[bool], seed: str
) -> tuple[int, float]:
    """Draws one of the items: its place, and the probability with which it is drawn. `matches`
    says which go on with the topic that the lead has answered.
    """
    believed = [posterior(evidence, cell, item) for item in items]
    weights = np.where(matches, TOPIC_MATCH, 1.0)
    shares = probabilities(believed, weights, seed)
    generator = np.random.Generator(np.random.PCG64(_number(f"choice:{seed}")))
    place = int(np.searchsorted(np.cumsum(shares), generator.random(), side="right"))
    place = min(place, len(items) - 1)
    return place, float(shares[place])


def probabilities(believed: Sequence[Beta], weights: np.ndarray, seed: str) -> np.ndarray:
    """Shape (n,): how often each of the posteriors is the greatest among `DRAWS`, mixed with the
    floor; they add up to 1.
    """
    count = len(believed)
    generator = np.random.Generator(np.random.PCG64(_number(f"draws:{seed}")))
    a, b = np.array(believed).T
    thetas = generator.beta(a, b, size=(DRAWS, count)) * weights
    wins = np.bincount(thetas.argmax(axis=1), minlength=count) / DRAWS
    floor = min(FLOOR, 1 / (2 * count))
    return np.asarray(floor + (1 - count * floor) * wins)


def _number(seed: str) -> int:
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")
