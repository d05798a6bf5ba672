"""A marked Markovian arrival process with an absorbing outcome, fitted by EM.

A hidden state of K changes in continuous time; while in state k a lead makes events of mark m at
`rate[k, m]` a day, after which it is in state l with probability `jump[m, k, l]`, and reaches the
outcome at `hazard[k]` a day. Times between events, silence until the end of observation included,
are therefore evidence. Rows are states.

Forward and backward passes after Scott & Smyth (2003); the conditioned integrals in closed form in
the eigenbasis of D0, as Van Loan (1978) has them by one exponential; M step after Asmussen, Nerman
& Olsson (1996), with gamma priors on rates and Dirichlet priors on rows of probabilities, so that
the penalised likelihood never falls.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import expm

from services.scorer.learning.histories import Batch, F, I

C = npt.NDArray[np.complex128]
TINY = 1e-300
CONDITION_LIMIT = 1e6
Shape = Callable[[F], F]  # from expected jumps (M, K, K) to matrices of that form
EQUAL = 1e-7  # relative distance of eigenvalues at which the limit of the divided difference holds


NONE = np.zeros((1, 0))


class Arrivals(NamedTuple):
    """The process: `start` (K), `drift` (K, K) off its diagonal, `rate` (K, M), `jump` (M, K, K),
    `hazard` (K); rates a day.

    `answer` (K, A) are chances of answers to what is sent. They are no arrivals but outcomes of a
    window that ends: the answer a given is mark M + 2a of a history, not given M + 2a + 1.
    """

    start: F
    drift: F
    rate: F
    jump: F
    hazard: F
    answer: F = NONE

    def quiet(self, kappa: float = 1) -> F:
        """D0 (K, K): how the state moves while nothing happens, silence tempered by κ."""
        drift = self.drift - np.diag(np.diag(self.drift))
        return drift - np.diag(drift.sum(1) + kappa * self.rate.sum(1) + self.hazard)

    @property
    def acts(self) -> F:
        """D_m (M, K, K): the density of mark m with the jump that follows it."""
        return self.rate.T[:, :, None] * self.jump

    @property
    def answers(self) -> F:
        """Answers given and not given, as matrices (2A, K, K) that move no state."""
        chances = np.stack([self.answer, 1 - self.answer], axis=-1).reshape(len(self.answer), -1)
        return chances.T[:, :, None] * np.eye(len(self.start))

    def within(self, days: float) -> F:
        """P(outcome within `days`) from each state (K): 1 − exp(G·days)·1."""
        moving = self.quiet() + self.acts.sum(0)
        return 1 - expm(moving * days).sum(1)


class Priors(NamedTuple):
    """Pseudo-observations: `events` (K, M) in `days` (K), `moves` (K, K) by drift, `jumps`
    (M, K, K), `outcomes` (K), `start` (K), `answered` and `unanswered` (K, A). All are positive but
    for the diagonal of `moves`.
    """

    events: F
    days: F
    moves: F
    jumps: F
    outcomes: F
    start: F
    answered: F = NONE
    unanswered: F = NONE

    def log(self, process: Arrivals) -> float:
        """Log density of the parameters, up to a constant: what is added to the likelihood."""
        off = ~np.eye(len(self.days), dtype=bool)
        leaving = process.rate.sum(1) + process.hazard + process.drift.sum(1, where=off)
        entered = process.start * process.rate.sum(1)
        return float(
            (self.events * np.log(process.rate)).sum()
            + (self.moves * np.log(np.maximum(process.drift, TINY))).sum(where=off)
            + (self.jumps * np.log(np.maximum(process.jump, TINY))).sum()
            + (self.outcomes * np.log(process.hazard)).sum()
            + (self.start * np.log(entered / entered.sum())).sum()
            - (self.days * leaving).sum()
            + (self.answered * np.log(process.answer)).sum()
            + (self.unanswered * np.log1p(-process.answer)).sum()
        )


class Statistics(NamedTuple):
    """Expected sufficient statistics: log likelihood, states at the first event (K) and its marks
    (K, M), jumps (M + 2A, K, K), and ∫ of being in k with the end in l (K, K), outcomes (K).
    """

    log_likelihood: float
    start: F
    first: F
    jumps: F
    stays: F
    outcomes: F


class Propagator:
    """exp(D0·Δ) for many Δ, by the eigenbasis of D0. Raises ValueError where that is
    ill-conditioned.
    """

    def __init__(self, quiet: F) -> None:
        self.values, self.vectors = np.linalg.eig(quiet)
        if np.linalg.cond(self.vectors) > CONDITION_LIMIT:
            raise ValueError("the process has no well-conditioned eigenbasis")
        self.inverse = np.linalg.inv(self.vectors)

    def forward(self, rows: F, days: F) -> F:
        """rows (N, K)·exp(D0·days)."""
        return self._between(rows, self.vectors, self.inverse, days)

    def backward(self, columns: F, days: F) -> F:
        """exp(D0·days)·columns, given and returned as rows (N, K)."""
        return self._between(columns, self.inverse.T, self.vectors.T, days)

    def _between(self, rows: F, there: F, back: F, days: F) -> F:
        decayed = (rows @ there) * np.exp(np.outer(days, self.values))
        return np.maximum((decayed @ back).real, TINY)

    def integral(self, before: F, after: F, days: F) -> C:
        """Σ over intervals of ∫ (before·exp(D0·s))ᵀ (exp(D0·(days − s))·after) ds in the eigenbasis
        (K, K); `stays` brings it back.
        """
        left, right = before @ self.vectors, after @ self.inverse.T
        decay = np.exp(np.outer(days, self.values))
        total = np.zeros((len(self.values),) * 2, np.complex128)
        for p, value in enumerate(self.values):
            apart = value - self.values
            near = np.abs(apart) * np.maximum(days, 1e-12)[:, None] <= EQUAL
            difference = (decay[:, [p]] - decay) / np.where(np.abs(apart) < 1e-13, 1, apart)
            share = np.where(near, days[:, None] * decay, difference)
            total[p] = np.einsum("n,nq,nq->q", left[:, p], right, share)
        return total

    def stays(self, total: C) -> F:
        """The integral in states (K, K)."""
        return (self.inverse.T @ total @ self.vectors.T).real


def statistics(process: Arrivals, batch: Batch) -> Statistics:
    """The E step over all leads of a batch, each conditioned on having a first event, no answer."""
    propagator = Propagator(process.quiet())
    acts = np.concatenate([process.acts, process.answers])
    before, after, log_likelihood = _forward(process, batch, propagator, acts)
    last = batch.last(after)
    reached = propagator.forward(last, batch.tail)
    ending = np.where(batch.converted[:, None], process.hazard, 1.0)
    scale = (reached * ending).sum(1, keepdims=True)
    ending = ending / scale
    log_likelihood += float(np.log(scale).sum())
    outcomes = (reached * ending)[batch.converted].sum(0)
    total = propagator.integral(last, ending, batch.tail)
    jumps = np.zeros_like(acts)
    later = propagator.backward(ending, batch.tail)
    start, first = np.zeros(len(process.start)), np.zeros_like(process.rate)
    for j in range(len(batch.alive) - 1, -1, -1):
        n, marks = batch.alive[j], batch.marks[j, : batch.alive[j]]
        prior, act = before[j], acts[marks]
        posterior = prior[:, :, None] * act * later[:n, None, :]
        scale = posterior.sum((1, 2))
        jumps += _by_mark(marks, posterior / scale[:, None, None], len(acts))
        ahead = np.einsum("nkl,nl->nk", act, later[:n]) / scale[:, None]
        if j:
            total += propagator.integral(after[j - 1][:n], ahead, batch.gaps[j, :n])
            later[:n] = propagator.backward(ahead, batch.gaps[j, :n])
        else:
            weights = prior * ahead
            start = weights.sum(0)
            first += _by_mark(marks, weights, len(first.T)).T
    return Statistics(log_likelihood, start, first, jumps, propagator.stays(total), outcomes)


def _by_mark(marks: I, values: F, size: int) -> F:
    """Sums (size, …) of values (N, …) by their mark (N)."""
    chosen = (marks == np.arange(size)[:, None]).astype(np.float64)
    return (chosen @ values.reshape(len(marks), -1)).reshape(size, *values.shape[1:])


def _forward(
    process: Arrivals, batch: Batch, propagator: Propagator, acts: F
) -> tuple[list[F], list[F], float]:
    """States before and after each j-th event (alive[j], K), and the log likelihood up to the last
    events.
    """
    before: list[F] = []
    after: list[F] = []
    log_likelihood = -batch.size * float(np.log(process.start @ process.rate.sum(1)))
    for j, n in enumerate(batch.alive):
        prior = (
            propagator.forward(after[-1][:n], batch.gaps[j, :n])
            if j
            else np.broadcast_to(process.start, (n, len(process.start)))
        )
        state = np.einsum("nk,nkl->nl", prior, acts[batch.marks[j, :n]])
        scale = state.sum(1, keepdims=True)
        log_likelihood += float(np.log(scale).sum())
        before.append(prior)
        after.append(state / scale)
    return before, after, log_likelihood


def total(parts: Sequence[Statistics]) -> Statistics:
    """The statistics of all leads of parts."""
    return Statistics(*(sum(each[1:], each[0]) for each in zip(*parts, strict=True)))


def improved(process: Arrivals, found: Statistics, priors: Priors, shape: Shape) -> Arrivals:
    """The M step from the expectations under `process`."""
    days = np.maximum(np.diag(found.stays), 0) + priors.days
    moves = process.drift * np.maximum(found.stays, 0) + priors.moves
    drift = moves / days[:, None]
    np.fill_diagonal(drift, 0)
    m, states = process.rate.shape[1], np.arange(len(process.start))
    jumps, answers = found.jumps[:m], found.jumps[m:][:, states, states].T
    given, missed = answers[:, ::2] + priors.answered, answers[:, 1::2] + priors.unanswered
    marks = jumps.sum(2).T + priors.events  # the first events choose marks, but not how often
    speed = (marks - found.first).sum(1) / days
    start = (found.start + priors.start) / speed
    return Arrivals(
        start / start.sum(),
        drift,
        speed[:, None] * marks / marks.sum(1, keepdims=True),
        shape(jumps + priors.jumps),
        (found.outcomes + priors.outcomes) / days,
        given / (given + missed),
    )


def free(jumps: F) -> F:
    """Matrices of jumps without a form: each row the shares of its jumps."""
    return jumps / jumps.sum(2, keepdims=True)


def towards(targets: Sequence[int]) -> Shape:
    """Matrices that move to one target a mark or stay: `up` from any state before it, `down` from
    any beyond, as the playbook's model has them.
    """

    def shape(jumps: F) -> F:
        out = np.zeros_like(jumps)
        states = np.arange(jumps.shape[1])
        for m, target in enumerate(targets):
            moved, stayed = jumps[m, :, target], jumps[m, states, states]
            for side in (states < target, states > target):
                if side.any():
                    chance = moved[side].sum() / (moved[side].sum() + stayed[side].sum())
                    out[m, side, target], out[m, side, states[side]] = chance, 1 - chance
            out[m, target, target] = 1
        return out

    return shape


def fit(
    batch: Batch | Sequence[Batch],
    process: Arrivals,
    priors: Priors,
    *,
    shape: Shape = free,
    steps: int = 40,
    tolerance: float = 1e-5,
    progress: Callable[[int, float], None] | None = None,
) -> Arrivals:
    """Up to `steps` steps of EM on all leads from `process`; ends where the penalised log
    likelihood gains less than `tolerance` a lead. `progress` gets the step and that likelihood.
    """
    previous = -np.inf
    parts = [batch] if isinstance(batch, Batch) else batch
    size = sum(part.size for part in parts)
    for step in range(steps):
        found = total([statistics(process, part) for part in parts])
        penalised = found.log_likelihood + priors.log(process)
        if progress:
            progress(step, penalised)
        if penalised - previous < tolerance * size:
            break
        previous = penalised
        process = improved(process, found, priors, shape)
    return process


def unanchored(batch: Batch, states: int, marks: int, seed: int) -> tuple[Arrivals, Priors]:
    """A start with `states` states without names, from the slowest to the fastest, and weak priors.

    Random by `seed`, for EM climbs to the nearest summit.
    """
    rng = np.random.default_rng(seed)
    seen = float(batch.gaps.sum() + batch.tail.sum())
    alive = np.arange(len(batch.alive))[:, None] < batch.lengths
    mean = (np.bincount(batch.marks[alive], minlength=marks) + 1) / (seen + 1)
    speed = np.geomspace(0.05, 20, states)
    rate = speed[:, None] * mean * rng.gamma(3, 1 / 3, (states, marks)) + 1e-4
    drift = 0.05 / states * rng.gamma(2, 0.5, (states, states))
    np.fill_diagonal(drift, 0)
    jump = 0.5 * np.eye(states) + 0.5 * rng.dirichlet(np.ones(states), (marks, states))
    hazard = (batch.converted.sum() + 1) / (seen + 1) * np.sqrt(speed) * rng.gamma(3, 1 / 3, states)
    process = Arrivals(np.full(states, 1 / states), drift, rate, jump, hazard)
    priors = Priors(
        events=np.full((states, marks), 0.1),
        days=np.ones(states),
        moves=np.full((states, states), 0.01) - 0.01 * np.eye(states),
        jumps=np.broadcast_to(0.5 * np.eye(states) + 0.01, (marks, states, states)),
        outcomes=np.full(states, 0.01),
        start=np.full(states, 0.01),
    )
    return process, priors
