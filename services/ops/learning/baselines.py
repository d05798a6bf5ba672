"""Simpler rules, by which most tools rank leads."""

import numpy as np

from services.ops.learning.predictions import Predictions
from services.ops.learning.tables import EventTable
from services.scorer.learning.measures import auc
from services.scorer.learning.moments import LANDMARK

HALF_LIFE_DAYS = 7.0


def baselines(table: EventTable, predictions: Predictions) -> dict[str, float | None]:
    """AUC of points without decay and with a half-life, and of the last activity alone; an
    event's points are the share of outcomes after events of its type.
    """
    shown = predictions.only((predictions.kind == LANDMARK) & (predictions.seed == 0))
    outcome, marks = shown.outcome, len(table.marks)
    counts, decayed = np.zeros((2, len(outcome), marks))
    last = np.empty(len(outcome), np.int64)
    for row, (lead, moment) in enumerate(zip(shown.lead, shown.at, strict=True)):
        times, of = table.histories[lead][:2]
        seen = int(np.searchsorted(times, moment, side="right"))
        weights = np.exp2((times[:seen] - moment) / HALF_LIFE_DAYS)
        counts[row] = np.bincount(of[:seen], minlength=marks)
        decayed[row] = np.bincount(of[:seen], weights, minlength=marks)
        last[row] = of[seen - 1]
    points = (outcome @ counts) / np.maximum(counts.sum(0), 1)
    size = np.bincount(last, minlength=marks)
    share = np.bincount(last, weights=outcome, minlength=marks) / np.maximum(size, 1)
    return {
        "points": auc(outcome, counts @ points),
        "points_half_life_7": auc(outcome, decayed @ points),
        "last_activity": auc(outcome, share[last]),
    }
