"""Evaluates how well outcomes of a table can be predicted: every prediction is of a lead, or of a
time, that the model behind it has not seen.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from services.ops.learning.baselines import baselines
from services.ops.learning.mapping import Folds, TableMapping
from services.ops.learning.predictions import Predictions, in_time, joined, recalibrated
from services.ops.learning.tables import EventTable, LeadTable, traits_at
from services.scorer.learning import leaks, learner, moments
from services.scorer.learning.attributes import Column
from services.scorer.learning.histories import B, F, History, I
from services.scorer.learning.leaks import Findings
from services.scorer.learning.learner import AttributeModel, EventModel, Shape
from services.scorer.learning.moments import LANDMARK, Moments
from services.shared.errors import Reject

Progress = Callable[[str, float], None]


@dataclass
class Evaluation:
    """Predictions with all columns but the refused, `without_suspects`, and by simpler rules:
    `baselines` score the same leads and moments as the landmarks of `predictions`.
    """

    predictions: Predictions
    keys: list[str]
    findings: Findings
    without_suspects: Predictions | None = None
    frozen: Predictions | None = None
    baselines: dict[str, float | None] = field(default_factory=dict)
    shape: Shape | None = None

    @property
    def has_moments(self) -> bool:
        """Whether predictions are of moments of a lead's life: so where there are events."""
        return self.shape is not None


class Judged(NamedTuple):
    """N outcomes with their predictions, and the smoothed share of outcomes that was learned."""

    p: F
    outcome: B
    base: float


def evaluate(
    table: EventTable | LeadTable, mapping: TableMapping, progress: Progress
) -> Evaluation:
    """Evaluates a table by its mapping. Raises Reject where the folds leave nothing to judge."""
    return judge_of(table, mapping, progress).evaluate()


def judge_of(
    table: EventTable | LeadTable, mapping: TableMapping, progress: Progress
) -> "_Leads | _Events":
    """What learns and predicts by a mapping."""
    if isinstance(table, EventTable):
        return _Events(table, mapping, progress)
    return _Leads(table, mapping, progress)


class _Leads:
    """A table of attributes."""

    def __init__(self, table: LeadTable, mapping: TableMapping, progress: Progress) -> None:
        self._table, self._folds, self._progress = table, mapping.folds, progress
        self._findings = leaks.find(
            table.columns, table.outcome, frozenset(mapping.known_at_capture)
        )
        _, self._groups = np.unique(np.array(table.keys, dtype=str), return_inverse=True)
        self.converted = table.outcome

    def evaluate(self) -> Evaluation:
        refused = {finding.column for finding in self._findings.refused}
        suspect = {finding.column for finding in self._findings.suspect}
        kept = [column for column in self._table.columns if column.name not in refused]
        if not kept:
            raise all_refused()
        found = Evaluation(self._predict(kept, "folds"), self._table.keys, self._findings)
        if suspect:
            rest = [column for column in kept if column.name not in suspect]
            found.without_suspects = self._predict(rest, "without suspects")
        if self._folds.online:
            delay, without = self._folds.label_delay, found.without_suspects
            found.frozen, found.predictions = (
                found.predictions, recalibrated(found.predictions, delay),
            )  # fmt: skip
            found.without_suspects = recalibrated(without, delay) if without else None
        return found

    def judged(self, train: I, test: I) -> Judged:
        """Predictions of the rows `test` by a model of the rows `train`."""
        refused = {finding.column for finding in self._findings.refused}
        kept = [column for column in self._table.columns if column.name not in refused]
        model = AttributeModel(kept, train, self._table.outcome, self._groups)
        p = model.probability(kept, test)
        return Judged(p, self._table.outcome[test], model.weighed.base)

    def _predict(self, columns: list[Column], name: str) -> Predictions:
        parts = []
        splits = self._splits()
        for number, (train, test) in enumerate(splits):
            model = AttributeModel(columns, train, self._table.outcome, self._groups)
            parts.append(self._part(number, test, model.probability(columns, test)))
            self._progress(name, (number + 1) / len(splits))
        return joined(parts)

    def _splits(self) -> list[tuple[I, I]]:
        """Rows to learn from, and rows to predict."""
        if self._folds.by == "time":
            return [self._by_time()]
        return _by_lead(self._groups, self._table.outcome, self._folds)

    def _by_time(self) -> tuple[I, I]:
        order = np.arange(len(self._table.keys))
        if not np.isnan(self._table.at).any():
            order = np.argsort(self._table.at, kind="stable")
        cut = int(self._folds.at * len(order))
        learned = self._table.outcome[order[:cut]]
        if not 0 < learned.sum() < len(learned) or cut == len(order):
            raise _one_class()
        return order[:cut], order[cut:]

    def _part(self, fold: int, rows: I, p: F) -> Predictions:
        kinds = np.full(len(rows), LANDMARK)
        outcome = self._table.outcome[rows]
        return Predictions(
            rows, self._table.at[rows], kinds, *self._folds.of(fold, len(rows)), p, outcome
        )


