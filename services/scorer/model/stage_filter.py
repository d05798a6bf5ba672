"""The stage filter: belief over buying stages under a marked Markovian arrival process, and the
published stage.

Arrays are (K, L): K stages in rows, L leads in columns. Every operation is elementwise over leads
in a fixed order, so a lead's numbers do not depend on its batch: the state can be compared bit for
bit. Formulas: Scott & Smyth (2003) for the process, Netzer, Lattin & Srinivasan (2008) for the
funnel.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import expm

from services.shared.clock import DAY, US
from services.shared.playbook.stage_model import Eigenbasis, Model

F = npt.NDArray[np.float64]
I = npt.NDArray[np.int64]  # noqa: E741  # beside F and B
B = npt.NDArray[np.bool_]

NEVER = -(1 << 62)  # an instant before all instants
UNPUBLISHED = -1
KEEP = -1
CONDITION_LIMIT = 1e6
SOON_DAYS = 7.0
SPECIAL = ("outcome", "purchase", "restart", "rejection", "refund")
RESTARTING = frozenset({"restart", "rejection", "refund"})  # signals that restart the filter


class Publication(NamedTuple):
    """The published stage of L leads, and since when."""

    stage: I
    since: I


class StageModel:
    """The filter's tables, worked out once per model."""

    def __init__(self, model: Model, unnamed_weight: float = 1.0) -> None:
        self.model = model
        self.stages = model.stages
        self.k = len(model.stages)
        self.customer = self.k
        self.marks = list(model.rate)
        given = [name for kind in model.given_send for name in (kind, f"no_{kind}")]
        self.signals = [*self.marks, *given, *SPECIAL]
        self.code = {name: i for i, name in enumerate(self.signals)}
        self.start: F = np.array(model.start) / sum(model.start)
        self._tables(unnamed_weight)
        self._dynamics()
        hysteresis = model.hysteresis
        self.publish_at, self.margin = hysteresis.publish_at, hysteresis.margin
        self.dwell = int(hysteresis.dwell_down_days * DAY)
        self.session_gap = int(model.same_mark_within_minutes * 60 * US)
        self.review_us: I = np.array([int(day * DAY) for day in model.review_days], np.int64)
        self.window = {kind: int(given.days * DAY) for kind, given in model.given_send.items()}

    def _tables(self, weight: float) -> None:
        """Factors and chances to jump (K, 2S), and where to (2S); the second S for events that name
        none of several products.
        """
        model, k, s = self.model, self.k, len(self.signals)
        factor, chance, target = np.ones((s, k)), np.zeros((s, k)), np.zeros(s, np.int64)
        for mark, rate in model.rate.items():
            factor[self.code[mark]] = np.array(rate) ** model.kappa
            chance[self.code[mark]], target[self.code[mark]] = self._jump(mark)
        for kind, given in model.given_send.items():
            factor[self.code[kind]] = np.array(given.p) ** model.kappa
            factor[self.code[f"no_{kind}"]] = (1 - np.array(given.p)) ** model.kappa
        self.factor: F = np.ascontiguousarray(np.concatenate([factor, factor**weight]).T)
        self.chance: F = np.ascontiguousarray(np.concatenate([chance, chance * weight]).T)
        self.target: I = np.concatenate([target, target])
        # both count once a session, what answers a send needs none
        marks, words = len(self.marks), len(SPECIAL)
        self.sessions = marks + words
        sessions = [*range(marks), *[-1] * (s - self.sessions), *range(marks, self.sessions)]
        self.session_of_code: I = np.array(sessions * 2, np.int64)
        demo, unsubscribe = (self.code.get(name, -9) for name in ("demo", "unsubscribe"))
        forced, silent = np.full(2 * s, KEEP, np.int64), np.zeros(2 * s, np.bool_)
        for base in (0, s):
            if demo >= 0:
                forced[base + demo] = self.stages.index(model.jump["demo"].target)
            forced[base + self.code["purchase"]] = self.customer
            if unsubscribe >= 0:
                silent[base + unsubscribe] = True
        self.forced: I = forced
        self.publishes_nothing: B = silent
        self.shared_offset = s

    def _jump(self, mark: str) -> tuple[F, int]:
        """B_m: with these chances (K) a stage moves to the target, from before it by `up`, from
        beyond it by `down`.
        """
        jump = self.model.jump[mark]
        target, stage = self.stages.index(jump.target), np.arange(self.k)
        return np.where(stage < target, jump.up, np.where(stage > target, jump.down, 0.0)), target

    def jump_matrix(self, mark: str) -> F:
        """B_m (K, K)."""
        chance, target = self._jump(mark)
        matrix = np.diag(1 - chance)
        matrix[:, target] += chance
        return matrix

    def _dynamics(self) -> None:
        """D0 with its eigenbasis, exp(D0·d) for the review days, and v_H = 1 − exp(G·H)·1."""
        model, k = self.model, self.k
        rates, hazard = np.array([model.rate[m] for m in self.marks]), np.array(model.hazard)
        drift = np.array(model.drift, float)
        np.fill_diagonal(drift, 0.0)
        leave = drift.sum(1) + hazard
        self.d0: F = drift - np.diag(leave + model.kappa * rates.sum(0))
        moving = drift + sum(
            np.diag(rates[i]) @ self.jump_matrix(m) for i, m in enumerate(self.marks)
        )
        g = moving - np.diag(leave + rates.sum(0))
        self.v: F = 1 - expm(g * model.horizon_days) @ np.ones(k)
        self.soon: F = 1 - expm(g * SOON_DAYS) @ np.ones(k)
        self.basis = self._eigenbasis()
        self.reviews: F = np.ascontiguousarray(
            np.array([expm(self.d0 * day) for day in model.review_days]).transpose(1, 2, 0)[
                ..., None
            ]
        )

    def _eigenbasis(self) -> tuple[F, F, F] | None:
        """(values, V, V⁻¹) of D0 from the model's file where it fits, else worked out; None where
        ill-conditioned.
        """
        held = self.model.eigenbasis
        if held and held.of == self.model.parameters_hash:
            return np.array(held.values), np.array(held.vectors), np.array(held.inverse)
        values, vectors = np.linalg.eig(self.d0)
        if np.iscomplexobj(values) or np.linalg.cond(vectors) > CONDITION_LIMIT:
            return None
        return values, vectors, np.linalg.inv(vectors)

    def held_eigenbasis(self) -> Eigenbasis | None:
        """What a model's file should hold, so that two machines agree."""
        if self.basis is None:
            return None
        values, vectors, inverse = (array.tolist() for array in self.basis)
        return Eigenbasis(
            of=self.model.parameters_hash, values=values, vectors=vectors, inverse=inverse
        )

    def advance(self, belief: F, days: F) -> F:
        """Belief (K, L) after `days` (L) without evidence: a·exp(D0·Δ), normalised."""
        if self.basis is None:
            steps = expm(self.d0[None] * days[:, None, None])
            return normalise(_mix_each(belief, np.ascontiguousarray(steps.transpose(1, 2, 0))))
        _, vectors, inverse = self.basis
        moved = _mix(_mix(belief, vectors) * self.decay(days), inverse)
        return normalise(np.maximum(moved, 0.0))

    def decay(self, days: F) -> F:
        """What `days` (L) of silence multiply in the eigenbasis (K, L)."""
        values = self.basis[0] if self.basis else np.ones(0)
        return np.exp((values - values.max())[:, None] * days)

    def update(self, belief: F, code: I) -> F:
        """Belief (K, L) after one signal each (L): a ∝ (a ∘ rate^κ)·B."""
        weighed = belief * self.factor[:, code]
        moved = weighed * self.chance[:, code]
        weighed -= moved
        weighed[self.target[code], np.arange(code.size)] += _total(moved)
        return normalise(weighed)

    def candidate(self, belief: F) -> I:
        """The stage (L) that a belief (K, L) would publish, KEEP where it is not clear enough."""
        best, top, second = (
            np.zeros(belief.shape[1], np.int64),
            belief[0],
            np.full(belief.shape[1], -1.0),
        )
        for k in range(1, self.k):
            ahead = belief[k] > top
            second = np.maximum(second, np.minimum(top, belief[k]))
            top = np.where(ahead, belief[k], top)
            best[ahead] = k
        best[~((top >= self.publish_at) & (top - second >= self.margin))] = KEEP
        return best

    def publish(self, now: Publication, want: I, at: I, free: B) -> Publication:
        """Up at once, down after the dwell, never where `free` is false."""
        down = (want < now.stage) & (at - now.since >= self.dwell)
        move = free & (want != KEEP) & ((want > now.stage) | down)
        return Publication(np.where(move, want, now.stage), np.where(move, at, now.since))

    def review(
        self, belief: F, evidence_at: I, until: I, now: Publication, free: B, *, inclusive: bool
    ) -> Publication:
        """The published stage (L) after the review days between the last evidence and `until`."""
        elapsed = np.where(free & (evidence_at > NEVER), until - evidence_at, 0)
        if not inclusive:
            elapsed = elapsed - 1
        days = np.searchsorted(self.review_us, elapsed, side="right").astype(np.uint8)
        some = np.flatnonzero(days)
        if not some.size:
            return now
        some = some[np.argsort(days.max() - days[some], kind="stable")]
        reached = np.searchsorted(-days[some].astype(np.int64), -np.arange(days.max()), "left")
        part, ends = np.take(belief, some, axis=1), np.cumsum(reached)
        looks = np.concatenate(
            [_mix(part[:, :n], self.reviews[..., day, 0]) for day, n in enumerate(reached)], axis=1
        )
        wants = self.candidate(normalise(looks))
        clear = wants != KEEP
        stage, since, began = now.stage[some], now.since[some], evidence_at[some]
        for day, n, end in zip(self.review_us, reached, ends, strict=False):
            want = wants[end - n : end]
            moving = np.flatnonzero(clear[end - n : end] & (want != stage[:n]))
            if moving.size:
                here = Publication(stage[moving], since[moving])
                free = np.ones(moving.size, np.bool_)
                stage[moving], since[moving] = self.publish(
                    here, want[moving], began[moving] + day, free
                )
        out = Publication(now.stage.copy(), now.since.copy())
        out.stage[some], out.since[some] = stage, since
        return out

    def outcome_probability(self, belief: F) -> F:
        """P(outcome within the horizon) (L) of a belief (K, L)."""
        return _weighted(belief, self.v)

    def outcome_soon(self, belief: F) -> F:
        """P(outcome within SOON_DAYS) (L)."""
        return _weighted(belief, self.soon)

    def marks_of(self, code: I) -> I:
        """The marks of signals (L), −1 of those that are no marks."""
        session = self.session_of_code[code]
        return np.where(session < len(self.marks), session, -1)


def normalise(belief: F) -> F:
    """Columns that sum to one; the sum is taken in stage order."""
    return belief / _total(belief)


def _total(belief: F) -> F:
    total = belief[0].copy()
    for row in belief[1:]:
        total += row
    return total


def _weighted(belief: F, weight: F) -> F:
    return _total(belief * weight[:, None])


def _mix(belief: F, matrix: F) -> F:
    """Row vector times one matrix (K, K), for every column of `belief`."""
    out = belief[0] * matrix[0][:, None]
    for k in range(1, len(matrix)):
        out += belief[k] * matrix[k][:, None]
    return out


def _mix_each(belief: F, matrices: F) -> F:
    """Row vector times a matrix of its own (K, K, L), for every column of `belief`."""
    out = belief[0] * matrices[0]
    for k in range(1, len(matrices)):
        out += belief[k] * matrices[k]
    return out
