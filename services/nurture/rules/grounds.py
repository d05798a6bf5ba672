"""The grounds against a touch, in one order, asked when it is decided and again when it is sent.
Pure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from services.nurture.rules import consent
from services.nurture.rules.after_loss import policy_of
from services.nurture.rules.choice import (
    HANDED_OVER,
    Library,
    channel_of,
    is_wanted,
    topics_of,
)
from services.nurture.rules.enrolment import Enrolment
from services.nurture.rules.lead import Lead, Trigger, domain_of
from services.nurture.rules.membership import stays_out, why_over
from services.shared.contracts.events import Snapshot
from services.shared.contracts.identity import Cleaner
from services.shared.contracts.provenance import HISTORY
from services.shared.contracts.touch_reasons import WithholdReason
from services.shared.playbook.programs import Program
from services.shared.playbook.sections import CUSTOMER, UNKNOWN, Content, Playbook

PRESSING = frozenset({"promotion", "sales"})  # purposes of programs
HISTORY_AFTER = timedelta(days=7)  # what lies further back is not answered any more


@dataclass(frozen=True)
class Rules:
    """One playbook as decisions need it; `sink`: mails reach a local sink only, so samples may go
    out.
    """

    playbook: Playbook
    library: Library
    cleaner: Cleaner
    sink: bool

    @classmethod
    def of(cls, playbook: Playbook, *, sink: bool) -> Self:
        """The rules of a playbook."""
        return cls(playbook, Library(playbook), Cleaner(playbook.identity), sink)

    def account_of(self, snapshot: Snapshot) -> str:
        """The company whose leads pause together, by the domain of the address; '' where the
        playbook pauses each for itself, and for mailboxes that anybody can have.
        """
        domain = domain_of(snapshot)
        pauses = self.playbook.sales.pauses_account and not self.cleaner.is_free_mail(domain)
        return domain if pauses else ""


class Case(NamedTuple):
    """One possible touch of a lead, for what asks for it.

    `program` is None where none answers. `content` is None until it is chosen. `is_requested` where
    the lead has asked for the content. `enrolment` is the lead's in the program, and `touch` the id
    of the touch, where they are known. `decided_at` is when it was decided, None where it is now.
    `at_any_hour` where quiet hours and days off do not delay it.
    """

    rules: Rules
    lead: Lead
    trigger: Trigger
    now: datetime
    program: Program | None
    channel: str = ""
    content: Content | None = None
    is_requested: bool = False
    enrolment: Enrolment | None = None
    touch: str = ""
    decided_at: datetime | None = None
    at_any_hour: bool = False


class Withhold(NamedTuple):
    """Send nothing, and why."""

    reason: WithholdReason
    why: str


class Ground(NamedTuple):
    """`holds` returns why a touch is withheld, None where the ground does not hold."""

    reason: WithholdReason
    holds: Callable[[Case], str | None]


def ground_against(case: Case) -> Withhold | None:
    """The first ground that holds and that nothing will change. What was asked for is outside caps,
    hours and hold-out, whatever the stage (N12).
    """
    return _first(REQUEST_GROUNDS if case.is_requested else GROUNDS, case)


def ground_against_content(case: Case) -> Withhold | None:
    """The first ground against the chosen item."""
    return _first(CONTENT_GROUNDS, case)


def _first(grounds: Sequence[Ground], case: Case) -> Withhold | None:
    for reason, holds in grounds:
        if why := holds(case):
            return Withhold(reason, why)
    return None


def _by_calendar(case: Case) -> bool:
    return case.rules.library.by_calendar(case.lead)


def _excluded(case: Case) -> str | None:
    excluded = case.lead.snapshot.excluded
    return f"the playbook leaves it out: {excluded}" if excluded else None


def _unknown_stage(case: Case) -> str | None:
    """By the calendar nothing hangs on it once the lead has entered."""
    if case.trigger.stage != UNKNOWN or (case.enrolment and _by_calendar(case)):
        return None
    return "the evidence is too thin to say where the lead stands"


def _history(case: Case) -> str | None:
    """Imported as history, or too long ago; an imported new lead is new whenever it happened."""
    if case.trigger.imported.import_mode == HISTORY:
        return "it comes from an import of history"
    at = case.now if case.is_requested else case.decided_at or case.now
    age = at - case.trigger.cause_at
    if age <= HISTORY_AFTER or case.trigger.imported.import_mode:
        return None
    return f"the {'request' if case.is_requested else 'change itself'} is more than seven days old"


def _other_channel(case: Case) -> str | None:
    """Only what was decided under another playbook can have it against it."""
    if case.program is None:
        return None
    channel = channel_of(case.program, case.content) if case.content else case.program.channel
    if channel == case.channel:
        return None
    return f"the program {case.program.id} goes out by {channel} now"


def _overtaken(case: Case) -> str | None:
    """Two touches of one place, of people who have become one, say."""
    if case.enrolment is None or not case.touch or case.enrolment.last_touch == case.touch:
        return None
    return "another touch of the program has taken its place"


def _reached(case: Case) -> str | None:
    """The goal, or what else ends the program for the lead."""
    if case.program is None:
        return None
    if over := why_over(case.program, case.lead, by_calendar=_by_calendar(case)):
        return over
    return stays_out(case.program, case.enrolment) if case.enrolment else None


def _after_loss(case: Case) -> str | None:
    snapshot = case.lead.snapshot
    policy = policy_of(case.rules.playbook, snapshot)
    if policy is None or policy.rule.then != "nothing":
        return None
    return f"the playbook ends it after {snapshot.sales_status} ({snapshot.sales_reason or 'any'})"


def _moved_on(case: Case) -> str | None:
    current = case.lead.snapshot.stage
    if current == case.trigger.stage or _by_calendar(case):
        return None
    return f"the lead has moved on to {current}"


def _already_seen(case: Case) -> str | None:
    if case.content is None or case.content.id not in case.lead.seen:
        return None
    return "the lead has had this content by now"


def _held_out(case: Case) -> str | None:
    """Of whom no address is known the account is not either; nothing goes there anyway."""
    if not case.lead.snapshot.email:
        return None
    if case.rules.library.arm(case.lead) != "holdout":
        return None
    return "the account is in the permanent hold-out that shows what nurturing does"


def _no_program(case: Case) -> str | None:
    if case.program and case.rules.library.answers(case.program, case.lead, case.trigger):
        return None
    return "no live program is for this stage, product and persona"


def _in_test(case: Case) -> str | None:
    if case.program is None or case.rules.library.reaches(case.program, case.lead):
        return None
    return f"the program {case.program.id} is in test, and the address none of the test's"


def _edited(case: Case) -> str | None:
    """Only what was decided under another playbook can have it against it."""
    if case.program is None or case.content is None:
        return None
    program, item = case.program, case.content.id
    if item not in (program.answers.values() if case.is_requested else ()) and (
        item not in program.items
    ):
        return f"the program {program.id} does not have the content any more"
    return None


def _not_permitted(case: Case) -> str | None:
    return consent.why_not_by(
        case.channel, case.lead, double_opt_in=case.rules.playbook.consent.double_opt_in
    )


def _before_hand_off(case: Case) -> str | None:
    """Nothing presses to buy before sales has taken the lead (N8)."""
    program, snapshot = case.program, case.lead.snapshot
    if program is None or program.purpose not in PRESSING:
        return None
    if snapshot.stage == CUSTOMER or snapshot.sales_status in HANDED_OVER:
        return None
    return f"the program {program.id} is for {program.purpose}, and sales has not taken the lead"


def _no_address(case: Case) -> str | None:
    return None if case.lead.snapshot.email else "no address is known"


def _no_topics(case: Case) -> str | None:
    return "the lead wants no topics" if topics_of(case.lead.snapshot.traits) == () else None


def _topic_unwanted(case: Case) -> str | None:
    if case.content is None or is_wanted(case.content, case.lead.snapshot.traits):
        return None
    return f"the lead does not want to read about {case.content.topic}"


def _unsuitable(case: Case) -> str | None:
    library = case.rules.library
    if case.content is None or library.suits(case.lead, case.trigger.stage, case.content, case.now):
        return None
    return "the content no longer suits the lead"


def _answered(case: Case) -> str | None:
    """A stranger may ask for a thing in anybody's name, and again under other names."""
    if case.content is None or case.content.id not in case.lead.answered:
        return None
    return "the lead has had what it asks for within the last hour"