class _Events:
    """A table of events."""

    def __init__(self, table: EventTable, mapping: TableMapping, progress: Progress) -> None:
        self._table, self._mapping, self._progress = table, mapping, progress
        self._folds = mapping.folds
        self._shape: Shape | None = None
        self.converted = np.array([history.converted for history in table.histories], np.bool_)

    def evaluate(self) -> Evaluation:
        if self._folds.by == "time":
            parts = [self._after_the_cut()]
        else:
            leads = np.arange(len(self._table.histories))
            splits = _by_lead(leads, self.converted, self._folds)
            parts = []
            for number, (train, test) in enumerate(splits):
                parts.append(self._held_out(number, train, test))
                self._progress("folds", (number + 1) / len(splits))
        predictions = joined(parts)
        found = Evaluation(predictions, self._table.keys, Findings([], []), shape=self._shape)
        if self._folds.online:
            found.frozen = in_time(predictions)
            found.predictions = recalibrated(found.frozen, self._folds.label_delay)
        found.baselines = baselines(self._table, found.predictions)
        return found

    def judged(self, train: I, test: I) -> Judged:
        """Predictions of the landmarks of the leads `test` by a model of the leads `train`."""
        until = self._table.until
        histories = [self._table.histories[int(lead)] for lead in train]
        when = self._moments_of(histories, until, 0)
        marks, horizon = self._table.marks, self._mapping.horizon
        shape = learner.choose(histories, marks, when, horizon, 0, _quiet)
        columns = traits_at(self._table, train, when)
        model = EventModel(histories, marks, when, columns, horizon, shape, 0, _quiet)
        found = self._predict(model, test, self._moments(test, until, 0), 0)
        shown = found.kind == LANDMARK
        return Judged(found.p[shown], found.outcome[shown], model.weighed.base)

    def _held_out(self, fold: int, train: I, test: I) -> Predictions:
        """The moments of the leads `test`, by a model of the leads `train`."""
        until = self._table.until
        model, _ = self._learn(train, [self._table.histories[int(i)] for i in train], until, fold)
        return self._predict(model, test, self._moments(test, until, fold), fold)

    def _after_the_cut(self) -> Predictions:
        """The moments after the one by which a share of the leads had begun, by a model of what was
        known then.
        """
        histories = self._table.histories
        first = np.array([history.times[0] for history in histories])
        cut = float(np.sort(first)[min(int(self._folds.at * len(first)), len(first) - 1)])
        known = np.flatnonzero(first < cut)
        if not known.size:
            raise _one_class()
        model, _ = self._learn(known, [until(histories[int(i)], cut) for i in known], cut, 0)
        everyone = np.arange(len(histories))
        when = self._moments(everyone, self._table.until, 0)
        found = self._predict(model, everyone, when.only(when.at >= cut), 0)
        if not (found.kind == LANDMARK).any():
            raise Reject(
                "no landmark lies after the cut with its horizon inside the table",
                where="folds.at",
                remedy="cut earlier, or take a shorter `horizon`",
            )
        return found

    def _learn(
        self, leads: I, histories: list[History], until_: float, fold: int
    ) -> tuple[EventModel, Moments]:
        when = self._moments_of(histories, until_, fold)
        if not (when.kind == LANDMARK).any():
            raise Reject(
                f"no landmark has its horizon of {self._mapping.horizon:g} days inside the table",
                where="horizon",
                remedy="take a shorter `horizon`, earlier `landmarks`, or a longer table",
            )
        if not 0 < when.outcome.sum() < len(when.outcome):
            raise _one_class()
        marks, horizon = self._table.marks, self._mapping.horizon
        if self._shape is None:
            self._shape = learner.choose(histories, marks, when, horizon, 0, self._progress)
        columns = traits_at(self._table, leads, when)
        model = EventModel(
            histories, marks, when, columns, horizon, self._shape, fold, self._progress
        )
        return model, when

    def _predict(self, model: EventModel, leads: I, when: Moments, fold: int) -> Predictions:
        histories = [self._table.histories[int(lead)] for lead in leads]
        p = model.probability(histories, when, traits_at(self._table, leads, when))
        return Predictions(
            leads[when.lead], when.at, when.kind, *self._folds.of(fold, len(p)), p, when.outcome
        )

    def _moments(self, leads: I, until_: float, fold: int) -> Moments:
        return self._moments_of([self._table.histories[int(i)] for i in leads], until_, fold)

    def _moments_of(self, histories: list[History], until_: float, fold: int) -> Moments:
        rng = np.random.default_rng(fold)
        mapping = self._mapping
        return moments.moments(histories, mapping.landmarks, mapping.horizon, until_, rng)


def until(history: History, cut: float) -> History:
    """What was known of a lead before `cut`."""
    seen = int(np.searchsorted(history.times, cut, side="left"))
    times, marks, end, converted = history
    return History(times[:seen], marks[:seen], min(end, cut), converted and end < cut)


def _quiet(_: str, __: float) -> None:
    """Shows nothing."""


def _by_lead(groups: I, converted: B, folds: Folds) -> list[tuple[I, I]]:
    """Rows to learn from and rows to predict, `k` times for each seed; every fold has as many leads
    with the outcome, as far as they can be divided.
    """
    distinct, place = np.unique(groups, return_inverse=True)
    reached = np.bincount(place, weights=converted) > 0
    splits = []
    for seed in range(folds.seeds):
        drawn = np.random.default_rng(seed).permutation(len(distinct))
        turn = np.empty(len(distinct), np.int64)
        turn[drawn[np.argsort(~reached[drawn], kind="stable")]] = np.arange(len(distinct))
        fold = (turn % folds.k)[place]
        splits += [
            (np.flatnonzero(fold != number), np.flatnonzero(fold == number))
            for number in range(folds.k)
        ]
    return splits


def all_refused() -> Reject:
    """Of a table whose every column knows the outcome."""
    return Reject(
        "every column was refused: each says what happened after the outcome",
        where="traits",
        remedy="name those that are known before it under `known_at_capture`",
    )


def _one_class() -> Reject:
    return Reject(
        "what is to be learned from holds one outcome only",
        where="folds",
        remedy="cut later, take fewer folds, or bring more rows",
    )
