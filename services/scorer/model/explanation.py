"""Why this number: lines that telescope the logit of the displayed likelihood from the start to
`now`.
"""

from typing import Literal

import msgspec
import numpy as np

from services.scorer.model.fold import Fold
from services.scorer.model.profile import add
from services.scorer.model.score import LOGIT_LIMIT, logit, probability
from services.scorer.model.stage_filter import RESTARTING, F
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
ENDING = frozenset({"outcome", "purchase"})  # signals after which nothing is left to predict


class FitChange(msgspec.Struct, frozen=True):
    """Points of fit before and after an event, and why: the rules that hold after it."""

    before: float
    after: float
    reasons: tuple[str, ...]


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
    """The logit from line to line: a part of the stage, and a part of fit."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._stage = self._of_belief(fold.model.start[:, None])
        self._fit = fold.fit.points({})
        self.lines: list[Line] = []
        self.start = self.value = self._total()

    def _of_belief(self, belief: F) -> float:
        return float(logit(self._fold.model.outcome_probability(belief))[0])

    def _total(self) -> float:
        effect = float(self._fold.fit.effect(self._fit))
        return max(-LOGIT_LIMIT, min(LOGIT_LIMIT, self._stage + effect))

    def move(self, line: Line, belief: F | None = None) -> None:
        """Appends a line with what it changed: the belief (K, 1), or fit; silence that changes
        nothing leaves no line.
        """
        if belief is not None:
            self._stage = self._of_belief(belief)
        if line.fit:
            self._fit = line.fit.after
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
        self._fit = fold.fit.points({})

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
            if event.data.traits or event.data.email or event.data.company:
                add(self._profile, event, self._fold.declared)
                if change := self._change():
                    to.move(_line(event, "attributes", fit=change))

    def _change(self) -> FitChange | None:
        traits = self._profile.fit_traits()
        before, self._fit = self._fit, self._fold.fit.points(traits)
        if self._fit == before:
            return None
        reasons = tuple(reason for reason, _ in self._fold.fit.reasons(traits))
        return FitChange(before, self._fit, reasons)


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
        path.move(_line_of(fold, step, signal, by_uid.get(step.uid)), after)
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
