"""Decisions: the touch that answers a stage change, the answer to a request, and whether a due
touch still goes out. Pure.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from services.nurture.rules.choice import RequestedItem, channel_of
from services.nurture.rules.enrolment import Enrolment
from services.nurture.rules.grounds import (
    Case,
    Rules,
    Withhold,
    ground_against,
    ground_against_content,
    why_not_sendable,
)
from services.nurture.rules.lead import Lead, Trigger
from services.nurture.rules.timing import ramp_of
from services.nurture.rules.waits import earliest
from services.shared.contracts.events import LeadRequest, Touch
from services.shared.contracts.provenance import decode_provenance
from services.shared.contracts.touch_reasons import WaitReason
from services.shared.playbook.programs import Program
from services.shared.playbook.sections import Content

# what a touch may wait for in whose course another item may become the better one
OVERTAKING = frozenset(
    {
        "capped",
        "preference",
        "paused",
        "with_sales",
        "silence",
        "after_loss",
        "sender_ramp",
        "receiver_rate",
        "receiver_stopped",
    }
)


class Send(NamedTuple):
    """Send this, at `due_at`; `reason` is what it waits for."""

    content: Content
    due_at: datetime
    reason: WaitReason
    why: str
    propensity: float = 1.0


def decide(
    rules: Rules,
    lead: Lead,
    trigger: Trigger,
    program: Program | None,
    now: datetime,
    enrolment: Enrolment | None = None,
    touch: str = "",
) -> Send | Withhold:
    """The next touch of one program, or the first ground against any; `touch` is its id."""
    channel = program.channel if program else ""
    case = Case(rules, lead, trigger, now, program, channel, enrolment=enrolment)
    return ground_against(case) or choose(case, touch)


def choose(case: Case, touch: str = "") -> Send | Withhold:
    """The best item for a case that no lasting ground is against, and when it may go out."""
    rules, lead, stage, program = case.rules, case.lead, case.trigger.stage, case.program
    assert program is not None, "that there is none is a ground"
    # a touch keeps the channel by which it was decided
    channel = case.channel if case.decided_at else ""
    chosen = rules.library.choose(lead, stage, program, case.now, touch, channel)
    if chosen is None:
        if unwanted := rules.library.unwanted(lead, stage, program, case.now):
            return Withhold(
                "preference", f"the lead does not want to read about {', '.join(unwanted)}"
            )
        why = f"the program {program.id} has no further item for {stage}"
        return Withhold("nothing_suitable", why)
    content, propensity = chosen
    # of the grounds about content the only one that a chosen item can have against it
    if sample := why_not_sendable(content, case._replace(channel=channel_of(program, content))):
        return Withhold("sample", sample)
    # the ramp of an import is over when a touch is due
    ramp = ramp_of(case.trigger.imported, lead.id) if case.decided_at is None else timedelta()
    waited = earliest(case, ramp)
    why = f"the next of {program.id} for {stage}: {content.title}"
    return Send(content, waited.due_at, waited.reason, why, propensity)


def answer_request(
    rules: Rules, lead: Lead, request: LeadRequest, item: RequestedItem, now: datetime
) -> Send | Withhold:
    """What was asked for goes out at once, or over the days of its import."""
    program, content = item
    imported = decode_provenance(request.imported)
    trigger = Trigger(lead.snapshot.stage, program.product, request.at, imported)
    channel = channel_of(program, content)
    case = Case(rules, lead, trigger, now, program, channel, content, is_requested=True)
    if ground := ground_against(case):
        return ground
    ramp = ramp_of(imported, lead.id)
    return Send(
        content, now + ramp, "ramp" if ramp else "", f"the lead asked for it: {content.title}"
    )


def recheck(
    rules: Rules,
    lead: Lead | None,
    touch: Touch,
    now: datetime,
    enrolment: Enrolment | None = None,
    *,
    at_any_hour: bool = False,
) -> Send | Withhold:
    """Whether a due touch still goes out, with what, and when: at once where `due_at` is not after
    `now`.

    Every ground that deciding asks is asked again, of the lead, the playbook and the moment as they
    are. An item that was overtaken, or waited for what has passed, gives way to the better one.
    """
    program = rules.library.live_program(touch.program)
    content = rules.library.content(touch.content)
    if lead is None or program is None:
        return Withhold("superseded", "the lead or the program is gone")
    is_requested = program.trigger == "request" if touch.requested is None else touch.requested
    if is_requested and not (content and rules.library.hands_over(program, touch.product)):
        why = f"the program {program.id} answers no such request any more"
        return Withhold("superseded", why)
    trigger = Trigger(
        touch.stage,
        touch.product,
        touch.cause_at or touch.decided_at or now,
        decode_provenance(touch.imported),
        bool(touch.follows),
    )
    case = Case(
        rules, lead, trigger, now, program, touch.channel, content, is_requested,
        enrolment, touch.id, touch.decided_at, at_any_hour,
    )  # fmt: skip
    if ground := ground_against(case):
        return ground
    if is_requested and content:
        return Send(content, now, "", touch.why)
    return _again(case, touch)


def _again(case: Case, touch: Touch) -> Send | Withhold:
    """The touch with its item, or with a better one."""
    ground = ground_against_content(case) if case.content else None
    if case.content and ground is None and touch.reason not in OVERTAKING:
        waited = earliest(case)
        propensity = 1.0 if touch.propensity is None else touch.propensity
        return Send(case.content, waited.due_at, waited.reason, touch.why, propensity)
    better = choose(case._replace(content=None), touch.id)
    return ground if ground and isinstance(better, Withhold) else better
