"""Why this number: lines that telescope the logit of the displayed likelihood from the start to
`now`.
"""

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
    that of the probability, times 100. `event_id` is the sender's; `content_id` stands in the
    event, `content` is what its address or form was found to be.
    """

    at: int
    kind: LineKind
    delta: float = 0.0
    points: float = 0.0
    signal: str = ""
    event_id: str | None = None
    content_id: str = ""
    content: str = ""
    url: str = ""
    touch_id: str = ""
    silence: int = 0
    fit: FitChange | None = None


class Ledger(msgspec.Struct, frozen=True):
    """`start` + Σ delta = `total` = logit(likelihood), as of a moment (µs).

    A lead whose outcome has happened has no likelihood; `ended_by` is the signal that was it.
    `unweighed` counts older events that have no line of their own.
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


class _Logit:
    """The logit from line to line: of the belief, of what the lead did, and of the person."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._belief: F = fold.model.start[:, None]
        self._activity = Activity.none(len(fold.model.marks), 1)
        self._until = np.array([NEVER])
        self._effect = np.array([fold.estimate.effect({})])
        self.lines: list[Line] = []
        self.start = self.value = self._total()

    def _total(self) -> float:
        z = self._fold.estimate.log_odds(self._belief, self._activity, self._until, self._effect)
        return float(z[0])

    def take(self, line: Line, step: Step, belief: F) -> None:
        """Appends the line of a step of the filter, after which the belief is (K, 1)."""
        code = np.array([step.code % self._fold.model.shared_offset])
        restart = np.array([line.kind == "restart"])
        mark = self._fold.model.marks_of(code)
        self._activity.step(np.zeros(1, np.int64), np.array([step.at]), mark, restart)
        self.move(line, belief)

    def move(self, line: Line, belief: F | None = None) -> None:
        """Appends a line with what it changed: the belief (K, 1) at its time, or the person;
        silence that changes nothing leaves no line.
        """
        if belief is not None:
            self._belief, self._until = belief, np.array([line.at])
        if line.fit:
            self._effect = np.array([line.fit.effect])
        before, self.value = self.value, self._total()
        if self.value != before or line.kind != "silence":
            change = probability(np.array(self.value)) - probability(np.array(before))
            delta, points = self.value - before, 100 * float(change)
            self.lines.append(msgspec.structs.replace(line, delta=delta, points=points))


class _Unfolded:
    """What is no step of the filter: changes of fit, and people's clicks that a machine made."""

    def __init__(self, fold: Fold, product: str, known: Known) -> None:
        self._fold, self._events, self._next = fold, known.events, 0
        self._scanned = fold.scanned(product, known.events)
        self._profile = known.before
        self._fit, self._effect = fold.fit.points({}), fold.estimate.effect({})

    def begin(self, to: _Logit) -> None:
        """Adds the line of what older events say of fit."""
        if change := self._change():
            to.move(Line(at=self._events[0].at, kind="attributes", fit=change))

    def add(self, to: _Logit, until: int) -> None:
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
    unfolded, path = _Unfolded(fold, product, known), _Logit(fold)
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
    total = path.start + sum(line.delta for line in path.lines)
    likelihood = None if ended else float(probability(np.array(path.value)))
    fold_hash = fold.playbook.fold_hash
    return Ledger(
        likelihood,
        path.start,
        path.lines,
        total,
        now,
        product,
        fold_hash,
        ended_by,
        known.unweighed,
    )


def _line_of(fold: Fold, step: Step, signal: str, event: Event | None) -> Line:
    kind = KINDS.get(signal, "event")
    if event is None:
        return Line(at=step.at, kind=kind, signal=signal, touch_id=step.touch)
    content = fold.interpreter.interpret(event.data).content
    return _line(event, kind, at=step.at, signal=signal, content=content, touch_id=step.touch)


def _line(
    event: Event,
    kind: LineKind,
    *,
    at: int | None = None,
    signal: str = "",
    content: str = "",
    touch_id: str = "",
    fit: FitChange | None = None,
) -> Line:
    return Line(
        at=event.at if at is None else at,
        kind=kind,
        signal=signal,
        event_id=event.data.id,
        content_id=event.data.content_id,
        content=content,
        url=event.data.url,
        touch_id=touch_id,
        fit=fit,
    )
