"""A model learned from a company's own leads: the stages' rates, κ, the log-odds layer on the
state, attributes, calibration. With few outcomes it is the model that it began with.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

from services.scorer.learning import anchored, calibration, layer
from services.scorer.learning.episodes import (
    Episode,
    Traits,
    histories,
    state_values,
    traits_at,
)
from services.scorer.learning.histories import B, F, I
from services.scorer.learning.ladder import Ladder
from services.scorer.learning.leaks import Findings
from services.scorer.learning.moments import Moments, moments
from services.scorer.learning.persons import Columns, columns, leaking
from services.scorer.model.estimate import value_names
from services.scorer.model.fold import Fold
from services.scorer.model.stage_filter import StageModel
from services.shared.clock import DAY
from services.shared.playbook.learned import Calibration, Layer, Learned, Training
from services.shared.playbook.sections import Playbook
from services.shared.playbook.stage_model import Model

LANDMARKS = (1.0, 3.0, 7.0, 14.0, 30.0, 60.0)
STRENGTHS = (10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0)
MOST_ROWS = 120_000
PARTS = 5
HELD_OUT = 0.2  # of the leads, for the choice of κ
LEAST_OUTCOMES = 10  # below it nothing is learned
CALIBRATED_BY = 100  # outcomes
BETA_PRIOR = 50.0
EVIDENT = 1.0  # standard errors
TRIAL_TOLERANCE = 1e-8  # a row: such a layer is as good as its strength

Progress = Callable[[str, float], None]
NOTHING = Training(source="", began="", until="", leads=0, events=0, outcomes=0, rows=0)


class Rows(NamedTuple):
    """Moments of episodes, and what was known of the persons then."""

    found: Sequence[Episode]
    when: Moments
    traits: list[Traits]

    @property
    def groups(self) -> I:
        """The lead of each."""
        leads = np.array([each.lead for each in self.found], np.int64)
        return leads[self.when.lead]

    @property
    def persons(self) -> list[Traits]:
        """What was known of each lead at the last of its moments."""
        last: dict[int, tuple[float, Traits]] = {}
        for lead, at, known in zip(
            self.groups.tolist(), self.when.at.tolist(), self.traits, strict=True
        ):
            if lead not in last or at >= last[lead][0]:
                last[lead] = at, known
        return [known for _, known in last.values()]

    @property
    def outcomes(self) -> int:
        """How many episodes with the outcome it has moments of."""
        return len(np.unique(self.when.lead[self.when.outcome]))


def rows_of(
    found: Sequence[Episode],
    horizon: float,
    until: int,
    rng: np.random.Generator,
    since: int | None = None,
) -> Rows:
    """The moments of episodes whose horizon ended by `until` (µs), of the three kinds; those from
    `since` (µs) on. Of very many, those of a part of the leads.
    """
    when = moments(histories(found), LANDMARKS, horizon, until / DAY, rng)
    if since is not None:
        when = when.only(when.at >= since / DAY)
    if len(when.lead) > MOST_ROWS:
        leads = np.array([each.lead for each in found], np.int64)[when.lead]
        distinct, place = np.unique(leads, return_inverse=True)
        share = MOST_ROWS / len(when.lead)
        when = when.only((rng.random(len(distinct)) < share)[place])
    return Rows(found, when, traits_at(found, when))


def predicted(fold: Fold, rows: Rows) -> F:
    """Log-odds of the fold's model at the moments."""
    numbers = state_values(fold.model, rows.found, rows.when)
    return fold.estimate.of_values(numbers.T, effects(fold, rows.traits))


def effects(fold: Fold, traits: Sequence[Traits]) -> F:
    """What is known of persons adds to the log-odds."""
    known: dict[int, float] = {}
    for each in traits:
        if id(each) not in known:
            known[id(each)] = fold.estimate.effect(each)
    return np.array([known[id(each)] for each in traits], float)


def learned(
    playbook: Playbook,
    found: Sequence[Episode],
    until: int,
    seed: int = 0,
    progress: Progress = lambda *_: None,
    without: Collection[str] = (),
) -> Model:
    """The model of episodes as known at `until` (µs), beginning with the playbook's own; traits
    that know the outcome, and those `without`, are not used.
    """
    rng = np.random.default_rng(seed)
    if sum(each.converted for each in found) < LEAST_OUTCOMES:  # whoever they are, they say little
        return playbook.model.model_copy(update={"learned": plain(playbook.model)})
    model = stages_of(playbook.model, found, rng, progress)
    rows = rows_of(found, model.horizon_days, until, rng)
    refused = {finding.column for finding in leaks_of(playbook, found, until).refused}
    return weighed(playbook, model, rows, rng, progress, refused.union(without))


