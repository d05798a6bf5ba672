"""The fold: a lead's state as a pure function of the set of its events, for many leads at once.

`Fold.extend` takes states and their new events in order and returns the new states; from the
initial state and all events it gives, bit for bit, what any sequence of smaller folds gives.
`Fold.view` shows states from a moment.
"""

from collections.abc import Collection, Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np

from services.scorer.model.activity import NO_MARK, Activity
from services.scorer.model.estimate import Estimate
from services.scorer.model.interpretation import Interpreter
from services.scorer.model.kernel import Kernel, Observer
from services.scorer.model.profile import Position
from services.scorer.model.score import EngagementScore, FitScore
from services.scorer.model.stage_filter import NEVER, UNPUBLISHED, F, I, StageModel
from services.scorer.model.state import (
    RULE_BITS,
    Event,
    FoldState,
    PendingTouches,
    StateArrays,
    Step,
    Steps,
    View,
    record_type,
    undone,
)
from services.scorer.model.touch_windows import TouchingEvent, TouchWindows, scanned_clicks
from services.shared.contracts.event_types import EventType
from services.shared.contracts.events import Interaction
from services.shared.contracts.sales import STATUS_OF
from services.shared.contracts.traits import KNOWN_TRAITS
from services.shared.playbook.sections import UNKNOWN, Playbook

SALES_UNDONE = EventType.SALES_UNDONE.value
Records = np.ndarray[Any, Any]  # (L) of `record_type`


