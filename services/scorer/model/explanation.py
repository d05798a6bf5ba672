"""Why this number: lines that telescope the logit of the displayed likelihood from the start to
`now`.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from services.scorer.model.activity import Activity
from services.scorer.model.fold import Fold
from services.scorer.model.profile import add, tells_of_person
from services.scorer.model.score import probability
from services.scorer.model.stage_filter import NEVER, RESTARTING, F
from services.scorer.model.state import Event, Step
from services.scorer.model.window import Known
from services.shared.contracts.event_types import TOUCH_SENT

LineKind = Literal[
    "event", "silence", "no_open", "no_click", "outcome", "restart", "attributes", "machine"
]
KINDS: dict[str, LineKind] = {
    "no_open": "no_open",
    "no_click": "no_click",
    "outcome": "outcome",
    "purchase": "outcome",
    "restart": "restart",
    "rejection": "restart",
    "refund": "restart",
}
LEAST_SAID = 0.02  # log-odds of an attribute that is worth a word
ENDING = frozenset({"outcome", "purchase"})  # signals after which nothing is left to predict


class FitChange(msgspec.Struct, frozen=True):
    """Points of fit before and after an event, and why: the rules that hold after it, and what a
    learned model reads; `effect` is what the person then adds to the log-odds.
    """

    before: float
    after: float
    reasons: tuple[str, ...]
    effect: float = 0.0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the logit.

    `at` and `silence` (how long it lasted) are µs; `delta` is the change of the logit, `points`
    that of the probability, times 100. `event_id` is the sender's, `uid` our own; `type` is the
    event's as the playbook reads it. `content_id` stands in the event, `content` is what its
    address or form was found to be.
    """

    at: int
    kind: LineKind
    delta: float = 0.0
    points: float = 0.0
    signal: str = ""
    event_id: str | None = None
    uid: str = ""
    type: str = ""
    content_id: str = ""
    content: str = ""
    url: str = ""
    touch_id: str = ""
    silence: int = 0
    fit: FitChange | None = None


class Mail(msgspec.Struct, frozen=True):
    """A touch of ours that was sent: its id, when (µs), and the content in it."""

    touch_id: str
    at: int
    content: str


class Ledger(msgspec.Struct, frozen=True):
    """`start` + Σ delta = `total` = logit(likelihood), as of a moment (µs).

    A lead whose outcome has happened has no likelihood; `ended_by` is the signal that was it.
    `unweighed` counts older events that have no line of their own; `mails` were sent meanwhile.
    """

    likelihood: float | None
    start: float
    lines: list[Line]
    total: float
    as_of: int
    product: str
    model: str
    ended_by: str = ""
    unweighed: int = 0
    mails: Sequence[Mail] = ()

    @property
    def counting(self) -> list[Line]:
        """The lines after the last restart, and those on the person."""
        lines = self.lines
        start = max((n for n, line in enumerate(lines, 1) if line.kind == "restart"), default=0)
        return [*(line for line in lines[:start] if line.kind == "attributes"), *lines[start:]]