def leaks_of(playbook: Playbook, found: Sequence[Episode], until: int) -> Findings:
    """Traits that seem to know the outcome, by what is dated at the leads' beginning: what people
    tell later is known by its time. Of each lead its first episode whose horizon ended by `until`
    (µs) counts.
    """
    horizon = int(playbook.model.horizon_days * DAY)
    begun: dict[int, tuple[Traits, bool]] = {}
    for each in found:
        at = int(each.at[0] + LANDMARKS[0] * DAY)
        if at + horizon <= until and (at < each.end or not each.converted):
            begun.setdefault(each.lead, (each.known(at), each.converted))
    traits = [known for known, _ in begun.values()]
    outcome = np.array([converted for _, converted in begun.values()], np.bool_)
    return leaking(traits, outcome, playbook.fit.known_at_capture)


def stages_of(
    model: Model, found: Sequence[Episode], rng: np.random.Generator, progress: Progress
) -> Model:
    """The stage filter learned from episodes, and its κ."""
    given, stages = model, StageModel(model)
    leads = np.array([each.lead for each in found], np.int64)
    distinct, place = np.unique(leads, return_inverse=True)
    held = (rng.random(len(distinct)) < HELD_OUT)[place]

    def part(name: str, steps: int) -> Callable[[int, float], None]:
        return lambda step, _: progress(name, min(1.0, (step + 1) / steps))

    seen = anchored.batches(
        stages, [each for each, out in zip(found, held, strict=True) if not out]
    )
    judged = anchored.batches(stages, [each for each, out in zip(found, held, strict=True) if out])
    if seen and judged:
        trial = anchored.fitted(model, seen, progress=part("tempering", anchored.STEPS))
        given = model.model_copy(update={"kappa": anchored.choose_kappa(trial, judged)})
    progress("tempering", 1.0)
    every = anchored.batches(stages, found)
    if every:
        given = anchored.fitted(given, every, progress=part("stages", anchored.STEPS))
    progress("stages", 1.0)
    return given


class Design(NamedTuple):
    """Values (N, P) of state, as the `ladder` has them, fit and attributes, the weights of the
    stages alone, which columns have the scale 1, and which weights have a sign.
    """

    values: F
    towards: F
    unit: B
    signs: I
    state: int
    ladder: Ladder
    columns: Columns


def design(playbook: Playbook, model: Model, rows: Rows, without: Collection[str] = ()) -> Design:
    """What the layer is learned from."""
    fold = Fold(playbook.with_model(model))
    ladder = Ladder(fold.model)
    state = ladder.values(state_values(fold.model, rows.found, rows.when))
    fit = effects(fold, rows.traits)[:, None]
    chosen = columns(rows.persons, without)
    values = np.column_stack([state, fit, chosen.values(rows.traits)])
    size = state.shape[1]
    towards = np.zeros(values.shape[1])
    towards[size - 1], towards[size] = state[:, -1].std(), 1.0
    unit = np.arange(values.shape[1]) >= size
    signs = np.concatenate([ladder.signs, np.zeros(values.shape[1] - size, np.int64)])
    return Design(values, towards, unit, signs, size, ladder, chosen)


def weighed(
    playbook: Playbook,
    model: Model,
    rows: Rows,
    rng: np.random.Generator,
    progress: Progress,
    without: Collection[str] = (),
) -> Model:
    """The model with its layer, attributes but for those `without`, and calibration, as far as
    other leads bear them out.
    """
    by_stages_alone = plain(model)
    if rows.outcomes < LEAST_OUTCOMES or rows.when.outcome.all():
        progress("weights", 1.0)
        return model.model_copy(update={"learned": by_stages_alone})
    made = design(playbook, model, rows, without)
    y = rows.when.outcome.astype(np.float64)
    by_stages = made.values[:, made.state - 1] + made.values[:, made.state]
    out_of_fold = _tried(made, y, rows.groups, rng, progress)
    strength = _chosen(
        [*(loss(z, y) for z in out_of_fold.values()), loss(by_stages, y)], rows.groups
    )
    progress("weights", 1.0)
    fitted = strength and layer.fit(
        made.values, y, strength, made.towards, made.unit, signs=made.signs
    )
    chosen = _exported(made, model, fitted) if fitted else by_stages_alone
    z = out_of_fold[strength] if strength else by_stages
    update = {
        "calibration": _calibration(z, rows.when.outcome),
        "calibrated": rows.outcomes >= CALIBRATED_BY,
    }
    return model.model_copy(update={"learned": chosen.model_copy(update=update)})


