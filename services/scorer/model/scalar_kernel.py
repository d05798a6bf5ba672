"""The fold of one state by plain numbers: bit for bit what the vectorised kernel makes of it, for
where there are too few states for arrays to pay.

Integers decide which steps count; the exponentials of all of them are worked out at once, by the
same functions and in the same order of operations as in the filter's arrays.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import repeat
from math import nan
from operator import add, mul, sub, truediv
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import expm

from services.scorer.model.activity import NO_MARK, Activity, remaining
from services.scorer.model.score import EngagementScore
from services.scorer.model.stage_filter import KEEP, NEVER, F, StageModel
from services.scorer.model.state import StateArrays
from services.shared.clock import DAY

Belief = list[float]  # K
# Called as observe(step's number, belief after silence, belief after the step).
StepObserver = Callable[[int, Belief, Belief], None]


class _Evidence(NamedTuple):
    """A step that the filter takes: `silence` (µs) goes before it, none in a state that is not
    `free`.
    """

    number: int
    at: int
    code: int
    silence: int
    free: bool


class _Act(NamedTuple):
    """A step that gives points, and for how long (µs) those before it have decayed."""

    rule: int
    elapsed: int


class Specials(NamedTuple):
    """What each code does to a state, and the session of opportunities."""

    ends: Sequence[bool]
    restarts: Sequence[bool]
    reopens: Sequence[bool]
    rejections: Sequence[bool]
    losses: Sequence[bool]
    opportunity: int


class ScalarKernel:
    """Folds steps into one state at a time."""

    def __init__(self, model: StageModel, engagement: EngagementScore, specials: Specials) -> None:
        self._model, self._engagement, self._special = model, engagement, specials
        self._session_of, self._marks = model.session_of_code.tolist(), len(model.marks)
        self._factor, self._chance = model.factor.T.tolist(), model.chance.T.tolist()
        self._target, self._forced = model.target.tolist(), model.forced.tolist()
        self._silent, self._start = model.publishes_nothing.tolist(), model.start.tolist()
        self._review_us: list[int] = model.review_us.tolist()
        # columns of each review day's matrix, and of the basis
        self._reviews: list[list[Belief]] = model.reviews[..., 0].transpose(2, 1, 0).tolist()
        if model.basis is not None:
            _, vectors, inverse = model.basis
            self._vectors, self._inverse = vectors.T.tolist(), inverse.T.tolist()
        self._period, self._limit = engagement.period.tolist(), engagement.limit.tolist()
        self._group, self._points = engagement.group.tolist(), engagement.points.tolist()

    def run(
        self,
        states: StateArrays,
        i: int,
        steps: Sequence[Sequence[int]],
        observe: StepObserver | None = None,
    ) -> None:
        """Folds steps, given as their instants, codes and rules, into state i."""
        evidence, acts = self._counting(states, i, steps)
        if acts:
            self._count(states, i, acts)
        if evidence:
            self._filter(states, i, evidence, observe)

    def _counting(
        self, states: StateArrays, i: int, steps: Sequence[Sequence[int]]
    ) -> tuple[list[_Evidence], list[_Act]]:
        """The steps that the filter takes and those that give points; sessions and frequency
        limits as they are after all of them.
        """
        session, used = states.session[:, i].tolist(), states.used[:, i].tolist()
        window, points_at = states.window[:, i].tolist(), int(states.points_at[i])
        ended, last = int(states.ended[i]), int(states.evidence_at[i])
        customer = int(states.published.stage[i]) == self._model.customer
        gap, outcomes = self._model.session_gap, range(self._marks, len(session))
        special = self._special
        evidence: list[_Evidence] = []
        acts: list[_Act] = []
        for number, (at, code, rule) in enumerate(zip(*steps, strict=True)):
            mark = self._session_of[code] if code >= 0 else -1
            further = customer and session[special.opportunity] > NEVER
            if mark >= 0:
                if at - session[mark] <= gap:
                    continue
                if mark >= self._marks:  # another sales outcome ends the sessions of the rest
                    for each in outcomes:
                        session[each] = NEVER
                session[mark] = at
            if rule >= 0:
                if at - window[rule] >= self._period[rule]:
                    window[rule], used[rule] = at, 0
                used[rule] += 1
                if used[rule] <= self._limit[rule]:
                    acts.append(_Act(rule, at - points_at if points_at > NEVER else 0))
                    points_at = at
            free = ended == NEVER
            if code < 0 or not (free or special.reopens[code]):
                continue
            if customer and (special.rejections[code] or (special.losses[code] and further)):
                continue
            silence = at - last if free and last > NEVER else 0
            evidence.append(_Evidence(number, at, code, silence, free))
            last = at
            if special.ends[code]:
                ended, customer = at, customer or self._forced[code] == self._model.customer
            elif special.restarts[code]:
                ended, customer = NEVER, False
        states.session[:, i], states.used[:, i], states.window[:, i] = session, used, window
        states.points_at[i], states.ended[i], states.evidence_at[i] = points_at, ended, last
        return evidence, acts

    def _count(self, states: StateArrays, i: int, acts: Sequence[_Act]) -> None:
        """Adds engagement points."""
        decays = self._engagement.decay(np.array([act.elapsed for act in acts], np.float64))
        points = states.points[:, i].tolist()
        for act, decay in zip(acts, decays.T.tolist(), strict=True):
            points = list(map(mul, points, decay))
            points[self._group[act.rule]] += self._points[act.rule]
        states.points[:, i] = points

    def _filter(
        self,
        states: StateArrays,
        i: int,
        evidence: Sequence[_Evidence],
        observe: StepObserver | None,
    ) -> None:
        """Silence, then the signal, then the published stage, of each step."""
        belief = states.belief[:, i].tolist()
        stage, since = (int(column[i]) for column in states.published)
        days = np.array([step.silence for step in evidence], np.int64) / DAY
        first_look = self._review_us[0]
        for step, move in zip(evidence, self._moves(days), strict=True):
            if step.silence > first_look:
                stage, since = self._review(belief, step, stage, since)
            silent = self._advance(belief, move) if step.silence > 0 else belief
            restart = self._special.restarts[step.code]
            belief = self._start if restart else self._update(silent, step.code)
            if observe:
                observe(step.number, silent, belief)
            stage, since = self._published(belief, step, stage, since)
        if states.activity is not None:
            self._note(states.activity, i, evidence)
        states.belief[:, i] = belief
        states.published.stage[i], states.published.since[i] = stage, since

    def _note(self, activity: Activity, i: int, evidence: Sequence[_Evidence]) -> None:
        """The acts among steps that the filter takes."""
        first, last = int(activity.first_at[i]), int(activity.last_at[i])
        acts, mark = int(activity.acts[i]), int(activity.last[i])
        counted: list[int] = activity.counted_at[:, i].tolist()
        elapsed: list[int] = []
        noted: list[int] = []  # marks, NO_MARK for a restart
        for step in evidence:
            if self._special.restarts[step.code]:
                first, last, acts, mark = NEVER, NEVER, 0, NO_MARK
                counted = [NEVER] * len(counted)
                elapsed.append(0)
                noted.append(NO_MARK)
            elif 0 <= (each := self._session_of[step.code]) < self._marks:
                elapsed.append(step.at - counted[each] if counted[each] > NEVER else 0)
                noted.append(each)
                first = first if first > NEVER else step.at
                last, acts, mark, counted[each] = step.at, acts + 1, each, step.at
        if not noted:
            return
        counts = activity.counts[:, i].tolist()
        left = remaining(np.array(elapsed, np.int64)).tolist()
        for each, share in zip(noted, left, strict=True):
            if each == NO_MARK:
                counts = [0.0] * len(counts)
            else:
                counts[each] = counts[each] * share + 1.0
        activity.counts[:, i], activity.counted_at[:, i] = counts, counted
        activity.first_at[i], activity.last_at[i] = first, last
        activity.acts[i], activity.last[i] = acts, mark

    def _moves(self, days: F) -> list[Any]:
        """What silences of so many days (T) multiply: decays in the basis, else columns of
        matrices.
        """
        if self._model.basis is None:
            matrices = expm(self._model.d0[None] * days[:, None, None])
            return matrices.transpose(0, 2, 1).tolist()
        return self._model.decay(days).T.tolist()

    def _advance(self, belief: Belief, move: Any) -> Belief:
        """The belief after silence."""
        if self._model.basis is None:
            return _normalise(_mix(belief, move))
        moved = _mix(list(map(mul, _mix(belief, self._vectors), move)), self._inverse)
        return _normalise([0.0 if each <= 0.0 else each for each in moved])

    def _update(self, belief: Belief, code: int) -> Belief:
        """The belief after a signal."""
        weighed = list(map(mul, belief, self._factor[code]))
        moved = list(map(mul, weighed, self._chance[code]))
        weighed = list(map(sub, weighed, moved))
        weighed[self._target[code]] += reduce(add, moved)
        return _normalise(weighed)

    def _candidate(self, belief: Belief) -> int:
        """The stage that a belief would publish, KEEP where it is not clear enough."""
        best, top, second = 0, belief[0], -1.0
        for k in range(1, len(belief)):
            each = belief[k]
            second = max(second, min(top, each))
            if each > top:
                best, top = k, each
        clear = top >= self._model.publish_at and top - second >= self._model.margin
        return best if clear else KEEP

    def _publish(self, want: int, at: int, stage: int, since: int) -> tuple[int, int]:
        """Up at once, down after the dwell."""
        is_down = want < stage and at - since >= self._model.dwell
        return (want, at) if want != KEEP and (want > stage or is_down) else (stage, since)

    def _review(self, belief: Belief, step: _Evidence, stage: int, since: int) -> tuple[int, int]:
        """The published stage after the review days before a step."""
        began = step.at - step.silence
        for day, columns in zip(self._review_us, self._reviews, strict=True):
            if step.silence - 1 < day:
                break
            want = self._candidate(_normalise(_mix(belief, columns)))
            stage, since = self._publish(want, began + day, stage, since)
        return stage, since

    def _published(
        self, belief: Belief, step: _Evidence, stage: int, since: int
    ) -> tuple[int, int]:
        """The stage published after a step: what the belief makes clear, or what it forces; whoever
        stops being a customer keeps none.
        """
        code, at = step.code, step.at
        forced = self._forced[code]
        if forced >= 0:
            return (stage, since) if stage == forced else (forced, at)
        is_quiet = self._silent[code] or self._special.ends[code]
        want = KEEP if is_quiet else self._candidate(belief)
        if self._special.restarts[code] and stage == self._model.customer:
            return want, at
        return self._publish(want, at, stage, since)


def _mix(belief: Belief, columns: Sequence[Sequence[float]]) -> Belief:
    """Row vector times a matrix, summed in the order of the stages."""
    return [reduce(add, map(mul, belief, column)) for column in columns]


def _normalise(belief: Belief) -> Belief:
    total = reduce(add, belief) or nan
    return list(map(truediv, belief, repeat(total)))
