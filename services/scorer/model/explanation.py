"""The ledger: why this number. Lines telescope the logit of the displayed likelihood from the start
to `now`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from services.scorer.model.fold import Event, Journey, Row
from services.scorer.model.profile import Profile, learn
from services.scorer.model.score import LOGIT_LIMIT, logit, probability
from services.scorer.model.stage_filter import F
from services.shared.clock import DAY, from_us, rfc3339

PHRASES = {
    "visit": "visited the site",
    "content_awareness": "took in content for people who see the problem",
    "content_consideration": "took in content for people who compare ways",
    "content_decision": "took in content for deciding",
    "webinar": "attended a webinar or event",
    "pricing": "looked at prices",
    "enquiry": "enquired",
    "demo": "asked for a demo",
    "reply": "replied",
    "conversation": "talked with us",
    "unsubscribe": "unsubscribed or complained",
    "open": "opened our mail",
    "no_open": "did not open our mail in time",
    "click": "clicked in our mail",
    "no_click": "did not click in our mail in time",
    "outcome": "became an opportunity",
    "purchase": "bought",
    "restart": "the opportunity ended, the journey starts anew",
}
SCANNED = "our mail was clicked, but a machine clicked in it within seconds"
KINDS = {
    "no_open": "no_open",
    "no_click": "no_click",
    "outcome": "outcome",
    "purchase": "outcome",
    "restart": "restart",
}


class Line(msgspec.Struct, frozen=True):
    """One step of the logit; `points` is what it did to the probability, times 100."""

    at: str
    kind: str
    event_id: str | None
    text: str
    delta: float
    points: float


class Ledger(msgspec.Struct, frozen=True):
    """`start` + Σ delta = logit(likelihood); `sum` is that sum. A lead whose outcome has happened
    has no likelihood.
    """

    likelihood: float | None
    start: float
    lines: list[Line]
    sum: float
    as_of: str
    product: str
    model: str
    note: str = ""


class _Book:
    """Carries the stage part and the fit part of the logit from line to line."""

    def __init__(self, journey: Journey, start: float, fit: float) -> None:
        self._journey = journey
        self._stage, self._fit = start, fit
        self.lines: list[Line] = []
        self.z = self._total()
        self.start = self.z

    def _total(self) -> float:
        effect = float(self._journey.fit.effect(self._fit))
        return max(-LOGIT_LIMIT, min(LOGIT_LIMIT, self._stage + effect))

    def step(
        self,
        at: int,
        kind: str,
        text: str,
        event_id: str | None,
        *,
        stage: F | None = None,
        fit: float | None = None,
    ) -> None:
        """Moves one part; a step that moves nothing leaves no line."""
        self._stage = (
            float(logit(self._journey.model.outcome_probability(stage))[0])
            if stage is not None
            else self._stage
        )
        self._fit = fit if fit is not None else self._fit
        before, self.z = self.z, self._total()
        if self.z != before or kind != "silence":
            points = 100 * float(probability(np.array(self.z)) - probability(np.array(before)))
            self.lines.append(
                Line(rfc3339(from_us(at)), kind, event_id, text, self.z - before, points)
            )


def explain(journey: Journey, product: str, events: Sequence[Event], now: int) -> Ledger:
    """Folds one lead's events (sorted) with the trace on, as they look at `now` (µs)."""
    model = journey.model
    traces: list[tuple[Row, F, F]] = []
    belief, _, ended = journey.trace(product, events, now, lambda *trace: traces.append(trace))
    by_uid = {event.uid: event for event in events}
    aside = _Aside(journey, product, events)
    start = model.start[:, None]
    book = _Book(journey, float(logit(model.outcome_probability(start))[0]), journey.fit.points({}))
    last: int | None = None
    over = ""
    for row, silent, after in traces:
        aside.tell(book, until=row.at)
        signal = model.signals[row.code % model.shared_offset]
        if over and signal not in ("restart", "purchase"):
            continue
        if last is not None and row.at > last and not over:
            book.step(
                row.at, "silence", f"{_days(row.at - last)} without a sign", None, stage=silent
            )
        event = by_uid.get(row.uid)
        book.step(
            row.at,
            KINDS.get(signal, "event"),
            _words(signal, event, row),
            event.data.id if event else None,
            stage=after,
        )
        over = (
            PHRASES[signal]
            if signal in ("outcome", "purchase")
            else ""
            if signal == "restart"
            else over
        )
        last = row.at
    aside.tell(book, until=now)
    if last is not None and now > last and not ended:
        book.step(now, "silence", f"{_days(now - last)} without a sign", None, stage=belief)
    total = book.start + sum(line.delta for line in book.lines)
    likelihood = None if ended else float(probability(np.array(book.z)))
    note = f"The lead {over}: there is nothing left to predict." if ended else ""
    fold_hash = journey.playbook.fold_hash
    return Ledger(
        likelihood, book.start, book.lines, total, rfc3339(from_us(now)), product, fold_hash, note
    )


class _Aside:
    """Tells the book what is no instant of the filter: what changes fit, traits by the last word
    said, and scanners' clicks.
    """

    def __init__(self, journey: Journey, product: str, events: Sequence[Event]) -> None:
        self._journey, self._events, self._next = journey, events, 0
        self._scanned = journey.scanned(product, events)
        self._profile = Profile()
        self._fit = journey.fit.points({})

    def tell(self, book: _Book, until: int) -> None:
        """Learns the events up to `until`, with a line where fit changed, and for a person's click
        that was none.
        """
        while self._next < len(self._events) and self._events[self._next].at <= until:
            event = self._events[self._next]
            self._next += 1
            if event.uid in self._scanned:
                book.step(
                    event.at, "machine", f"{SCANNED} [touch {event.data.touch_id}]", event.data.id
                )
            if not event.data.traits and not event.data.email and not event.data.company:
                continue
            learn(self._profile, event)
            traits = self._profile.fit_traits()
            fit = self._journey.fit.points(traits)
            if fit != self._fit:
                why = (
                    "; ".join(reason for reason, _ in self._journey.fit.reasons(traits))
                    or "no rule holds"
                )
                book.step(
                    event.at,
                    "attributes",
                    f"fit {self._fit:g} → {fit:g}: {why}",
                    event.data.id,
                    fit=fit,
                )
                self._fit = fit


def _words(signal: str, event: Event | None, row: Row) -> str:
    text = PHRASES.get(signal, signal.replace("_", " "))
    if event and event.data.content_id:
        text += f" ({event.data.content_id})"
    elif event and event.data.url:
        text += f" ({event.data.url.partition('?')[0][:120]})"
    return f"{text} [touch {row.touch}]" if row.touch else text


def _days(span: int) -> str:
    days = span / DAY
    return f"{days:.1f} days" if days >= 1 else f"{days * 24:.1f} hours"


def as_json(ledger: Ledger) -> dict[str, Any]:
    """The ledger as the API gives it."""
    return msgspec.to_builtins(ledger)
