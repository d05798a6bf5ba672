"""The choice: which content moves this lead one step on, and on which grounds none may go out.
Pure.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from services.shared.contracts.consent import DOUBLE_OPT_IN
from services.shared.contracts.events import ConsentState, LeadRequest, Snapshot
from services.shared.contracts.identity import Cleaner
from services.shared.contracts.preferences import GAPS, PACE, PAUSED_UNTIL, TOPICS
from services.shared.contracts.provenance import HISTORY, LIVE, Provenance, decode_provenance
from services.shared.playbook.sections import UNKNOWN, Content, Persona, Playbook, Program

OVER = timedelta(days=7)  # what is older is history
WITH_SALES = frozenset({"accepted", "opportunity"})


class Lead(msgspec.Struct, frozen=True):
    """What is known of a lead at the moment of a decision; `sent` are the instants of touches of
    the last days.

    Where a person has asserted the stage, the snapshot says that one; `paused_until` where a person
    has paused the lead.
    """

    id: str
    snapshot: Snapshot
    consent: ConsentState | None = None
    seen: frozenset[str] = frozenset()
    sent: tuple[datetime, ...] = ()
    paused_until: datetime | None = None


class Occasion(msgspec.Struct, frozen=True):
    """The announced stage change that asks for a touch; `imported` as in `Change`."""

    stage: str
    product: str
    cause_at: datetime
    imported: Provenance = LIVE


class Send(NamedTuple):
    """Send this, at `due_at`; `reason` names what it waits for, '' where nothing."""

    content: Content
    due_at: datetime
    reason: str
    why: str
    propensity: float = 1.0


class Withhold(NamedTuple):
    """Send nothing, and why."""

    reason: str
    why: str


class Chooser:
    """Decides under one playbook; `sink` tells whether mails only reach a local sink."""

    def __init__(self, playbook: Playbook, *, sink: bool) -> None:
        self.playbook = playbook
        self._cleaner = Cleaner(playbook.identity)
        self.sink = sink
        self._reach = {stage: min(i, 3) for i, stage in enumerate(playbook.stages)}

    def programs(self, lead: Lead, occasion: Occasion) -> list[Program]:
        """Programs that answer for this stage, product and persona, in the author's order."""
        persona = self.persona(lead.snapshot.traits)
        return [
            program
            for program in self.playbook.programs
            if program.state == "live"
            and program.trigger == "stage"
            and occasion.stage in program.stages
            and program.product == occasion.product
            and (not program.personas or persona.id in program.personas)
        ]

    def decide(
        self, lead: Lead, occasion: Occasion, program: Program | None, now: datetime
    ) -> Send | Withhold:
        """The next touch of one program, or the first ground against any."""
        snapshot = lead.snapshot
        if occasion.stage == UNKNOWN:
            return Withhold(
                "unknown_stage", "the evidence is too thin to say where the lead stands"
            )
        if history := _history(occasion.imported, now - occasion.cause_at, "change itself"):
            return history
        if snapshot.stage != occasion.stage:
            return Withhold("superseded", f"the lead has moved on to {snapshot.stage}")
        if self.held_out(lead):
            return Withhold(
                "holdout", "the account is in the permanent hold-out that shows what nurturing does"
            )
        if program is None:
            return Withhold(
                "nothing_suitable", "no live program is for this stage, product and persona"
            )
        if against := self.against(lead, now):
            return against
        content = self.choose(lead, occasion.stage, program, now)
        if content is None:
            return Withhold(
                "nothing_suitable",
                f"the program {program.id} has no further item for {occasion.stage}",
            )
        if content.sample and not self.sink and program.channel == "email":
            return Withhold(
                "sample", "the item is a sample and the mail server is not a local sink"
            )
        due_at, waits = self.due(snapshot, now, _ramp(occasion.imported, lead.id))
        return Send(
            content,
            due_at,
            waits,
            f"the next of {program.id} for {occasion.stage}: {content.title}",
        )

    def answers(self, request: LeadRequest, product: str) -> list[tuple[Program, Content]]:
        """What the live programs hand over for a request (N12)."""
        found = []
        for program in self.playbook.programs:
            name = program.answers.get(request.type) or (
                request.content if request.content in program.items else ""
            )
            if (
                program.state == "live"
                and program.trigger == "request"
                and program.product == product
                and name
            ):
                found.append((program, self.playbook.content_by_id[name]))
        return found

    def answer(
        self, lead: Lead, request: LeadRequest, program: Program, content: Content, now: datetime
    ) -> Send | Withhold:
        """A requested thing goes out at once, outside caps, quiet hours and hold-out, whatever the
        stage.
        """
        if history := _history(decode_provenance(request.imported), now - request.at, "request"):
            return history
        if refused := self.refused_since(lead, request.at):
            return refused
        if not lead.snapshot.email:
            return Withhold("no_consent", "no address is known")
        if content.sample and not self.sink and program.channel == "email":
            return Withhold(
                "sample", "the item is a sample and the mail server is not a local sink"
            )
        ramp = _ramp(decode_provenance(request.imported), lead.id)
        return Send(
            content, now + ramp, "ramp" if ramp else "", f"the lead asked for it: {content.title}"
        )

    def refused_since(self, lead: Lead, at: datetime) -> Withhold | None:
        """What somebody asks for comes, whatever they refused before it; who leaves afterwards does
        not get it any more.
        """
        said = lead.consent
        return (
            Withhold("no_consent", _said(said))
            if said and said.state == "withdrawn" and said.at > at
            else None
        )

    def is_live(self, program: str) -> bool:
        """Whether the program exists and sends."""
        return any(one.id == program and one.state == "live" for one in self.playbook.programs)

    @property
    def service(self) -> list[str]:
        """Programs that hand over what was asked for, and count towards no cap."""
        return [program.id for program in self.playbook.programs if program.trigger == "request"]

    def against(self, lead: Lead, now: datetime) -> Withhold | None:
        """Grounds that hold for every content: a person or sales has the lead, no permission, too
        much already.
        """
        if lead.paused_until and now < lead.paused_until:
            return Withhold(
                "superseded", f"a person has paused the lead until {lead.paused_until:%Y-%m-%d}"
            )
        if lead.snapshot.sales_status in WITH_SALES:
            return Withhold("superseded", "sales is working with the lead")
        if not lead.snapshot.email or not self.permitted(lead.consent):
            return Withhold(
                "no_consent",
                "no permission to write to this lead is known"
                if not lead.consent
                else _said(lead.consent),
            )
        if asked := self._asked(lead, now):
            return asked
        cadence = self.playbook.cadence
        week = [at for at in lead.sent if now - at < timedelta(days=7)]
        if len(week) >= cadence.per_week:
            return Withhold("capped", f"{len(week)} touches in seven days")
        if week and now - max(week) < timedelta(hours=cadence.min_hours_between):
            return Withhold(
                "capped", f"the last touch was less than {cadence.min_hours_between:g} hours ago"
            )
        return None

    def _asked(self, lead: Lead, now: datetime) -> Withhold | None:
        """A pause or a pace that the lead has asked for (N9)."""
        traits = lead.snapshot.traits
        until = _day(traits.get(PAUSED_UNTIL))
        if until and now.astimezone(self._zone(lead.snapshot)).date() < until:
            return Withhold("preference", f"the lead has asked for no mail before {until}")
        pace = str(traits.get(PACE))
        if pace in GAPS and any(now - at < GAPS[pace] for at in lead.sent):
            return Withhold("preference", f"the lead has asked for a {pace} mail at most")
        return None

    def permitted(self, consent: ConsentState | None) -> bool:
        """Unknown permission is none; with double opt-in only the confirmed one counts."""
        if consent is None or consent.state != "given":
            return False
        return consent.basis == DOUBLE_OPT_IN or not self.playbook.consent.double_opt_in

    def choose(self, lead: Lead, stage: str, program: Program, now: datetime) -> Content | None:
        """The first item in the author's order that is eligible."""
        items = (self.playbook.content_by_id[name] for name in program.items)
        return next((item for item in items if self.eligible(lead, stage, item, now)), None)

    def eligible(self, lead: Lead, stage: str, item: Content, now: datetime) -> bool:
        """For this stage, persona, product, language and country, not seen, its prerequisites met,
        not too commercial.
        """
        traits = lead.snapshot.traits
        language = str(traits.get("language") or self.playbook.company.language).lower()[:2]
        return (
            stage in item.stages
            and item.distance <= self._reach[stage]
            and item.id not in lead.seen
            and lead.seen.issuperset(item.prerequisites)
            and (not item.personas or self.persona(traits).id in item.personas)
            and (not item.products or lead.snapshot.product in item.products)
            and item.language.lower()[:2] == language
            and (
                not item.countries
                or str(traits.get("country", "")).lower() in {c.lower() for c in item.countries}
            )
            and not item.service
            and wanted(item, traits)
            and (item.valid_until is None or now.date() <= item.valid_until)
        )

    def persona(self, traits: Mapping[str, Any]) -> Persona:
        """The first persona whose trait matches; the last one where none does."""
        for persona in self.playbook.personas:
            if persona.trait and _matches(persona.matches, str(traits.get(persona.trait, ""))):
                return persona
        return self.playbook.personas[-1]

    def held_out(self, lead: Lead) -> bool:
        """By hash of the company's domain; of the address where anybody can have one there."""
        holdout, email = self.playbook.holdout, lead.snapshot.email
        domain = email.rpartition("@")[2]
        unit = (
            (email if self._cleaner.is_free_mail(domain) else domain)
            or lead.snapshot.user_id
            or lead.id
        )
        drawn = hashlib.sha256(f"{holdout.salt}:{unit}".encode()).digest()
        return int.from_bytes(drawn[:8], "big") / 2**64 < holdout.share

    def due(
        self, snapshot: Snapshot, now: datetime, ramp: timedelta = timedelta()
    ) -> tuple[datetime, str]:
        """When a touch may go out, and what it waits for: its turn, the lead leaves the site, the
        night or the week-end ends.
        """
        due_at, reason = now + ramp, "ramp" if ramp else ""
        if snapshot.last_act_at:
            leaves = snapshot.last_act_at + timedelta(minutes=self.playbook.cadence.on_site_minutes)
            if leaves > due_at:
                due_at, reason = leaves, "on_site"
        waking = self.waking(due_at, self._zone(snapshot))
        return (waking, "quiet_hours") if waking > due_at else (due_at, reason)

    def waking(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The first instant from `moment` on that lies outside quiet hours and on a working day."""
        cadence = self.playbook.cadence
        local = moment.astimezone(zone)
        for _ in range(16):
            hour, start, end = local.hour, cadence.quiet_from, cadence.quiet_until
            night = start <= hour < end if start <= end else hour >= start or hour < end
            if not night and local.weekday() in cadence.working_days:
                return local.astimezone(UTC)
            tomorrow = (
                local + timedelta(days=1) if (night and hour >= start > end) or not night else local
            )
            local = tomorrow.replace(hour=end, minute=0, second=0, microsecond=0)
        return moment

    def _zone(self, snapshot: Snapshot) -> ZoneInfo:
        for name in (snapshot.traits.get("timezone"), self.playbook.company.timezone):
            if zone := _zone(str(name)):
                return zone
        return ZoneInfo("UTC")


def wanted(item: Content, traits: Mapping[str, Any]) -> bool:
    """Whether the lead wants to read about the item's topic; who named none wants all."""
    topics = traits.get(TOPICS)
    return item.topic in topics if isinstance(topics, list) else topics in (None, item.topic)


def _history(imported: Provenance, age: timedelta, what: str) -> Withhold | None:
    """What lies too far back to be answered, or was imported as such; new leads are new whenever it
    happened.
    """
    if imported.import_mode == HISTORY:
        return Withhold("history", "it comes from an import of history")
    if age > OVER and not imported.import_mode:
        return Withhold("history", f"the {what} is more than seven days old")
    return None


def _ramp(imported: Provenance, lead: str) -> timedelta:
    """How long an imported new lead waits for its turn: drawn from its id, evenly over the days of
    the import.
    """
    drawn = int.from_bytes(hashlib.sha256(f"ramp:{lead}".encode()).digest()[:8], "big") / 2**64
    return timedelta(days=imported.ramp_days * drawn)


def latest(words: Sequence[ConsentState | None]) -> ConsentState | None:
    """The last word on a permission; at equal times the refusal wins."""
    said = [word for word in words if word]
    return max(said, key=lambda word: (word.at, word.state == "withdrawn"), default=None)


def _said(consent: ConsentState) -> str:
    when = f"{consent.at:%Y-%m-%d}"
    return (
        f"the lead took the permission back on {when}"
        if consent.state == "withdrawn"
        else "the permission is not confirmed"
    )


def _day(value: object) -> date | None:
    """The day that a trait names; what is none says nothing."""
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        return None


@lru_cache(1024)
def _matches(pattern: str, text: str) -> bool:
    return bool(text) and re.search(pattern, text, re.I) is not None


@lru_cache(1024)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return None
