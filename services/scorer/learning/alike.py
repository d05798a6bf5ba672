"""Leads like one: how many had the same likelihood, and how many of them had the outcome."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from services.scorer.learning.company import Rows
from services.scorer.learning.histories import F
from services.scorer.model.score import probability
from services.shared.playbook.learned import Calibration

EDGES = (0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.7, 1)
LEAST = 30  # leads that say anything


class Band(NamedTuple):
    """Leads whose likelihood lay from `low` to below `high` at a moment whose horizon has ended,
    and how many of them had the outcome within it.
    """

    low: float
    high: float
    leads: int
    outcomes: int


def counted(rows: Rows, z: F) -> list[Band]:
    """The bands of predictions in log-odds (N). Each lead counts once in a band, by the first of
    its moments there.
    """
    found = []
    order = np.lexsort((rows.when.at, rows.groups))
    p, lead, happened = probability(z[order]), rows.groups[order], rows.when.outcome[order]
    for low, high in pairwise(EDGES):
        inside = (p >= low) & ((p < high) | (high == EDGES[-1]))
        _, first = np.unique(lead[inside], return_index=True)
        found.append(Band(low, high, len(first), int(happened[inside][first].sum())))
    return found


def recalibrated(z: F, before: Calibration, after: Calibration) -> F:
    """Log-odds (N) under another intercept and slope of the same model."""
    frozen = (z - before.intercept) / before.slope if before.slope else z
    return after.intercept + after.slope * frozen


def band_of(found: Mapping[str, Any], likelihood: float) -> Band:
    """The band of a likelihood, out of what a check found."""
    bands = (Band(*each) for each in found["bands"])
    return next(band for band in bands if likelihood < band.high or band.high == EDGES[-1])
