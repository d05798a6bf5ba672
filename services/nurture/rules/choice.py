"""Which programs answer, and which content moves the lead one step on. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Set
from datetime import date, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from services.nurture.rules import consent
from services.nurture.rules.after_loss import EDUCATION, policy_of
from services.nurture.rules.calendar import is_as_customer
from services.nurture.rules.holdout import arm_of_lead
from services.nurture.rules.lead import Lead, Trigger
from services.nurture.rules.learned import NO_EVIDENCE, Cell, Evidence, draw
from services.nurture.rules.membership import may_enter, why_over
from services.nurture.rules.pace import tone, unanswered
from services.nurture.rules.time_zones import latest_day, zones_of
from services.shared.contracts.events import LeadRequest
from services.shared.contracts.holdout import Arm
from services.shared.contracts.identity import Cleaner
from services.shared.contracts.preferences import (
    LANGUAGE,
    TOPICS,
    is_among,
    read_language,
    read_topics,
)
from services.shared.errors import Reject
from services.shared.playbook.patterns import Pattern
from services.shared.playbook.programs import Program
from services.shared.playbook.sections import CUSTOMER, Content, Persona, Playbook

MOST_COMMERCIAL = 3  # the greatest `distance` that an item can have
BEFORE_HAND_OFF = 2  # what is more commercial promotes, or sells
# what sales reports of leads that were handed over to it
UNANSWERED = frozenset({"next", "open"})  # hand-offs
HANDED_OVER = frozenset({"accepted", "opportunity", "won", "lost", "refunded", "churned"})


class RequestedItem(NamedTuple):
    """An item that a lead asked for, and the program that hands it over."""

    program: Program
    content: Content


class Chosen(NamedTuple):
    """An item, and with what probability it was chosen."""

    content: Content
    propensity: float


class _Reader(NamedTuple):
    """A lead as items are chosen for it at a stage: how commercial they may be, who it is and what
    it reads.
    """

    lead: Lead
    reach: int
    persona: str
    language: str


class Library:
    """The programs and the content of one playbook; `evidence` is what has been learned of it."""

    def __init__(self, playbook: Playbook, evidence: Evidence = NO_EVIDENCE) -> None:
        self.evidence = evidence
        self._playbook = playbook
        self._items = playbook.content_by_id
        # by program and stage, in the author's order
        self._items_at: dict[tuple[str, str], list[Content]] = defaultdict(list)
        for program in playbook.programs:
            for item in (self._items[name] for name in program.items):
                if item.state == "live" and not item.service:
                    for stage in dict.fromkeys(item.stages):
                        self._items_at[program.id, stage].append(item)
        self._programs = {program.id: program for program in playbook.programs}
        self._live = [
            program for program in playbook.programs if playbook.state_of(program) != "draft"
        ]
        self._test_addresses = {_plain(address) for address in playbook.test_addresses}
        self._cleaner = Cleaner(playbook.identity)
        # how commercial an item may be, by stage
        self._reach = {
            stage: min(place, MOST_COMMERCIAL) for place, stage in enumerate(playbook.stages)
        }
        # programs that hand over what was asked for; their touches count towards no cap
        self.request_programs = [
            program.id for program in playbook.programs if program.trigger == "request"
        ]

    def program(self, program_id: str) -> Program | None:
        """The program of this id, whether it sends or not."""
        return self._programs.get(program_id)

    def live_program(self, program_id: str) -> Program | None:
        """The program of this id, if it sends, be it to the addresses of the test alone."""
        return next((program for program in self._live if program.id == program_id), None)

    def content(self, content_id: str) -> Content | None:
        """The item of this id, if the playbook still has it."""
        return self._playbook.content_by_id.get(content_id)

    def arm(self, lead: Lead) -> Arm:
        """The arm of the lead's account."""
        return arm_of_lead(lead, self._playbook.holdout, self._cleaner)

    def by_calendar(self, lead: Lead) -> bool:
        """Whether the lead's account gets its content by the calendar. Of whom no address is known
        the account is not either.
        """
        is_possible = self._playbook.holdout.calendar.share > 0 and lead.snapshot.email
        return bool(is_possible) and self.arm(lead) == "calendar"

    def programs(self, lead: Lead, trigger: Trigger) -> list[Program]:
        """Live programs for this stage, product and persona, in the author's order."""
        return [program for program in self._live if self.answers(program, lead, trigger)]

    def answers(self, program: Program, lead: Lead, trigger: Trigger) -> bool:
        """Whether a program is for this stage, product and persona, and for the lead's address. By
        the calendar programs come one after the other, whatever the stage.
        """
        if not self._is_for(program, lead, trigger):
            return False
        return not self.by_calendar(lead) or program is self._in_turn(lead, trigger)

    def waits_its_turn(self, program: Program, lead: Lead, trigger: Trigger) -> bool:
        """Whether the program is for the lead and another one comes first, by the calendar."""
        return self._is_for(program, lead, trigger) and not self.answers(program, lead, trigger)

    def _in_turn(self, lead: Lead, trigger: Trigger) -> Program | None:
        """By the calendar, the first program that has something left for the lead; else the
        first.
        """
        programs = [each for each in self._live if self._is_for(each, lead, trigger)]
        left = (
            each
            for each in programs
            if not why_over(each, lead, by_calendar=True)
            and self.candidates(lead, trigger.stage, each, trigger.cause_at)
        )
        return next(left, programs[0] if programs else None)

    def _is_for(self, program: Program, lead: Lead, trigger: Trigger) -> bool:
        return (
            program.trigger == "stage"
            and self.reaches(program, lead)
            and self._is_stage_of(program.stages, lead, trigger.stage)
            and program.product == trigger.product
            and (not program.personas or self.persona(lead.snapshot.traits).id in program.personas)
            and may_enter(program, lead)
        )

    def reaches(self, program: Program, lead: Lead) -> bool:
        """Whether a program may write to the lead: one in test to the test's addresses alone."""
        state = self._playbook.state_of(program)
        return state == "live" or (
            state == "test" and _plain(lead.snapshot.email) in self._test_addresses
        )

    def requested(self, request: LeadRequest, product: str) -> list[RequestedItem]:
        """What the live programs hand over for a request (N12)."""
        found = []
        for program in self._live:
            name = program.answers.get(request.type) or (
                request.content if request.content in program.items else ""
            )
            if self.hands_over(program, product) and name:
                found.append(RequestedItem(program, self._playbook.content_by_id[name]))
        return found

    def hands_over(self, program: Program, product: str) -> bool:
        """Whether a program answers requests of this product."""
        return program.trigger == "request" and program.product == product

    def choose(
        self,
        lead: Lead,
        stage: str,
        program: Program,
        now: datetime,
        touch: str = "",
        channel: str = "",
    ) -> Chosen | None:
        """The first of the candidates, or where the program learns, a draw among them that the id
        of the touch decides; None where there are none. With `channel` those alone that go out by
        it.
        """
        candidates = self.candidates(lead, stage, program, now, channel)
        if not candidates:
            return None
        is_drawn = program.choice == "learned" and not self.by_calendar(lead)
        if not is_drawn or len(candidates) == 1:
            return Chosen(candidates[0], 1.0)
        cell = Cell(stage, self.persona(lead.snapshot.traits).id)
        topic = self.topic_answered(lead)
        place, propensity = draw(
            self.evidence, cell, [item.id for item in candidates],
            [item.topic == topic for item in candidates], touch,
        )  # fmt: skip
        return Chosen(candidates[place], propensity)

    def candidates(
        self, lead: Lead, stage: str, program: Program, now: datetime, channel: str = ""
    ) -> list[Content]:
        """The items that suit the lead and whose topic it wants: those that go on with the topic
        it answered last come first, each part in the author's order (N9). Who has left many touches
        unanswered is told by another angle or channel, where there is one. By the calendar it is
        the author's order alone.
        """
        reader, topics = self._reader(lead, stage), topics_of(lead.snapshot.traits)
        suitable = [
            item
            for item in self._at_stage(program, lead, stage)
            if (topics is None or is_among(item.topic, topics))
            and self._suits_reader(reader, item, now)
            and channel in ("", channel_of(program, item))
            and self._may_go(lead, program, item)
        ]
        if self.by_calendar(lead):
            return suitable
        if tone(program.silence, unanswered(lead)) in ("other", "pause"):
            suitable = self._otherwise(lead, program, suitable) or suitable
        topic = self.topic_answered(lead)
        return sorted(suitable, key=lambda item: item.topic != topic)

    def _may_go(self, lead: Lead, program: Program, item: Content) -> bool:
        """Whether an item by another channel than its program's is permitted by that channel."""
        channel, is_double = channel_of(program, item), self._playbook.consent.double_opt_in
        return channel == program.channel or not consent.why_not_by(
            channel, lead, double_opt_in=is_double
        )

    def topic_answered(self, lead: Lead) -> str | None:
        """The topic of the item that the lead has turned to last."""
        known = [(at, name) for name, at in lead.done.items() if name in self._items]
        return self._items[max(known)[1]].topic if known else None

    def _otherwise(self, lead: Lead, program: Program, items: list[Content]) -> list[Content]:
        """Those that are told by another angle than the last touch, by another topic where an item
        has no angle, or that go out by another channel.
        """
        last = self._items.get(lead.had[-1].content) if lead.had else None
        return [
            item
            for item in items
            if last is None
            or (item.angle or item.topic) != (last.angle or last.topic)
            or channel_of(program, item) != lead.had[-1].channel
        ]

    def max_distance(self, lead: Lead, stage: str) -> int:
        """How commercial an item may be: by the stage, never an offer before the hand-off (N8) or
        while one is open, and education alone where the playbook says so after a loss. By the
        calendar the stage sets no limit.
        """
        reach, snapshot = self._reach.get(stage, 0), lead.snapshot
        if self.by_calendar(lead):
            reach = MOST_COMMERCIAL
        waits = snapshot.sales_status not in HANDED_OVER or snapshot.handoff in UNANSWERED
        if stage != CUSTOMER and waits:
            reach = min(reach, BEFORE_HAND_OFF)
        policy = policy_of(self._playbook, lead.snapshot)
        return min(reach, EDUCATION) if policy and policy.rule.then == "education" else reach

    def unwanted(self, lead: Lead, stage: str, program: Program, now: datetime) -> list[str]:
        """The topics of the items that would suit the lead, had it not chosen others."""
        reader, items = self._reader(lead, stage), self._at_stage(program, lead, stage)
        topics = (item.topic for item in items if self._suits_reader(reader, item, now))
        return list(dict.fromkeys(topics))

    def suits(self, lead: Lead, stage: str, item: Content, now: datetime) -> bool:
        """Whether it is for this stage, persona, product, language, country and day, neither seen
        nor held by a person, its prerequisites done, and not too commercial. By the calendar every
        stage before the purchase is alike, and a prerequisite may have been sent.
        """
        is_open = self._is_open(item, lead, stage)
        return is_open and self._suits_reader(self._reader(lead, stage), item, now)

    def _at_stage(self, program: Program, lead: Lead, stage: str) -> list[Content]:
        """The program's items that may go out at a stage."""
        if self.by_calendar(lead):
            items = (self._items[name] for name in program.items)
            return [item for item in items if self._is_open(item, lead, stage)]
        return self._items_at.get((program.id, stage), [])

    def _is_open(self, item: Content, lead: Lead, stage: str) -> bool:
        is_live = item.state == "live" and not item.service
        return is_live and self._is_stage_of(item.stages, lead, stage)

    def _reader(self, lead: Lead, stage: str) -> _Reader:
        traits = lead.snapshot.traits
        reach = self.max_distance(lead, stage)
        return _Reader(lead, reach, self.persona(traits).id, self.language(traits))

    def _suits_reader(self, reader: _Reader, item: Content, now: datetime) -> bool:
        """What `suits` asks, but for the stage."""
        lead, traits = reader.lead, reader.lead.snapshot.traits
        return (
            item.distance <= reader.reach
            and item.id not in lead.seen
            and item.id not in lead.held
            and self._had(lead) >= {*item.prerequisites}
            and (not item.personas or reader.persona in item.personas)
            and (not item.products or lead.snapshot.product in item.products)
            and item.language.lower()[:2] == reader.language
            and _in_country(item, traits)
            and (item.valid_until is None or self._day(traits, now) <= item.valid_until)
        )

    def _is_stage_of(self, stages: list[str], lead: Lead, stage: str) -> bool:
        return stage in stages or (self.by_calendar(lead) and is_as_customer(stages, stage))

    def _had(self, lead: Lead) -> Set[str]:
        """The items that count as done before others."""
        return lead.done.keys() | lead.seen if self.by_calendar(lead) else lead.done.keys()

    def persona(self, traits: Mapping[str, Any]) -> Persona:
        """The first persona whose trait matches; the last one where none does."""
        for persona in self._playbook.personas:
            text = str(traits.get(persona.trait, "")) if persona.trait else ""
            if text and _is_in(persona.matches, persona.ignoring, text):
                return persona
        return self._playbook.personas[-1]

    def language(self, traits: Mapping[str, Any]) -> str:
        """Two letters: the lead's language, else the company's."""
        try:
            language = read_language(traits.get(LANGUAGE))
        except Reject:
            language = None
        return (language or self._playbook.company.language).lower()[:2]

    def _day(self, traits: Mapping[str, Any], now: datetime) -> date:
        """The lead's day, in the latest of its zones."""
        return latest_day(zones_of(traits, self._playbook.company.timezone), now)


def channel_of(program: Program, item: Content) -> str:
    """How an item of a program goes out."""
    return item.channel or program.channel


def is_wanted(item: Content, traits: Mapping[str, Any]) -> bool:
    """Whether the lead wants to read about the item's topic; who named no topics wants all (N9)."""
    topics = topics_of(traits)
    return topics is None or is_among(item.topic, topics)


def topics_of(traits: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The topics that the lead wants, None for all; () also for what cannot be read."""
    try:
        return read_topics(traits.get(TOPICS))
    except Reject:
        return ()


def _plain(address: str) -> str:
    return address.strip().casefold()


def _in_country(item: Content, traits: Mapping[str, Any]) -> bool:
    if not item.countries:
        return True
    country = str(traits.get("country", "")).strip().lower()
    return any(country == listed.strip().lower() for listed in item.countries)


@lru_cache(1024)
def _is_in(matches: str, ignoring: str, text: str) -> bool:
    return _pattern(matches, ignoring).is_in(text)


@lru_cache(1024)
def _pattern(matches: str, ignoring: str) -> Pattern:
    return Pattern(matches, ignoring)
