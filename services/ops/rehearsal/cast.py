"""Who is rehearsed: the people of the demo, and what they do as events in virtual time."""

import copy
import heapq
import random
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from services.ops.simulation.people import Act, Person
from services.ops.simulation.population import make_person
from services.ops.simulation.world import World
from services.scorer.model.profile import Profile
from services.scorer.records import IncomingEvent, LeadRow, State
from services.scorer.scoring import Scoring
from services.shared.clock import DAY, from_us, to_us
from services.shared.contracts.events import Consent, Interaction, derived, event_uid
from services.shared.contracts.identity import Cleaner, Identifier
from services.shared.contracts.provenance import LIVE
from services.shared.contracts.sales import STATUS_OF

LEADS_A_BRANCH = 40  # so that a company of the demo becomes several, of two or three people each
OWN = frozenset({"email", "consent"})  # fields of a form that are no traits


class Options(NamedTuple):
    """How many people, for how many days from `start` on, drawn from a seed."""

    leads: int
    days: int
    seed: int
    start: datetime


class Actor:
    """One person as a lead: what is known of it, what it will do, and when it is looked at next.

    `row` is the scorer's; times are µs since 1970, `review_at` None where nothing is due.
    """

    def __init__(self, person: Person, lead: uuid.UUID, acts: Sequence[IncomingEvent]) -> None:
        self.person = copy.copy(person)
        self.person.unsubscribed_at = None  # until it happens
        self.row = LeadRow(lead, profile=Profile())
        self.id = str(lead)
        self.mails = 0
        self.review_at: int | None = None
        self.states: list[State] = []
        self.fit: float | None = None  # points, and what else is known adds to the log-odds
        self.effect = 0.0
        self._acts, self._place = acts, 0
        self._more: list[tuple[int, str, IncomingEvent]] = []
        self._names: dict[Identifier, None] = {}

    def begin(self, states: dict[str, State]) -> None:
        """Takes the states before any event, by product."""
        self.row.states, self.states = states, [*states.values()]

    def add(self, event: IncomingEvent) -> None:
        """Something that happens beyond the person's own plan."""
        heapq.heappush(self._more, (event.at, event.uid, event))

    def next_act(self) -> int | None:
        """When something happens next."""
        planned = self._acts[self._place].at if self._place < len(self._acts) else None
        if not self._more:
            return planned
        more = self._more[0][0]
        return more if planned is None or more < planned else planned

    def take(self, at: int) -> list[IncomingEvent]:
        """What happens up to this instant, in the order of the fold; each is taken once."""
        taken = []
        while self._place < len(self._acts) and self._acts[self._place].at <= at:
            taken.append(self._acts[self._place])
            self._place += 1
        while self._more and self._more[0][0] <= at:
            taken.append(heapq.heappop(self._more)[2])
        return sorted(taken, key=lambda event: (event.at, event.uid))

    def identify(self, event: IncomingEvent) -> bool:
        """Adds the identifiers of an event; returns whether one is new."""
        known = len(self._names)
        self._names.update(dict.fromkeys(event.identifiers))
        if len(self._names) == known:
            return False
        self.row.identifiers = sorted(self._names, key=lambda name: name.rank)
        return True


def people(playbook_world: World, options: Options) -> Iterator[Person]:
    """The people of the demo, at enough companies that a hold-out can be drawn among them."""
    branches = max(1, options.leads // LEADS_A_BRANCH)
    for index in range(options.leads):
        yield make_person(
            playbook_world, options.seed, index, float(options.days), branches=branches
        )


def actor(person: Person, options: Options, scoring: Scoring) -> Actor:
    """The person before anything has happened."""
    lead = uuid.UUID(derived("rehearsal", options.seed, person.index))
    start = to_us(options.start)
    acts = [occurrence(act, start, scoring.cleaner) for act in person.acts]
    return Actor(person, lead, sorted(acts, key=lambda event: (event.at, event.uid)))


def again(before: Actor) -> Actor:
    """The same person from the beginning."""
    return Actor(before.person, before.row.id, before._acts)


def occurrence(act: Act, start: int, cleaner: Cleaner) -> IncomingEvent:
    """An act as the scorer takes it, known at the instant of its happening."""
    return incoming(interaction(act), start + int(act.at * DAY), cleaner)


def incoming(data: Interaction, at: int, cleaner: Cleaner) -> IncomingEvent:
    """An event at an instant."""
    moment = from_us(at)
    uid = event_uid("rehearsal", data.id)
    identifiers = cleaner.identifiers(data)
    return IncomingEvent(
        uid, at, "", moment, "rehearsal", LIVE, 0.0, data, "", identifiers
    )  # fmt: skip


def interaction(act: Act) -> Interaction:
    """An act in the one form of all doors."""
    if act.endpoint != "form":
        return msgspec.convert({"id": act.id, "type": act.type, **act.fields}, Interaction)
    fields = act.fields
    given = (Consent(state="given", basis="form"),) if fields.get("consent") else ()
    traits: Mapping[str, Any] = {name: it for name, it in fields.items() if name not in OWN}
    return Interaction(
        id=act.id, type="form_submitted", email=fields["email"], traits=dict(traits),
        consent=given, properties={"form": act.form},
    )  # fmt: skip


def answering(options: Options, actor: Actor) -> random.Random:
    """What a person does with its next mail depends on which of its mails that is, not on what
    others do.
    """
    actor.mails += 1
    return random.Random(f"{options.seed}/{actor.person.index}/mail/{actor.mails}")


class SalesAtWork:
    """When sales works with whom, by account and person: it reports the same whatever is sent."""

    def __init__(self, cast: Sequence[Actor]) -> None:
        self._reports: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
        for one in cast:
            account = one.person.email.rpartition("@")[2]
            self._reports[account] += [
                (event.at, one.id, STATUS_OF[event.data.type])
                for event in one._acts
                if event.data.type in STATUS_OF
            ]
        for reports in self._reports.values():
            reports.sort()

    def is_with_another(self, account: str, lead: str, now: int, among: frozenset[str]) -> bool:
        """Whether another lead of the account has one of these statuses by now."""
        last = {who: status for at, who, status in self._reports.get(account, ()) if at <= now}
        return any(status in among for who, status in last.items() if who != lead)
