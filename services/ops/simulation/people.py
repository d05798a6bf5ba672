"""Simulated people, and what they do."""

import random
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any, Literal

from services.ops.simulation.personas import Persona

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