class _Path:
    """The places between which the logit moves: the belief, what the lead did, and who it is."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._said: list[Line] = []
        self._beliefs, self._until = [fold.model.start], [NEVER]
        self._effects = [fold.estimate.effect({})]
        self._activity = Activity.none(len(fold.model.marks), 1)
        self._activities, self._acts = [self._activity], [0]

    def take(self, line: Line, step: Step, belief: F) -> None:
        """Appends the line of a step of the filter, after which the belief is (K, 1)."""
        if self._fold.estimate.has_layer:
            code = np.array([step.code % self._fold.model.shared_offset])
            mark, restart = self._fold.model.marks_of(code), np.array([line.kind == "restart"])
            self._activity = self._activity.map(np.copy)
            self._activity.step(np.zeros(1, np.int64), np.array([step.at]), mark, restart)
            self._activities.append(self._activity)
        self.move(line, belief)

    def move(self, line: Line, belief: F | None = None) -> None:
        """Appends a line with what it changed: the belief (K, 1) at its time, or the person."""
        self._said.append(line)
        self._beliefs.append(self._beliefs[-1] if belief is None else belief[:, 0])
        self._until.append(self._until[-1] if belief is None else line.at)
        self._effects.append(line.fit.effect if line.fit else self._effects[-1])
        self._acts.append(len(self._activities) - 1)

    def logits(self) -> F:
        """The logit before the lines, and after each of them."""
        acts = np.array(self._acts)
        activity = Activity(
            *(
                np.ascontiguousarray(np.concatenate(column, axis=-1)[..., acts])
                for column in zip(*self._activities, strict=True)
            )
        )
        return self._fold.estimate.log_odds(
            np.ascontiguousarray(np.array(self._beliefs).T), activity,
            np.array(self._until, np.int64), np.array(self._effects),
        )  # fmt: skip

    def lines(self, logits: F) -> list[Line]:
        """The lines with what they did; silence that changes nothing leaves no line."""
        points = 100 * np.diff(probability(logits))
        return [
            msgspec.structs.replace(line, delta=delta, points=change)
            for line, delta, change in zip(
                self._said, np.diff(logits).tolist(), points.tolist(), strict=True
            )
            if delta or line.kind != "silence"
        ]


class _Unfolded:
    """What is no step of the filter: changes of fit, and people's clicks that a machine made."""

    def __init__(self, fold: Fold, product: str, known: Known) -> None:
        self._fold, self._events, self._next = fold, known.events, 0
        self._scanned = fold.scanned(product, known.events)
        self._profile = known.before
        self._fit, self._effect = fold.fit.points({}), fold.estimate.effect({})

    def begin(self, to: _Path) -> None:
        """Adds the line of what older events say of fit."""
        if change := self._change():
            to.move(Line(at=self._events[0].at, kind="attributes", fit=change))

    def add(self, to: _Path, until: int) -> None:
        """Adds the lines of the events up to `until`."""
        while self._next < len(self._events) and self._events[self._next].at <= until:
            event = self._events[self._next]
            self._next += 1
            if event.uid in self._scanned:
                to.move(_line(event, "machine", touch_id=event.data.touch_id))
            if tells_of_person(event.data):
                add(self._profile, event, self._fold.declared)
                if change := self._change():
                    to.move(_line(event, "attributes", fit=change))

    def _change(self) -> FitChange | None:
        traits = self._profile.fit_traits()
        before, self._fit = self._fit, self._fold.fit.points(traits)
        effect, self._effect = self._effect, self._fold.estimate.effect(traits)
        if (self._fit, self._effect) == (before, effect):
            return None
        said = (*self._fold.fit.reasons(traits), *self._fold.estimate.attributes(traits))
        reasons = tuple(reason for reason, weight in said if abs(weight) >= LEAST_SAID)
        return FitChange(before, self._fit, reasons, self._effect)


def explain(fold: Fold, product: str, known: Known, now: int) -> Ledger:
    """Folds what is weighed of one lead's events step by step, as it looks at `now` (µs)."""
    steps: list[tuple[Step, F, F]] = []
    belief, _, ended = fold.trace(product, known.events, now, lambda *step: steps.append(step))
    by_uid = {event.uid: event for event in known.events}
    unfolded, path = _Unfolded(fold, product, known), _Path(fold)
    unfolded.begin(path)
    last: int | None = None
    ended_by = ""
    for step, silent, after in steps:
        unfolded.add(path, until=step.at)
        signal = fold.model.signals[step.code % fold.model.shared_offset]
        if ended_by and signal not in RESTARTING | {"purchase"}:
            continue
        if last is not None and step.at > last and not ended_by:
            path.move(Line(at=step.at, kind="silence", silence=step.at - last), silent)
        path.take(_line_of(fold, step, signal, by_uid.get(step.uid)), step, after)
        ended_by = signal if signal in ENDING else "" if signal in RESTARTING else ended_by
        last = step.at
    unfolded.add(path, until=now)
    if last is not None and now > last and not ended:
        path.move(Line(at=now, kind="silence", silence=now - last), belief)
    logits = path.logits()
    lines, start = path.lines(logits), float(logits[0])
    return Ledger(
        likelihood=None if ended else float(probability(logits[-1])),
        start=start,
        lines=lines,
        total=start + sum(line.delta for line in lines),
        as_of=now,
        product=product,
        model=fold.playbook.fold_hash,
        ended_by=ended_by,
        unweighed=known.unweighed,
        mails=_mails(fold, product, known.events, now),
    )


def _mails(fold: Fold, product: str, events: Sequence[Event], now: int) -> list[Mail]:
    others = set(fold.playbook.products) - {product}
    return [
        Mail(event.data.touch_id, event.at, event.data.content_id)
        for event in events
        if event.data.type == TOUCH_SENT and event.at <= now and event.data.product not in others
    ]


def _line_of(fold: Fold, step: Step, signal: str, event: Event | None) -> Line:
    kind = KINDS.get(signal, "event")
    if event is None:
        return Line(at=step.at, kind=kind, signal=signal, touch_id=step.touch)
    reading = fold.interpreter.interpret(event.data)
    line = _line(event, kind, at=step.at, signal=signal, touch_id=step.touch)
    return msgspec.structs.replace(line, type=reading.type, content=reading.content)


def _line(
    event: Event,
    kind: LineKind,
    *,
    at: int | None = None,
    signal: str = "",
    touch_id: str = "",
    fit: FitChange | None = None,
) -> Line:
    return Line(
        at=event.at if at is None else at,
        kind=kind,
        signal=signal,
        event_id=event.data.id,
        uid=event.uid,
        content_id=event.data.content_id,
        url=event.data.url,
        touch_id=touch_id,
        fit=fit,
    )