class Fold:
    """The fold of one playbook."""

    def __init__(self, playbook: Playbook) -> None:
        self.playbook = playbook
        self.declared = playbook.named_traits | KNOWN_TRAITS  # traits that a lead never loses
        several = len(playbook.products) > 1
        weight = playbook.unnamed_product_weight if several else 1.0
        self.model = StageModel(playbook.model, weight)
        self.fit = FitScore(playbook.fit)
        self.estimate = Estimate(self.model, self.fit)
        self.engagement = EngagementScore(playbook.engagement)
        self.interpreter = Interpreter(playbook, self.model.code, self.engagement.rule)
        self._windows = TouchWindows(self.model.window, self.model.code)
        self._kernel = Kernel(self.model, self.engagement)
        # Codes of events that name none of several products lie beyond those of the others.
        self._shared_offset = self.model.shared_offset if several else 0
        self._type = record_type(
            self.model.k,
            self.model.sessions,
            len(self.engagement.groups),
            len(self.engagement.acts),
            len(self.model.marks) if self.estimate.has_layer else 0,
        )
        initial = np.zeros(1, self._type)
        initial["belief"] = self.model.start
        initial["stage"] = UNPUBLISHED
        for field in ("evidence_at", "since", "ended", "session", "points_at", "window"):
            initial[field] = NEVER
        if self.estimate.has_layer:
            initial["first_act_at"] = initial["last_act_at"] = NEVER
            initial["last_mark"] = NO_MARK
        self._initial = initial.tobytes()

    def initial(self, product: str) -> FoldState:
        """The state before any event."""
        return FoldState(product, self._initial)

    def reads(self, state: FoldState) -> bool:
        """Whether the state's record has this playbook's layout."""
        return len(state.record) == self._type.itemsize

    def weighs(self, event: Interaction) -> bool:
        """Whether the event makes a step; one that does not never calls for a fold."""
        return self.interpreter.interpret(event).weighs

    # -- folding ----------------------------------------------------------------------------------

    def extend(
        self, states: Sequence[FoldState], events: Sequence[Sequence[Event]]
    ) -> list[FoldState]:
        """States after `events[i]` on `states[i]`: sorted by (at, uid), beyond its position.

        Where `undoes` holds for one of the events the state has to be refolded instead, as where
        one takes back what sales said before.
        """
        steps, counts, after = Steps(), [], []
        for state, new in zip(states, events, strict=True):
            before = len(steps)
            after.append(self._read(state, new, steps))
            counts.append(len(steps) - before)
        records, size = (
            self._run(self._records(states), steps, counts).tobytes(),
            self._type.itemsize,
        )
        for i, state in enumerate(after):
            state.record = records[i * size : (i + 1) * size]
        return after

    def refold(self, product: str, events: Sequence[Sequence[Event]]) -> list[FoldState]:
        """States of whole sets, each given by its events to be weighed (`window`), sorted by
        (at, uid).
        """
        return self.extend([self.initial(product)] * len(events), events)

    def undoes(self, state: FoldState, event: Event) -> bool:
        """Whether a machine's event may undo what has been folded into the state."""
        part = self.interpreter.interpret(event.data).touch_part if event.data.machine else ""
        return bool(part) and self._windows.undoes(state.pending, event, part)

    def scanned(self, product: str, events: Sequence[Event]) -> set[str]:
        """Of all events of a state, uids of people's clicks that count as a machine's."""
        others = set(self.playbook.products) - {product}
        return scanned_clicks(
            [
                event
                for event in events
                if event.data.product not in others
                and self.interpreter.interpret(event.data).touch_part == "click"
            ]
        )

    def _read(self, state: FoldState, events: Sequence[Event], steps: Steps) -> FoldState:
        """Appends the steps of new events; returns the state after them, its record still to be
        folded.
        """
        before = len(steps)
        if not state.pending and (position := self._read_plain(state, events, steps)):
            return FoldState(state.product, b"", b"", *position)
        steps.shorten(before)
        merged, after = self._read_touches(state, events)
        steps.extend(merged)
        return after

    def _read_plain(
        self, state: FoldState, events: Sequence[Event], steps: Steps
    ) -> Position | None:
        """Appends the steps of new events, and returns the position after them; None, and steps
        may be left over, where one of them concerns a touch, or takes back another.
        """
        interpret, by_type = self.interpreter.interpret, self.interpreter.by_type
        products, shared = self.playbook.products, self._shared_offset << RULE_BITS
        add_instant, add_step, last = steps.at.append, steps.what.append, None
        for event in events:
            data = event.data
            reading = by_type.get(data.type)
            if reading is None or data.machine:
                reading = interpret(data)
            step = reading.step
            if data.type == SALES_UNDONE or (step is None and reading.weighs):
                return None
            if step is None:
                continue
            if shared:
                product = data.product
                if product not in products:
                    step = step + shared if step >= 0 else step
                elif product != state.product:
                    continue
            last = event
            add_instant(event.at)
            add_step(step)
        return (last.at, last.uid) if last else state.position

    def _read_touches(
        self, state: FoldState, events: Sequence[Event]
    ) -> tuple[list[Step], FoldState]:
        """The steps of new events, of which touches decide some and what sales takes back are none,
        and the state after them.
        """
        if gone := undone(events):
            events = _without(events, gone)
        steps: list[Step] = []
        touching: list[TouchingEvent] = []
        last = state.position
        for event in events:
            data = event.data
            known = None if data.machine else self.interpreter.by_type.get(data.type)
            reading = known or self.interpreter.interpret(data)
            code, product = reading.code, data.product
            if not reading.weighs:
                continue
            if self._shared_offset and product not in self.playbook.products:
                code = code + self._shared_offset if code >= 0 else code
            elif self._shared_offset and product != state.product:
                continue
            last = (event.at, event.uid)
            if reading.touch_part:
                touching.append(TouchingEvent(len(steps), event, reading))
            else:
                steps.append(Step(event.at, code, reading.rule, event.uid))
        pending = state.pending
        if (touching or pending) and last != state.position:
            steps, pending = self._windows.merge(pending, steps, touching, last[0])
        return steps, FoldState(state.product, b"", pending, *last)

    def _records(self, states: Sequence[FoldState]) -> Records:
        return np.frombuffer(b"".join(state.record for state in states), self._type)

    def _run(self, records: Records, steps: Steps, counts: Sequence[int]) -> Records:
        """The records of states after so many steps each, which are given one state's after
        another's.
        """
        if not len(steps):
            return records
        many = np.array(counts, np.int64)
        order = np.argsort(-many, kind="stable")
        arrays = StateArrays(records[order])
        self._kernel.run(arrays, steps, (np.cumsum(many) - many)[order], many[order])
        after = np.empty_like(records)
        after[order] = arrays.records(self._type)
        return after

    # -- viewing ----------------------------------------------------------------------------------

    def persons(
        self, traits: Sequence[Mapping[str, Any]]
    ) -> tuple[list[float], list[float] | None]:
        """Points of fit of people with these traits, and what they add to the log-odds: None where
        the points say it.
        """
        fits = [self.fit.points(each) for each in traits]
        if not self.estimate.has_layer:
            return fits, None
        return fits, [self.estimate.effect(each) for each in traits]

    def view(
        self,
        states: Sequence[FoldState],
        now: Sequence[int],
        fits: Sequence[float],
        effects: Sequence[float] | None = None,
    ) -> list[View]:
        """The states at `now[i]`, silence included, of leads with `fits[i]` points of fit.

        `effects[i]` is what is known of the person adds to the log-odds (`estimate.effect`); where
        it is not given, what the points alone add.
        """
        until, steps, counts = np.array(now, np.int64), Steps(), []
        pending = [PendingTouches.of(state.pending) if state.pending else None for state in states]
        for touches, moment in zip(pending, now, strict=True):
            before = len(steps)
            if touches:
                steps.extend(self._windows.deadlines(touches, moment, inclusive=True))
            counts.append(len(steps) - before)
        arrays = StateArrays(self._run(self._records(states), steps, counts))
        free = arrays.ended == NEVER
        stage, since = self.model.review(
            arrays.belief, arrays.evidence_at, until, arrays.published, free, inclusive=True
        )
        belief = self._kernel.belief_at(arrays, until)
        effect = np.array(
            effects if effects is not None else self.fit.effect(np.array(fits)), float
        )
        activity = arrays.activity or self._inactive(len(states))
        chances = self.estimate.likelihood(belief, activity, until, effect, arrays.ended)
        points = self.engagement.decayed(arrays.points, arrays.points_at, until)
        names, stages = [*self.playbook.stages, UNKNOWN], self.model.stages
        columns = (
            stage.tolist(), since.tolist(), belief.T.tolist(), chances.tolist(), fits,
            self.engagement.shown(points).tolist(), self._reviews(arrays, until), pending, now,
        )  # fmt: skip
        return [
            View(
                stage=names[stage],
                stage_since=since if since > NEVER else None,
                belief=dict(zip(stages, belief, strict=True)),
                confidence=max(belief),
                likelihood=None if isnan(chance) else chance,
                fit=fit,
                engagement=engagement,
                next_review_at=self._next(review, touches, moment) if touches else review,
            )
            for stage, since, belief, chance, fit, engagement, review, touches, moment in zip(
                *columns, strict=True
            )
        ]

    def _inactive(self, leads: int) -> Activity:
        """What no model without a layer reads."""
        return Activity.none(len(self.model.marks), leads)

    def _reviews(self, arrays: StateArrays, until: I) -> list[int | None]:
        """The next review day of each state."""
        review_us = self.model.review_us
        day = np.searchsorted(review_us, until - arrays.evidence_at, side="right")
        ahead = (arrays.ended == NEVER) & (arrays.evidence_at > NEVER) & (day < review_us.size)
        instants = arrays.evidence_at + review_us[np.minimum(day, review_us.size - 1)]
        return [
            instant if due else None
            for instant, due in zip(instants.tolist(), ahead.tolist(), strict=True)
        ]

    def _next(self, review: int | None, pending: PendingTouches, now: int) -> int | None:
        """The next instant at which silence may change something: a review, or a window's end."""
        instants = (review, self._windows.next_deadline(pending, now))
        return min((instant for instant in instants if instant is not None), default=None)

    def trace(
        self, product: str, events: Sequence[Event], now: int, observe: Observer
    ) -> tuple[F, int, bool]:
        """Folds one state from the start, telling `observe` each step.

        Returns the belief at `now` (K, 1), when the last evidence was, and whether the outcome has
        happened.
        """
        state = self.initial(product)
        steps, after = self._read_touches(state, events)
        if after.pending:
            pending = PendingTouches.of(after.pending)
            steps += self._windows.deadlines(pending, now, inclusive=True)
        arrays = StateArrays(self._records([state]))
        self._kernel.follow(arrays, steps, observe)
        evidence_at, ended = int(arrays.evidence_at[0]), bool(arrays.ended[0] > NEVER)
        until = np.array([max(now, evidence_at)], np.int64)
        return self._kernel.belief_at(arrays, until), evidence_at, ended


def _without(events: Sequence[Event], gone: Collection[str]) -> list[Event]:
    """The events without what sales has taken back."""
    return [event for event in events if not (event.uid in gone and event.data.type in STATUS_OF)]
