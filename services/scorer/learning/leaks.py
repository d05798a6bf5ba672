"""Columns that say what happened after the outcome, recognised without times (`science.md`).

Cause and consequence cannot be told apart from a table, so what is certain is refused and what is
possible is named.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.scorer.learning.attributes import Column
from services.scorer.learning.histories import B, I
from services.scorer.learning.measures import auc

CERTAIN_AUC, SUSPECT_AUC = 0.97, 0.8
ONE_CLASS, OTHER_CLASS = 0.3, 0.005  # shares filled
PURE, PURE_SHARE = 0.9, 0.1
FILL = 0.2
SURE = 3.0  # standard errors by which shares differ that are not equal by chance
Z = 1.96
# what sales writes once it knows
LATER_WORDS = re.compile(
    r"(?:^|[^a-z])(?:status|stage|tag|quality|reason|result|outcome|disposition)s?(?:$|[^a-z])"
)
PARTS = 5  # of the rows, for a column's own AUC
CATEGORIES = 50  # distinct values up to which numbers may be codes


class Finding(NamedTuple):
    """A column that is refused or suspected: why, and its AUC when it predicts alone."""

    column: str
    reason: str
    auc_alone: float


class Findings(NamedTuple):
    """Columns that are not used, and columns that are used but named."""

    refused: list[Finding]
    suspect: list[Finding]


def find(columns: Sequence[Column], outcome: B, known_at_capture: frozenset[str]) -> Findings:
    """Judges each column of a table against its outcomes; `known_at_capture` are kept whatever they
    look like.
    """
    found = Findings([], [])
    for column in columns:
        finding, is_certain = judge(column, outcome)
        if finding and column.name not in known_at_capture:
            (found.refused if is_certain else found.suspect).append(finding)
    return found


def judge(column: Column, outcome: B) -> tuple[Finding | None, bool]:
    """What is wrong with a column, and whether that is certain."""
    alone = _auc_alone(column, outcome)
    if alone is None:
        return None, False
    lower = alone - Z * _auc_error(alone, outcome)
    filled = column.filled
    share_if, share_if_not = float(filled[outcome].mean()), float(filled[~outcome].mean())
    gap = abs(share_if - share_if_not)
    pure, is_later = _is_pure(column, outcome), bool(LATER_WORDS.search(_words(column.name)))
    if lower >= CERTAIN_AUC:
        reason, certain = f"alone it predicts nearly everything (AUC {alone:.3f})", True
    elif (
        max(share_if, share_if_not) >= ONE_CLASS
        and min(share_if, share_if_not) <= OTHER_CLASS
        and gap >= SURE * _gap_error(filled, outcome)
    ):
        reason = f"filled for {share_if:.0%} of those with the outcome, {share_if_not:.1%} without"
        certain = True
    elif is_later and gap >= FILL and alone >= SUSPECT_AUC:
        reason = f"its name is of what is written afterwards, and alone it has AUC {alone:.3f}"
        certain = True
    elif pure and (gap >= FILL or is_later):
        reason, certain = "some of its values occur on one side of the outcome alone", True
        if gap >= FILL:
            reason += f", and it is filled for {share_if:.0%} of one and {share_if_not:.0%}"
        else:
            reason += ", and its name is of what is written afterwards"
    elif pure:
        reason, certain = "some of its values occur on one side of the outcome alone", False
    elif gap >= FILL:
        reason = f"filled for {share_if:.0%} of those with the outcome, {share_if_not:.0%} without"
        certain = False
    elif alone >= SUSPECT_AUC:
        reason, certain = f"alone it predicts much (AUC {alone:.3f})", False
    else:
        return None, False
    return Finding(column.name, reason, alone), certain


def _gap_error(filled: B, outcome: B) -> float:
    """Standard error of the difference of the shares filled of the two classes, were they equal."""
    share, n1 = float(filled.mean()), float(outcome.sum())
    return float(np.sqrt(share * (1 - share) * (1 / n1 + 1 / (len(outcome) - n1))))


def _words(name: str) -> str:
    return re.sub(r"([a-z])([A-Z])", r"\1 \2", name).casefold()


def _auc_alone(column: Column, outcome: B) -> float | None:
    """The AUC of the shares of outcomes of a column's values (of twentieths of its numbers), each
    part of the rows by the shares of the others, so that a column of distinct values predicts
    nothing.
    """
    groups = _groups(column)
    part = np.random.default_rng(0).permutation(len(groups)) % PARTS
    found = []
    for number in range(PARTS):
        seen, judged = part != number, part == number
        size = np.bincount(groups[seen], minlength=groups.max() + 1)
        positive = np.bincount(groups[seen], weights=outcome[seen], minlength=len(size))
        rate = (positive + outcome[seen].mean()) / (size + 1)
        if (value := auc(outcome[judged], rate[groups[judged]])) is not None:
            found.append(value)
    return float(np.mean(found)) if found else None


def _groups(column: Column) -> I:
    if column.numbers is None:
        return column.codes + 1
    known = column.numbers[~np.isnan(column.numbers)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, 21)[1:-1])) if known.size else known
    groups = np.searchsorted(edges, column.numbers, side="right")
    return np.where(np.isnan(column.numbers), len(edges) + 1, groups).astype(np.int64)


def _auc_error(value: float, outcome: B) -> float:
    """Standard error of an AUC (Hanley & McNeil 1982)."""
    n1 = float(outcome.sum())
    n0 = len(outcome) - n1
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + (n1 - 1) * (q1 - value**2) + (n0 - 1) * (q2 - value**2)
    return float(np.sqrt(max(spread, 0) / (n1 * n0)))


def _is_pure(column: Column, outcome: B) -> bool:
    """Whether many of the positives stand in levels that have few negatives, and many of the
    negatives in levels that have next to no positives.
    """
    if column.numbers is not None and len(column.words) > CATEGORIES:
        return False
    _, groups = np.unique(column.codes, return_inverse=True)
    size = np.bincount(groups).astype(np.float64)
    positive = np.bincount(groups, weights=outcome)
    centre = (positive / size + Z**2 / (2 * size)) / (1 + Z**2 / size)
    p = positive / size
    reach = Z / (1 + Z**2 / size) * np.sqrt(p * (1 - p) / size + Z**2 / (4 * size**2))
    sure = centre - reach >= PURE
    never = centre + reach <= outcome.mean() / 10
    return bool(
        positive[sure].sum() >= PURE_SHARE * positive.sum()
        and (size - positive)[never].sum() >= PURE_SHARE * (size - positive).sum()
    )
