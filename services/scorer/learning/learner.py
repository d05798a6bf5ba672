"""A model of a table: the stage filter where there are events, attributes, and the log-odds layer
on top, with its strength chosen by data that it has not seen.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from services.scorer.learning import arrivals, layer, measures
from services.scorer.learning.arrivals import Arrivals
from services.scorer.learning.attributes import Column, Encoder
from services.scorer.learning.histories import B, Batch, F, History, I
from services.scorer.learning.layer import Design, Layer
from services.scorer.learning.moments import Moments
from services.scorer.learning.state import Filter, features

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0)  # 1/C of the layer
STATES = (8, 3, 1)  # hidden states that are tried
KAPPAS = (0.2, 0.3, 0.5, 0.7, 1.0)
COLD_KAPPA = 0.5
EM_STEPS, EM_STEPS_OF_TRIAL = 60, 15
TRIAL_TOLERANCE = 1e-8  # a row: such a layer is as good as its strength
PARTS = 5  # of the rows, for the choice of a strength
MUCH = 5e9  # rows times squared values above which one part has to say enough
MANY = 20_000  # moments that say enough for the choice of states and κ
FEW = 15  # rows of one class below which there is no layer
FEW_LEADS = 100  # of one class, below which a layer has to be better beyond doubt
HELD_OUT = 0.2  # of the leads, for the choice of states and κ

Progress = Callable[[str, float], None]


class Shape(NamedTuple):
    """What is chosen once for a table: the number of hidden states, and κ."""

    states: int
    kappa: float


class Weighed(NamedTuple):
    """A layer, or where no strength beats it the share of outcomes alone: `layer` is None."""

    layer: Layer | None
    base: float
    strength: float

    def probability(self, values: F) -> F:
        """Probabilities (N) of values (N, P)."""
        if self.layer is None:
            return np.full(len(values), self.base)
        return self.layer.probability(values)


def weigh(
    values: F,
    outcome: B,
    groups: I,
    towards: F | None = None,
    unit: B | None = None,
    errors: float | None = None,
) -> Weighed:
    """The layer with the strongest shrinkage whose log loss on rows of other groups is within so
    many standard `errors` of the best; the share of outcomes alone where that is within them too.

    `groups` (N) are leads: their rows are held out together. `towards` and `unit` as `layer.fit`
    has them. Without `errors` one is enough, and of FEW_LEADS with either outcome two.
    """
    if errors is None:
        with_, without = (len(np.unique(groups[outcome == sign])) for sign in (True, False))
        errors = 2.0 if min(with_, without) < FEW_LEADS else 1.0
    y = outcome.astype(np.float64)
    base = (y.sum() + 0.5) / (len(y) + 1)
    if min(y.sum(), len(y) - y.sum()) < FEW:
        return Weighed(None, base, np.inf)
    part = _parts(groups)
    tried = PARTS if len(y) * values.shape[1] ** 2 < MUCH else 1
    losses = np.full((len(STRENGTHS) + 1, len(y)), np.nan)
    for number in range(tried):
        train, test = part != number, part == number
        if not test.any() or not 0 < y[train].sum() < train.sum():
            continue
        share = (y[train].sum() + 0.5) / (train.sum() + 1)
        losses[-1, test] = measures.losses(np.full(int(test.sum()), share), y[test])
        fitted = None
        design = Design(values[train], y[train], towards, unit)
        for row, strength in reversed(list(enumerate(STRENGTHS))):
            fitted = design.fit(strength, fitted, TRIAL_TOLERANCE)
            losses[row, test] = measures.losses(fitted.probability(values[test]), y[test])
    chosen = _chosen(losses, groups, errors)
    if chosen is None:
        return Weighed(None, base, np.inf)
    return Weighed(layer.fit(values, y, chosen, towards, unit), base, chosen)


def _chosen(losses: F, groups: I, errors: float) -> float | None:
    """The strength within so many standard errors over leads; None for the base rate."""
    judged = ~np.isnan(losses).any(0)
    if not judged.any():
        return None
    _, lead = np.unique(groups[judged], return_inverse=True)
    means = losses[:, judged].mean(1)
    best = int(np.argmin(means))
    for row in range(len(losses) - 1, -1, -1):
        gaps = np.bincount(lead, weights=(losses[row] - losses[best])[judged])
        error = float(np.sqrt(gaps.var() * len(gaps))) / int(judged.sum())
        if means[row] - means[best] <= errors * error:
            return None if row == len(STRENGTHS) else STRENGTHS[row]
    return STRENGTHS[best]


def _parts(groups: I) -> I:
    """A part of PARTS for each row, the same for all rows of a group, whatever their order."""
    distinct, place = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(distinct))
    return (order % PARTS)[place]


class AttributeModel:
    """Attributes of leads and their layer."""

    def __init__(self, columns: Sequence[Column], rows: I, outcome: B, groups: I) -> None:
        self._encoder = Encoder(columns, rows)
        encoded = self._encoder(columns, rows)
        self.names = encoded.names
        unit = np.ones(len(encoded.names), np.bool_)
        self.weighed = weigh(encoded.values, outcome[rows], groups[rows], unit=unit)

    def probability(self, columns: Sequence[Column], rows: I) -> F:
        """Probabilities of rows of columns of the same names."""
        return self.weighed.probability(self._encoder(columns, rows).values)


class EventModel:
    """A filter, the state that it carries on, attributes, and their layer.

    `columns` are attributes at the moments, one row each.
    """

    def __init__(
        self,
        histories: Sequence[History],
        marks: list[str],
        when: Moments,
        columns: Sequence[Column],
        horizon: float,
        shape: Shape,
        seed: int,
        progress: Progress,
    ) -> None:
        self._marks, self.shape = marks, shape
        batch = Batch(histories)
        self.process = _process(batch, len(marks), shape.states, seed, EM_STEPS, progress)
        self._filter = Filter(self.process, shape.kappa, horizon)
        rows = np.arange(len(when.lead))
        self._encoder = Encoder(columns, rows)
        values, unit, towards = self._values(batch, when, columns)
        self.weighed = weigh(values, when.outcome, when.lead, towards, unit)

    def probability(
        self, histories: Sequence[History], when: Moments, columns: Sequence[Column]
    ) -> F:
        """Probabilities at moments of histories."""
        values, *_ = self._values(Batch(histories), when, columns)
        return self.weighed.probability(values)

    def _values(self, batch: Batch, when: Moments, columns: Sequence[Column]) -> tuple[F, B, F]:
        """Values (N, P), which of them have the scale 1, and the weights of the filter alone."""
        state = features(self._filter, batch, when, self._marks)
        attributes = self._encoder(columns, np.arange(len(when.lead)))
        values = np.column_stack([state.values, attributes.values])
        unit = np.arange(values.shape[1]) >= len(state.names)
        towards = np.zeros(values.shape[1])
        by_filter = len(state.names) - 1
        towards[by_filter] = state.values[:, by_filter].std()
        return values, unit, towards


def _process(
    batch: Batch, marks: int, states: int, seed: int, steps: int, progress: Progress
) -> Arrivals:
    start, priors = arrivals.unanchored(batch, states, marks, seed)

    def shown(step: int, _: float) -> None:
        progress("stages", (step + 1) / steps)

    fitted = arrivals.fit(batch, start, priors, steps=steps, progress=shown)
    progress("stages", 1.0)
    return fitted


def choose(
    histories: Sequence[History],
    marks: list[str],
    when: Moments,
    horizon: float,
    seed: int,
    progress: Progress,
) -> Shape:
    """The number of hidden states and κ by the log loss of the layer on leads that are held out."""
    rng = np.random.default_rng(seed)
    held = rng.random(len(histories)) < HELD_OUT
    train, test = np.flatnonzero(~held), np.flatnonzero(held)
    parts = [
        ([histories[int(lead)] for lead in leads], _within(when, leads)) for leads in (train, test)
    ]
    (seen, learned), (unseen, judged) = parts
    if not (_both(learned.outcome) and _both(judged.outcome)):
        return Shape(STATES[-1], KAPPAS[-1])
    learned = _some(learned, rng)
    batch, other, y = Batch(seen), Batch(unseen), learned.outcome.astype(np.float64)
    losses: dict[Shape, F] = {}
    for number, states in enumerate(STATES):
        process = _process(batch, len(marks), states, seed, EM_STEPS_OF_TRIAL, _quiet)
        fitted = None
        for kappa in KAPPAS:
            filter_ = Filter(process, kappa, horizon)
            values = features(filter_, batch, learned, marks).values
            fitted = layer.fit(values, y, STRENGTHS[2], start=fitted)
            p = fitted.probability(features(filter_, other, judged, marks).values)
            losses[Shape(states, kappa)] = measures.losses(p, judged.outcome.astype(np.float64))
        progress("choosing", (number + 1) / len(STATES))
    return _near_the_best(losses, judged.lead)


def _near_the_best(losses: dict[Shape, F], lead: I) -> Shape:
    """Of the shapes with as many states as the one of least loss, the one whose κ is nearest to
    that of the cold start and whose loss is within a standard error of the least.
    """
    best = min(losses, key=lambda shape: float(losses[shape].mean()))
    _, place = np.unique(lead, return_inverse=True)
    for shape in sorted(losses, key=lambda shape: abs(shape.kappa - COLD_KAPPA)):
        gap = losses[shape] - losses[best]
        by_lead = np.bincount(place, weights=gap - gap.mean())
        if shape.states == best.states and gap.mean() <= np.sqrt((by_lead**2).sum()) / len(gap):
            return shape
    return best


def _within(when: Moments, leads: I) -> Moments:
    """The moments of some leads, which are numbered by their place among these."""
    size = 1 + max(int(when.lead.max(initial=0)), int(leads.max(initial=0)))
    place = np.full(size, -1, np.int64)
    place[leads] = np.arange(len(leads))
    found = when.only(place[when.lead] >= 0)
    return found._replace(lead=place[found.lead])


def _some(when: Moments, rng: np.random.Generator) -> Moments:
    """At most MANY of the moments."""
    return when.only(np.sort(rng.permutation(len(when.lead))[:MANY]))


def _both(outcome: B) -> bool:
    return bool(0 < outcome.sum() < len(outcome))


def _quiet(_: str, __: float) -> None:
    """Shows nothing."""
