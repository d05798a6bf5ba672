"""The vectorised fold: the j-th step of every state at once, each state independent of its batch;
where few have a j-th step, these are folded on one by one.

Arrays: `who` (L) are indices of states; `at` (µs), `code` and `act` (L) their steps.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from services.scorer.model.scalar_kernel import Belief, ScalarKernel, Specials
from services.scorer.model.score import EngagementScore
from services.scorer.model.stage_filter import (
    NEVER,
    SPECIAL,
    UNPUBLISHED,
    B,
    F,
    I,
    Publication,
    StageModel,
)
from services.scorer.model.state import StateArrays, Step, Steps
from services.shared.clock import DAY

# Called as observe(step, belief after silence (K, 1), belief after the step (K, 1)).
Observer = Callable[[Step, F, F], None]
Who = slice | I
# a round of arrays costs as much as the steps of so many states one by one
FEW = 8


class StepArrays(NamedTuple):
    """Steps of L states: instants (µs), signal codes or −1, engagement rules or −1."""

    at: I
    code: I
    act: I

    def of(self, some: I) -> "StepArrays":
        """Those at these indices."""
        return StepArrays(self.at[some], self.code[some], self.act[some])


class Kernel:
    """Folds steps into states under one model and its engagement rules."""

    def __init__(self, model: StageModel, engagement: EngagementScore) -> None:
        self._model, self._engagement = model, engagement
        special = np.arange(2 * model.shared_offset) % model.shared_offset
        outcome, purchase, restart, rejection, refund = (
            special == model.code[name] for name in SPECIAL
        )
        self._ends, self._restarts = outcome | purchase, restart | rejection | refund
        self._reopens = self._restarts | purchase
        self._rejections, self._losses = rejection, restart
        self._opportunity = int(model.session_of_code[model.code["outcome"]])
        self._scalar = ScalarKernel(
            model,
            engagement,
            Specials(
                ends=self._ends.tolist(),
                restarts=self._restarts.tolist(),
                reopens=self._reopens.tolist(),
                rejections=rejection.tolist(),
                losses=restart.tolist(),
                opportunity=self._opportunity,
            ),
        )

    def run(self, states: StateArrays, steps: Steps, first: I, counts: I) -> None:
        """Folds `counts[i]` of the steps from the one of number `first[i]` on into state i; states
        with most steps come first.
        """
        longer = np.searchsorted(-counts, -np.arange(counts[0]), side="left")
        rounds = int(np.searchsorted(-longer, -FEW, side="right"))
        if rounds:
            every = StepArrays(*steps.arrays())
            for j, many in enumerate(longer[:rounds].tolist()):
                self._round(states, slice(0, many), every.of(first[:many] + j))
        for i in range(int(np.searchsorted(-counts, -rounds, side="left"))):
            rest = slice(int(first[i]) + rounds, int(first[i] + counts[i]))
            self._scalar.run(states, i, steps.lists(rest))

    def follow(self, states: StateArrays, steps: Sequence[Step], observe: Observer) -> None:
        """Folds steps into a single state, and tells of each that the filter takes."""

        def seen(number: int, silent: Belief, after: Belief) -> None:
            observe(steps[number], np.array(silent)[:, None], np.array(after)[:, None])

        columns = [
            [step.at for step in steps],
            [step.code for step in steps],
            [step.act for step in steps],
        ]
        self._scalar.run(states, 0, columns, seen)

    def _round(self, states: StateArrays, who: slice, steps: StepArrays) -> None:
        """One step of each of the first states."""
        remains = self._remains_customer(states, who, steps.code)
        fresh = self._fresh(states, who, steps)
        acts = fresh & (steps.act >= 0)
        if acts.any():
            some = np.flatnonzero(acts)
            self._count(states, some, steps.of(some))
        open_ = (states.ended[who] == NEVER) | self._reopens[steps.code]
        live = fresh & (steps.code >= 0) & open_ & ~remains
        if live.all():
            self._filter(states, who, steps)
        elif live.any():
            some = np.flatnonzero(live)
            self._filter(states, some, steps.of(some))

    def _remains_customer(self, states: StateArrays, who: slice, code: I) -> B:
        """Where sales' word ends no purchase (L): a customer is turned away, or a further
        opportunity with it is lost.
        """
        rejected, lost = self._rejections[code], self._losses[code]
        if not (rejected.any() or lost.any()):
            return rejected
        further = states.session[self._opportunity, who] > NEVER
        customer = states.published.stage[who] == self._model.customer
        return customer & (rejected | (lost & further))

    def _fresh(self, states: StateArrays, who: slice, steps: StepArrays) -> B:
        """Opens sessions; False where one of the same mark, or sales outcome, is open already.

        Another sales outcome ends the sessions of the rest: won, lost and won again are three
        facts.
        """
        at, code = steps.at, steps.code
        mark = np.where(code >= 0, self._model.session_of_code[code], -1)
        marked = mark >= 0
        last = states.session[mark, np.arange(at.size)]
        fresh = ~marked | (at - last > self._model.session_gap)
        begins = np.flatnonzero(marked & fresh)
        first = len(self._model.marks)
        outcomes = begins[mark[begins] >= first]
        if outcomes.size:
            states.session[first:, outcomes] = NEVER
        states.session[mark[begins], begins] = at[begins]
        return fresh

    def _count(self, states: StateArrays, who: I, steps: StepArrays) -> None:
        """Adds engagement points within their frequency limits."""
        rules, at, act = self._engagement, steps.at, steps.act
        renew = at - states.window[act, who] >= rules.period[act]
        states.window[act, who] = np.where(renew, at, states.window[act, who])
        used = np.where(renew, 0, states.used[act, who])
        counts = np.flatnonzero(used < rules.limit[act])
        states.used[act, who] = used + 1
        who, at, act = who[counts], at[counts], act[counts]
        points = rules.decayed(states.points[:, who], states.points_at[who], at)
        points[rules.group[act], np.arange(who.size)] += rules.points[act]
        states.points[:, who] = points
        states.points_at[who] = at

    def _filter(self, states: StateArrays, who: Who, steps: StepArrays) -> None:
        """Silence, then the signal, then the published stage."""
        model, at, code = self._model, steps.at, steps.code
        belief, evidence_at = states.belief[:, who], states.evidence_at[who]
        published = Publication(states.published.stage[who], states.published.since[who])
        free = states.ended[who] == NEVER
        published = model.review(belief, evidence_at, at, published, free, inclusive=False)
        silent = self._silent(belief, evidence_at, at, free)
        restart, ends = self._restarts[code], self._ends[code]
        after = np.where(restart, model.start[:, None], model.update(silent, code))
        states.belief[:, who] = after
        states.evidence_at[who] = at
        stage, since = self._published(published, after, steps, ends)
        states.published.stage[who], states.published.since[who] = stage, since
        states.ended[who] = np.where(ends, at, np.where(restart, NEVER, states.ended[who]))
        if states.activity is not None:
            places = np.arange(who.stop) if isinstance(who, slice) else who
            states.activity.step(places, at, model.marks_of(code), restart)

    def _published(self, before: Publication, belief: F, steps: StepArrays, ends: B) -> Publication:
        """The stage (L) published after steps: what the belief makes clear, or what they force;
        whoever stops being a customer keeps none.
        """
        model, at, code = self._model, steps.at, steps.code
        want = np.where(model.publishes_nothing[code] | ends, UNPUBLISHED, model.candidate(belief))
        want = np.where(model.forced[code] >= 0, model.forced[code], want)
        after = model.publish(before, want, at, np.ones(at.size, np.bool_))
        forced = (model.forced[code] >= 0) & (after.stage != model.forced[code])
        moved = forced | (self._restarts[code] & (before.stage == model.customer))
        return Publication(np.where(moved, want, after.stage), np.where(moved, at, after.since))

    def belief_at(self, states: StateArrays, until: I) -> F:
        """Beliefs (K, L) at these instants (L), silence since the last evidence included."""
        return self._silent(states.belief, states.evidence_at, until, states.ended == NEVER)

    def _silent(self, belief: F, evidence_at: I, until: I, free: B) -> F:
        """Beliefs (K, L) after silence; those that are not `free` (L) stay."""
        days = np.where(free & (evidence_at > NEVER), until - evidence_at, 0) / DAY
        return np.where(days > 0, self._model.advance(belief, days), belief)
