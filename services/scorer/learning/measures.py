"""How good predictions are: AUC, log loss, Brier, calibration, precision at the top."""

from typing import NamedTuple

import numpy as np

from services.scorer.learning.histories import B, F, I

BINS = 10
CLIP = 1e-6
MONDAY = 3  # days since the Monday before 1970


class Bin(NamedTuple):
    """Of predictions in one bin their mean, the share that had the outcome, and their number."""

    p: float
    y: float
    n: int


class Measures(NamedTuple):
    """Measures of N predictions; `precision_at_10` is the share of outcomes in the tenth with the
    highest predictions.
    """

    n: int
    base: float
    auc: float | None
    log_loss: float
    brier: float
    ece: float
    precision_at_10: float


class AtCapacity(NamedTuple):
    """Of the likeliest leads of each of `weeks`, `capacity` a week (None: a tenth), each taken
    once, how many were `taken`, and the share that had the outcome.
    """

    capacity: int | None
    weeks: int
    taken: int
    precision: float


def at_capacity(outcome: B, p: F, at: F, lead: I, capacity: int | None) -> AtCapacity:
    """What sales would find that works so many leads a week: at least one prediction of a `lead`
    (N) at days `at` (N) since 1970; those without a time are one week.
    """
    week = np.where(np.isnan(at), 0, np.floor((np.nan_to_num(at) + MONDAY) / 7)).astype(np.int64)
    taken: set[int] = set()
    found = 0
    order = np.lexsort((np.arange(len(p)), -p, week))
    bounds = np.flatnonzero(np.diff(week[order])) + 1
    weeks = np.split(order, bounds)
    for rows in weeks:
        own = dict.fromkeys(each for each in lead[rows].tolist() if each not in taken)
        most = capacity if capacity is not None else max(len(own) // 10, 1)
        first = dict(zip(reversed(lead[rows].tolist()), reversed(rows.tolist()), strict=True))
        chosen = list(own)[:most]
        taken.update(chosen)
        found += sum(bool(outcome[first[each]]) for each in chosen)
    share = found / len(taken) if taken else 0.0
    return AtCapacity(capacity, len(weeks), len(taken), share)


def measures(outcome: B, p: F) -> Measures:
    """Measures of at least one prediction; AUC is None where all outcomes are the same."""
    y = outcome.astype(np.float64)
    log_loss = losses(p, y).mean()
    top = np.argsort(-p, kind="stable")[: max(len(p) // 10, 1)]
    return Measures(
        len(y), float(y.mean()), auc(outcome, p), float(log_loss), float(((p - y) ** 2).mean()),
        expected_calibration_error(outcome, p), float(y[top].mean()),
    )  # fmt: skip


def losses(p: F, y: F) -> F:
    """−log of the probability of what happened (N), in nats."""
    sure = np.clip(p, CLIP, 1 - CLIP)
    return -(y * np.log(sure) + (1 - y) * np.log1p(-sure))


def auc(outcome: B, score: F) -> float | None:
    """The chance that one with the outcome is ranked above one without, ties halved; None where
    one class is missing.
    """
    positive = int(outcome.sum())
    negative = len(outcome) - positive
    if not positive or not negative:
        return None
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place][outcome].sum()  # of equal ones the mean
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


def calibration(outcome: B, p: F) -> list[Bin]:
    """BINS bins of equal count, from the lowest predictions to the highest."""
    order = np.argsort(p, kind="stable")
    return [
        Bin(float(p[part].mean()), float(outcome[part].mean()), len(part))
        for part in np.array_split(order, min(BINS, len(order)))
    ]


def expected_calibration_error(outcome: B, p: F) -> float:
    """Mean distance of prediction and share over those bins, weighed by their number."""
    return sum(part.n * abs(part.p - part.y) for part in calibration(outcome, p)) / len(p)