def _withdrawn_since(case: Case) -> str | None:
    lead = case.lead
    asked = lead.phone_consent if case.channel == "call" else lead.consent
    return consent.withdrawn_since(asked, case.trigger.cause_at)


def _sample(case: Case) -> str | None:
    return why_not_sendable(case.content, case) if case.content else None


def why_not_sendable(content: Content, case: Case) -> str | None:
    """A sample must not reach anybody's mailbox (N14); a webhook is none."""
    if not content.sample or case.rules.sink or case.channel != "email":
        return None
    return "the item is a sample and the mail server is not a local sink"


GROUNDS = (
    Ground("excluded", _excluded),
    Ground("unknown_stage", _unknown_stage),
    Ground("history", _history),
    Ground("superseded", _moved_on),
    Ground("holdout", _held_out),
    Ground("nothing_suitable", _no_program),
    Ground("superseded", _other_channel),
    Ground("superseded", _overtaken),
    Ground("after_loss", _after_loss),
    Ground("superseded", _reached),
    Ground("before_hand_off", _before_hand_off),
    Ground("no_consent", _no_address),
    Ground("no_consent", _not_permitted),
    Ground("preference", _no_topics),
)
# against the chosen item, in whose place another may come
CONTENT_GROUNDS = (
    Ground("superseded", _already_seen),
    Ground("superseded", _edited),
    Ground("preference", _topic_unwanted),
    Ground("superseded", _unsuitable),
    Ground("sample", _sample),
)
REQUEST_GROUNDS = (
    Ground("excluded", _excluded),
    Ground("history", _history),
    Ground("nothing_suitable", _in_test),
    Ground("superseded", _other_channel),
    Ground("superseded", _edited),
    Ground("superseded", _answered),
    Ground("no_consent", _withdrawn_since),
    Ground("no_consent", _no_address),
    Ground("sample", _sample),
)
