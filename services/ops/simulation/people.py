"""Simulated people, and what they do."""

import random
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any, Literal

from services.ops.simulation.personas import (
    FOLLOWS_MAIL,
    SENT_LATE,
    SENT_TWICE,
    SENT_VERY_LATE,
    UNSUBSCRIBES_BY_MAIL,
    Persona,
)

HOUR = 1 / 24  # times are in days since the beginning of the simulation
MINUTE = HOUR / 60
Endpoint = Literal["events", "form", "segment"]  # of ingest, to which an act is posted


@dataclass(frozen=True)
class Act:
    """One event as it is posted: when it happened and when it is sent, in days since the
    beginning.
    """

    person: int
    id: str
    at: float
    sent: float
    endpoint: Endpoint
    type: str
    fields: dict[str, Any]
    form: str = ""
    copies: tuple[float, ...] = ()  # when the same is sent again


@dataclass(frozen=True)
class StageSpan:
    """A stage of a hidden path, until the next span."""

    since: float
    stage: int | None  # None after the outcome


@dataclass
class Person:
    """A person, and all that they will do without being written to; `spans` is the hidden truth.

    `linked` are the anonymous ids that the site knows to be theirs; `known_since` is when it first
    did.
    """

    index: int
    persona: Persona
    traits: dict[str, Any]
    email: str
    user_id: str
    anonymous_ids: tuple[str, ...]
    crm_id: str
    activity: float
    first_visit: float
    rng: random.Random
    known_since: float | None = None
    consents: bool = False
    unsubscribed_at: float | None = None
    spans: list[StageSpan] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    linked: set[str] = field(default_factory=set)

    def stage_at(self, day: float) -> int | None:
        """The hidden stage at a moment; none before the first visit and after the outcome."""
        place = bisect_right(self.spans, day, key=lambda span: span.since) - 1
        return self.spans[place].stage if place >= 0 else None


def new_act(
    person: Person, at: float, endpoint: Endpoint, kind: str, fields: dict[str, Any], form: str = ""
) -> Act:
    """An act whose message is sent at once, late, very late, or twice."""
    rng = person.rng
    delay = rng.uniform(0, 0.5) * MINUTE
    if endpoint != "form":  # a browser posts a form at once, and once
        drawn = rng.random()
        if drawn < SENT_VERY_LATE:
            delay = rng.uniform(1, 6)
        elif drawn < SENT_VERY_LATE + SENT_LATE:
            delay = rng.uniform(0.2, 12) * HOUR
    sent = at + delay
    copies = (
        (sent + rng.uniform(0.001, 2),) if endpoint != "form" and rng.random() < SENT_TWICE else ()
    )
    return Act(person.index, "", at, sent, endpoint, kind, fields, form, copies)


def answer_to_mail(
    person: Person, day: float, rng: random.Random
) -> Literal["", "follow", "leave"]:
    """What a person does with a mail that came: nothing, follow its link, or leave the list."""
    stage = person.stage_at(day)
    if stage is None or person.unsubscribed_at is not None:
        return ""
    drawn = rng.random()
    if drawn < UNSUBSCRIBES_BY_MAIL[stage]:
        return "leave"
    return (
        "follow"
        if drawn < UNSUBSCRIBES_BY_MAIL[stage] + FOLLOWS_MAIL[stage] * min(person.activity, 1.5)
        else ""
    )
