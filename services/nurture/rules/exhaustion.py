"""Which readers will soon have had all that a program holds for them. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from msgspec.structs import replace

from services.nurture.rules.grounds import Case, Rules, ground_against
from services.nurture.rules.lead import Lead, Trigger
from services.shared.clock import rfc3339
from services.shared.playbook.programs import Program
from services.shared.playbook.sections import Playbook

AHEAD = timedelta(days=14)
LOOK_BACK = timedelta(days=28)  # over which the pace is measured
WEEK = timedelta(days=7)


class Reader(NamedTuple):
    """A lead, and the programs that it is in; None where its stage decides that."""

    lead: Lead
    programs: frozenset[str] | None = None


class Segment(NamedTuple):
    """The readers of a program in a stage: how many there are, how many have nothing left, and how
    many more will have had all by `AHEAD`, the first of them at `first_at`.

    `per_week` is the mean of touches that a reader gets; where nobody got any, what the usual pace
    of the program and the cap let through.
    """

    program: str
    stage: str
    persona: str
    language: str
    readers: int
    exhausted: int
    soon: int
    first_at: datetime | None
    per_week: float

    def report(self) -> dict[str, Any]:
        """As JSON has it, with a sentence."""
        plain = self._asdict() | {"first_at": rfc3339(self.first_at) if self.first_at else None}
        return plain | {"days_ahead": AHEAD.days, "says": self.sentence}

    @property
    def sentence(self) -> str:
        """What it says to people."""
        return (
            f"{self.program}, {self.stage}, {self.persona} ({self.language}): of {self.readers} "
            f"readers {self.exhausted} have had everything, {self.soon} more will have in "
            f"{AHEAD.days} days, at {self.per_week:.1f} touches a week"
        )


class Exhaustion:
    """Counts readers, however many at a time; who may not be written to by a program is none of
    its readers.
    """

    def __init__(self, rules: Rules, now: datetime) -> None:
        self._rules, self._now = rules, now
        self._members: dict[tuple[str, str, str, str], list[tuple[int, int]]] = defaultdict(list)

    def add(self, readers: Iterable[Reader]) -> None:
        """Counts these too."""
        library, since = self._rules.library, self._now - LOOK_BACK
        for lead, programs in readers:
            snapshot = lead.snapshot
            trigger = Trigger(snapshot.stage, snapshot.product, self._now, follows=True)
            for program in self._rules.playbook.programs:
                if programs is not None and program.id not in programs:
                    continue
                case = Case(self._rules, lead, trigger, self._now, program, program.channel)
                if not ground_against(case):
                    persona = library.persona(snapshot.traits).id
                    key = program.id, snapshot.stage, persona, library.language(snapshot.traits)
                    sent = sum(one.sent_at > since for one in lead.had)
                    self._members[key].append((self._left(program, lead), sent))

    def segments(self) -> list[Segment]:
        """Those with a reader who has nothing left or will not within `AHEAD`, the one with the
        most of them first.
        """
        found = [
            _segment(self._rules.playbook, key, members, self._now)
            for key, members in self._members.items()
        ]
        return sorted(
            (each for each in found if each.exhausted or each.soon),
            key=lambda each: (-each.exhausted - each.soon, each[:4]),
        )

    def _left(self, program: Program, lead: Lead) -> int:
        """The items that the lead can still get, also after others."""
        known, now = self._rules.playbook.content_by_id, self._now
        items = (known[name] for name in program.items if name not in lead.seen)
        return sum(
            self._rules.library.suits(
                replace(lead, done=lead.done | dict.fromkeys(item.prerequisites, now)),
                lead.snapshot.stage,
                item,
                now,
            )
            for item in items
        )


def _segment(
    playbook: Playbook,
    key: tuple[str, str, str, str],
    members: list[tuple[int, int]],
    now: datetime,
) -> Segment:
    """From (items left, touches got) of each reader."""
    written_to = [sent for _, sent in members if sent]
    weeks = LOOK_BACK / WEEK
    per_week = sum(written_to) / len(written_to) / weeks if written_to else _usual(playbook, key[0])
    ends = [now + left / per_week * WEEK for left, _ in members if left and per_week]
    soon = [at for at in ends if at <= now + AHEAD]
    return Segment(
        *key,
        readers=len(members),
        exhausted=sum(not left for left, _ in members),
        soon=len(soon),
        first_at=min(soon, default=None),
        per_week=round(per_week, 3),
    )


def _usual(playbook: Playbook, program: str) -> float:
    """Touches a week by a program's usual pace, within the cap."""
    pace = next(one.pace for one in playbook.programs if one.id == program)
    return min(float(playbook.cadence.per_week), WEEK / timedelta(days=pace.usual))
