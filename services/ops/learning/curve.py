"""How much is learned from few outcomes: log loss on leads that are held out, against the share of
outcomes alone.
"""

from typing import NamedTuple

import numpy as np

from services.ops.learning.evaluation import Progress, judge_of
from services.ops.learning.mapping import TableMapping
from services.ops.learning.tables import EventTable, LeadTable
from services.scorer.learning.histories import B, F, I
from services.scorer.learning.measures import measures

OUTCOMES = (0, 30, 300, 3_000)
RESAMPLES = 20
HELD_OUT, LEAST_HELD = 0.25, 0.03  # of the leads, and where nearly all are learned from


class Point(NamedTuple):
    """Mean log loss (nats) of models of so many outcomes, and that of their base rates."""

    outcomes: int
    log_loss: float
    base_log_loss: float
    resamples: int


def curve(table: EventTable | LeadTable, mapping: TableMapping, progress: Progress) -> list[Point]:
    """A point for each of OUTCOMES that the table has beside what is held out; each of RESAMPLES
    draws other leads.
    """
    judge = judge_of(table, mapping, progress)
    most = int((1 - LEAST_HELD) * judge.converted.sum())
    sizes = [size for size in OUTCOMES if size <= most]
    points = []
    for number, size in enumerate(sizes):
        losses = []
        for seed in range(RESAMPLES):
            train, test = _drawn(judge.converted, size, np.random.default_rng(seed))
            p, outcome, base = judge.judged(train, test)
            if len(p):
                losses.append((_loss(outcome, p), _loss(outcome, np.full(len(p), base))))
            progress("few outcomes", (number + (seed + 1) / RESAMPLES) / len(sizes))
        if losses:
            own, of_base = np.mean(losses, axis=0)
            points.append(Point(size, float(own), float(of_base), len(losses)))
    return points


def _loss(outcome: B, p: F) -> float:
    return measures(outcome, p).log_loss


def _drawn(converted: B, size: int, rng: np.random.Generator) -> tuple[I, I]:
    """Leads to learn from, `size` of them converted, and others that are held out, at most HELD_OUT
    of all. Without any outcome there are as many leads as would have OUTCOMES[1] of them.
    """
    order = rng.permutation(len(converted))
    count = np.cumsum(converted[order])
    end = int(np.searchsorted(count, min(size or OUTCOMES[1], int(count[-1])))) + 1
    train, test = order[:end], order[max(end, len(order) - int(HELD_OUT * len(order))) :]
    return np.sort(train if size else train[~converted[train]]), np.sort(test)
