"""Courses of events: the scorer's fold and what follows from it, each lead at its own instants,
the next instants of all leads of all courses at once.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from services.nurture.rules.answers import is_step_forward
from services.ops.rehearsal.cast import Actor
from services.scorer.model import profile
from services.scorer.processing.announcements import (
    Evidence,
    news_events,
    stage_change,
    stage_change_event,
)
from services.scorer.processing.folding import exclude
from services.scorer.records import Announcement, IncomingEvent, LastAnnounced, StageChange, State
from services.scorer.scoring import Scoring
from services.shared.clock import DAY, from_us
from services.shared.contracts.event_types import CONSUMES_CONTENT, TOUCH_SENT
from services.shared.contracts.events import Change, ChangeEvent, derived

WINDOW = 15 * DAY  # in which leads go on at their own instants
LEARNING_WINDOW = DAY  # ... where what came of some decides what others get
NONE = Evidence()


class Act(NamedTuple):
    """What a lead did, as a line of events.jsonl has it, at an instant (µs)."""

    lead: str
    at: int
    type: str
    content_id: str | None
    touch: str | None


class Treatment(Protocol):
    """What is done with leads; `hears` tells whether it needs what is published of them."""

    hears: bool

    def begin(self, now: int) -> None:
        """A window begins."""

    def heard(self, actor: Actor, changes: Sequence[ChangeEvent], now: int) -> None:
        """What is published of a lead at an instant, and that something happened at all."""

    def next_at(self, actor: Actor) -> int | None:
        """When something is to be done for a lead."""

    def do(self, actor: Actor, now: int) -> None:
        """Does what is due for a lead."""


class Course(NamedTuple):
    """What a course came to: acts, and the steps forward that leads took by their own acts."""

    acts: list[Act]
    steps: list[tuple[int, str]]  # at an instant (µs), and whose


class Part:
    """One lead in one course."""

    def __init__(self, actor: Actor, treatment: Treatment, course: Course) -> None:
        self.actor, self.treatment, self.course = actor, treatment, course

    def next(self) -> int | None:
        """Its next instant (µs)."""
        soonest = self.actor.next_act()
        for at in (self.actor.review_at, self.treatment.next_at(self.actor)):
            if at is not None and (soonest is None or at < soonest):
                soonest = at
        return soonest


class Moment(NamedTuple):
    """A lead at an instant (µs), and what happens then."""

    part: Part
    at: int
    events: list[IncomingEvent]


class Run:
    """Courses of the same people until an instant (µs), each under a treatment of its own."""

    def __init__(self, scoring: Scoring, start: int, end: int) -> None:
        self._scoring, self._start, self._end = scoring, start, end
        self._parts: list[Part] = []
        self._treatments: list[Treatment] = []

    def add(self, cast: Sequence[Actor], treatment: Treatment) -> Course:
        """Adds a course, which is filled by `run`."""
        course = Course([], [])
        products = self._scoring.playbook.products
        for actor in cast:
            actor.begin({name: self._scoring.initial(name) for name in products})
            self._parts.append(Part(actor, treatment, course))
        self._treatments.append(treatment)
        return course

    def run(self, progress: Callable[[float], None], window: int = WINDOW) -> None:
        """From the beginning to the end; `progress` is told the share that is done."""
        for begin in range(self._start, self._end, window):
            until = min(begin + window, self._end)
            for treatment in self._treatments:
                treatment.begin(begin)
            active = [(part, part.next()) for part in self._parts]
            while ready := [(part, at) for part, at in active if at is not None and at < until]:
                self._round([Moment(part, at, part.actor.take(at)) for part, at in ready])
                active = [(part, part.next()) for part, _ in ready]
            progress((until - self._start) / (self._end - self._start))

    def _round(self, ready: Sequence[Moment]) -> None:
        """The next instant of each of these leads."""
        reviewed = [
            moment
            for moment in ready
            if moment.events or (moment.part.actor.review_at or moment.at + 1) <= moment.at
        ]
        self._fold([moment for moment in reviewed if moment.events])
        for (part, at, events), changes in zip(reviewed, self._viewed(reviewed), strict=True):
            if changes or events:
                part.treatment.heard(part.actor, changes, at)
        for part, at, _ in ready:
            part.treatment.do(part.actor, at)

    def _fold(self, grown: Sequence[Moment]) -> None:
        states, events = [], []
        for part, _, happened in grown:
            actor, row = part.actor, part.actor.row
            row.version += 1
            new = [event.event for event in happened]
            for event, folded in zip(happened, new, strict=True):
                self._note(part, event)
                profile.add(row.profile, folded, self._scoring.fold.declared)
                if actor.identify(event) or event.data.traits:
                    exclude(self._scoring, row)
                    actor.fit = None
            for state in actor.states:
                states.append(state)
                events.append(new)
        extended = self._scoring.fold.extend([state.fold for state in states], events)
        for state, after in zip(states, extended, strict=True):
            state.fold, state.fold_hash = after, self._scoring.playbook.fold_hash

    def _note(self, part: Part, event: IncomingEvent) -> None:
        actor, data = part.actor, event.data
        if data.type == TOUCH_SENT:
            return
        reading = self._scoring.fold.interpreter.interpret(data)
        if data.type == "unsubscribed":
            actor.person.unsubscribed_at = (event.at - self._start) / DAY
        done = data.type in CONSUMES_CONTENT and reading.content in (
            self._scoring.playbook.content_by_id
        )
        content = reading.content if done else None
        part.course.acts.append(
            Act(actor.id, event.at, reading.type, content, data.touch_id or None)
        )

    def _viewed(self, reviewed: Sequence[Moment]) -> list[list[ChangeEvent]]:
        """Views leads at their instants, and what is published of each."""
        if not reviewed:
            return []
        fold, products = self._scoring.fold, self._scoring.playbook.products
        self._fit([moment.part.actor for moment in reviewed if moment.part.actor.fit is None])
        pairs = [(part.actor, at, state) for part, at, _ in reviewed for state in part.actor.states]
        fits = [actor.fit or 0.0 for actor, _, _ in pairs]
        effects = [actor.effect for actor, _, _ in pairs] if fold.estimate.has_layer else None
        moments = [max(at, actor.row.profile.last_at) for actor, at, _ in pairs]
        views = fold.view([state.fold for _, _, state in pairs], moments, fits, effects)
        for (actor, _, state), moment, view in zip(pairs, moments, views, strict=True):
            state.view, state.as_of, state.snapshot = view, moment, None
            if actor.row.profile.sales or actor.row.profile.product_sales:
                state.sales = actor.row.profile.sales_of(state.fold.product, products)
            state.qualified = fold.fit.qualified(view.fit) and not actor.row.excluded
        return [self._published(*moment) for moment in reviewed]

    def _fit(self, actors: Sequence[Actor]) -> None:
        """Works out what is known of the persons, until they tell more."""
        fits, effects = self._scoring.fold.persons([one.row.profile.fit_traits() for one in actors])
        for place, one in enumerate(actors):
            one.fit, one.effect = fits[place], effects[place] if effects else 0.0

    def _published(self, part: Part, at: int, events: list[IncomingEvent]) -> list[ChangeEvent]:
        """The stage changes that are announced, and what else others hear."""
        actor, hears = part.actor, part.treatment.hears
        scoring, row = self._scoring, actor.row
        evidence = Evidence(events=events) if events else NONE
        published: list[ChangeEvent] = []
        reviews = []
        for state in actor.states:
            view = state.view
            if view is None:
                continue
            if view.next_review_at is not None:
                reviews.append(view.next_review_at)
            if view.stage == state.announced.stage:
                continue
            change = stage_change(scoring.fold, row, state, at, evidence)
            if change is None:
                continue
            announcement = self._announce(state, change, at)
            self._note_step(part, change, at)
            if hears:
                published.append(stage_change_event(scoring, row, announcement, evidence))
        if not hears:
            row.publish_at = None
        elif events or (row.publish_at is not None and row.publish_at <= at):
            published += news_events(scoring, row, evidence, from_us(at))
        if row.publish_at is not None:
            reviews.append(row.publish_at)
        actor.review_at = min(reviews, default=None)
        return published

    def _announce(self, state: State, change: StageChange, at: int) -> Announcement:
        seq = state.announced.seq + 1
        state.announced = LastAnnounced(change.stage, seq, from_us(at))
        return Announcement(
            derived("announcement", change.lead, change.product, seq),
            change.lead,
            change.product,
            seq,
            change.from_stage,
            change.stage,
            change.cause,
            from_us(change.cause_at),
            change.cause_event,
            change.likelihood,
            state.fold_hash,
            from_us(at),
        )

    def _note_step(self, part: Part, change: StageChange, at: int) -> None:
        told = Change(
            lead=part.actor.id, version=0, from_stage=change.from_stage, stage=change.stage,
            cause=change.cause, cause_at=from_us(change.cause_at),
        )  # fmt: skip
        if is_step_forward(self._scoring.playbook.stages, told):
            part.course.steps.append((at, part.actor.id))
