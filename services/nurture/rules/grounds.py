"""The grounds against a touch, in one order, asked when it is decided and again when it is sent.
Pure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from services.nurture.rules import cadence, consent, timing
from services.nurture.rules.choice import Library, is_wanted
from services.nurture.rules.holdout import is_held_out
from services.nurture.rules.lead import Lead, Trigger
from services.shared.contracts.identity import Cleaner
from services.shared.contracts.provenance import HISTORY
from services.shared.contracts.touch_reasons import WithholdReason
from services.shared.playbook.sections import UNKNOWN, Content, Playbook, Program

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


class Case(NamedTuple):
    """One possible touch of a lead in a stage.

    `program` is None where none answers. `content` is None until it is chosen. `trigger` is known
    while deciding only. `requested_at` is set where the lead has asked for the content.
    """

    rules: Rules
    lead: Lead
    stage: str
    now: datetime
    program: Program | None
    channel: str = ""
    trigger: Trigger | None = None
    content: Content | None = None
    requested_at: datetime | None = None


class Withhold(NamedTuple):
    """Send nothing, and why."""

    reason: WithholdReason
    why: str


class Ground(NamedTuple):
    """`holds` returns why a touch is withheld, None where the ground does not hold."""

    reason: WithholdReason
    holds: Callable[[Case], str | None]


def ground_against(case: Case) -> Withhold | None:
    """The first ground that holds. What was asked for is outside caps, hours and hold-out, whatever
    the stage (N12).
    """
    for reason, holds in GROUNDS if case.requested_at is None else REQUEST_GROUNDS:
        if why := holds(case):
            return Withhold(reason, why)
    return None


def _unknown_stage(case: Case) -> str | None:
    if case.stage != UNKNOWN:
        return None
    return "the evidence is too thin to say where the lead stands"


def _history(case: Case) -> str | None:
    """Imported as history, or too long ago; an imported new lead is new whenever it happened."""
    if case.trigger is None:
        return None
    if case.trigger.imported.import_mode == HISTORY:
        return "it comes from an import of history"
    if case.now - case.trigger.cause_at <= HISTORY_AFTER or case.trigger.imported.import_mode:
        return None
    return f"the {'request' if case.requested_at else 'change itself'} is more than seven days old"


def _moved_on(case: Case) -> str | None:
    current = case.lead.snapshot.stage
    return f"the lead has moved on to {current}" if current != case.stage else None


def _already_seen(case: Case) -> str | None:
    if case.content is None or case.content.id not in case.lead.seen:
        return None
    return "the lead has had this content by now"


def _held_out(case: Case) -> str | None:
    if not is_held_out(case.lead, case.rules.playbook.holdout, case.rules.cleaner):
        return None
    return "the account is in the permanent hold-out that shows what nurturing does"


def _no_program(case: Case) -> str | None:
    if case.program is not None:
        return None
    return "no live program is for this stage, product and persona"


def _paused_by_person(case: Case) -> str | None:
    return cadence.paused_by_person(case.lead.paused_until, case.now)


def _with_sales(case: Case) -> str | None:
    return cadence.with_sales(case.lead.snapshot.sales_status)


def _not_permitted(case: Case) -> str | None:
    double_opt_in = case.rules.playbook.consent.double_opt_in
    return consent.why_not_permitted(case.lead.consent, double_opt_in=double_opt_in)


def _no_address(case: Case) -> str | None:
    return None if case.lead.snapshot.email else "no address is known"


def _paused_by_lead(case: Case) -> str | None:
    until = cadence.paused_until(case.lead.snapshot.traits)
    if until is None:
        return None
    zone = timing.time_zone(case.rules.playbook, case.lead.snapshot)
    if case.now.astimezone(zone).date() >= until:
        return None
    return f"the lead has asked for no mail before {until}"


def _slower_pace(case: Case) -> str | None:
    return cadence.slower_pace(case.lead.snapshot.traits, case.lead.recent_sends, case.now)


def _capped(case: Case) -> str | None:
    return cadence.cap_reached(case.rules.playbook.cadence, case.lead.recent_sends, case.now)


def _topic_unwanted(case: Case) -> str | None:
    if case.content is None or is_wanted(case.content, case.lead.snapshot.traits):
        return None
    return f"the lead does not want to read about {case.content.topic}"


def _unsuitable(case: Case) -> str | None:
    library = case.rules.library
    if case.content is None or library.suits(case.lead, case.stage, case.content, case.now):
        return None
    return "the content no longer suits the lead"


def _withdrawn_since(case: Case) -> str | None:
    assert case.requested_at is not None
    return consent.withdrawn_since(case.lead.consent, case.requested_at)


def _sample(case: Case) -> str | None:
    return why_not_sendable(case.content, case) if case.content else None


def why_not_sendable(content: Content, case: Case) -> str | None:
    """A sample must not reach anybody's mailbox (N14); a webhook is none."""
    if not content.sample or case.rules.sink or case.channel != "email":
        return None
    return "the item is a sample and the mail server is not a local sink"


GROUNDS = (
    Ground("unknown_stage", _unknown_stage),
    Ground("history", _history),
    Ground("superseded", _moved_on),
    Ground("superseded", _already_seen),
    Ground("holdout", _held_out),
    Ground("nothing_suitable", _no_program),
    Ground("superseded", _paused_by_person),
    Ground("superseded", _with_sales),
    Ground("no_consent", _no_address),
    Ground("no_consent", _not_permitted),
    Ground("preference", _paused_by_lead),
    Ground("preference", _slower_pace),
    Ground("capped", _capped),
    Ground("preference", _topic_unwanted),
    Ground("superseded", _unsuitable),
    Ground("sample", _sample),
)
REQUEST_GROUNDS = (
    Ground("history", _history),
    Ground("no_consent", _withdrawn_since),
    Ground("no_consent", _no_address),
    Ground("sample", _sample),
)