def _calibration(log_odds: F, outcome: B) -> Calibration:
    """The beta calibration of predictions (N), of those that were made."""
    judged = np.isfinite(log_odds)
    found = calibration.beta(outcome[judged], layer.sigmoid(log_odds[judged]), BETA_PRIOR)
    return Calibration(a=found.a, b=found.b, c=found.c)


def _tried(
    made: Design, y: F, groups: I, rng: np.random.Generator, progress: Progress
) -> dict[float, F]:
    """Log-odds (N) of each strength by layers that have not seen the lead; NaN where not tried."""
    distinct, place = np.unique(groups, return_inverse=True)
    part = (rng.permutation(len(distinct)) % PARTS)[place]
    tried = {strength: np.full(len(y), np.nan) for strength in STRENGTHS}
    for number in range(PARTS):
        train, test = part != number, part == number
        if not test.any() or not 0 < y[train].sum() < train.sum():
            continue
        fitted = None
        trial = layer.Design(made.values[train], y[train], made.towards, made.unit, made.signs)
        for strength in reversed(STRENGTHS):
            fitted = trial.fit(strength, fitted, TRIAL_TOLERANCE)
            tried[strength][test] = fitted.log_odds(made.values[test])
        progress("weights", (number + 1) / (PARTS + 1))
    return tried


def _chosen(losses: Sequence[F], groups: I) -> float | None:
    """The strongest shrinkage whose loss is within EVIDENT standard errors, over leads, of the
    best; None for the stages alone, whose losses come last.
    """
    judged = np.isfinite(np.array(losses)).all(0)
    if not judged.any():
        return None
    means = [float(each[judged].mean()) for each in losses]
    best = int(np.argmin(means))
    for place in range(len(losses) - 1, best, -1):
        gap = (losses[place] - losses[best])[judged]
        if gap.mean() <= EVIDENT * error_of_mean(gap, groups[judged]):
            return STRENGTHS[place] if place < len(STRENGTHS) else None
    return STRENGTHS[best] if best < len(STRENGTHS) else None


def error_of_mean(values: F, groups: I) -> float:
    """The standard error of a mean over rows (N), those of one group taken as one."""
    _, place = np.unique(groups, return_inverse=True)
    sums = np.bincount(place, weights=values - values.mean())
    return float(np.sqrt((sums**2).sum())) / len(values)


def loss(log_odds: F, y: F) -> F:
    """−log of the probability of what happened (N), in nats."""
    return np.logaddexp(0, log_odds) - y * log_odds


def plain(model: Model) -> Learned:
    """The layer that says what the stages say."""
    names = value_names(StageModel(model))
    zeros, ones = [0.0] * len(names), [1.0] * len(names)
    return Learned(
        layer=Layer(
            intercept=0.0, names=names, weight=[*zeros[1:], 1.0], mean=zeros, scale=ones,
            low=[-1e6] * len(names), high=[1e6] * len(names),
        ),
        training=NOTHING,
    )  # fmt: skip


def _exported(made: Design, model: Model, fitted: layer.Layer) -> Learned:
    """The layer as a model file holds it: fit and attributes are weights of their own."""
    s = made.state
    used = np.isfinite(fitted.scale)
    used[s] = True  # fit that is the same everywhere keeps the weight that it is shrunk to
    scale = np.where(np.isfinite(fitted.scale), fitted.scale, 1.0)
    weight = np.where(used, fitted.weight, 0.0)
    shift = float((weight[s:] * fitted.mean[s:]).sum())
    held = made.ladder.layer(
        fitted.intercept - shift, weight[:s] / scale[:s], fitted.mean[:s], made.values[:, :s]
    )
    return Learned(
        layer=held,
        fit=float(weight[s]),
        attributes=made.columns.weighed(weight[s + 1 :]),
        training=NOTHING,
    )  # fmt: skip
