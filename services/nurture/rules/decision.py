"""Decisions: the next touch of a program, the answer to a request, and whether a due touch still
goes out. Pure.
"""

from datetime import datetime
from typing import NamedTuple

from services.nurture.rules.choice import RequestedItem
from services.nurture.rules.grounds import Case, Rules, Withhold, ground_against, why_not_sendable
from services.nurture.rules.lead import Lead, Trigger
from services.nurture.rules.timing import SendTime, ramp_of, send_time
from services.shared.contracts.events import LeadRequest, Touch
from services.shared.contracts.provenance import decode_provenance
from services.shared.contracts.touch_reasons import WaitReason
from services.shared.playbook.sections import Content, Program


class Send(NamedTuple):
    """Send this, at `due_at`; `reason` is what it waits for."""

    content: Content
    due_at: datetime
    reason: WaitReason
    why: str
    propensity: float = 1.0


def decide(
    rules: Rules, lead: Lead, trigger: Trigger, program: Program | None, now: datetime
) -> Send | Withhold:
    """The next touch of one program, or the first ground against any."""
    case = Case(rules, lead, trigger, now, program, program.channel if program else "")
    if ground := ground_against(case):
        return ground
    assert program is not None, "that there is none is a ground"
    content = rules.library.choose(lead, trigger.stage, program, now)
    if content is None:
        if unwanted := rules.library.unwanted(lead, trigger.stage, program, now):
            return Withhold(
                "preference", f"the lead does not want to read about {', '.join(unwanted)}"
            )
        return Withhold(
            "nothing_suitable",
            f"the program {program.id} has no further item for {trigger.stage}",
        )
    # of the grounds about content the only one that a chosen item can have against it
    if why := why_not_sendable(content, case):
        return Withhold("sample", why)
    due = send_time(rules.playbook, lead.snapshot, now, ramp_of(trigger.imported, lead.id))
    return Send(content, *due, f"the next of {program.id} for {trigger.stage}: {content.title}")


def answer_request(
    rules: Rules, lead: Lead, request: LeadRequest, item: RequestedItem, now: datetime
) -> Send | Withhold:
    """What was asked for goes out at once, or over the days of its import."""
    program, content = item
    imported = decode_provenance(request.imported)
    trigger = Trigger(lead.snapshot.stage, program.product, request.at, imported)
    case = Case(rules, lead, trigger, now, program, program.channel, content, is_requested=True)
    if ground := ground_against(case):
        return ground
    ramp = ramp_of(imported, lead.id)
    return Send(
        content, now + ramp, "ramp" if ramp else "", f"the lead asked for it: {content.title}"
    )


def recheck(rules: Rules, lead: Lead | None, touch: Touch, now: datetime) -> SendTime | Withhold:
    """Whether a due touch still goes out, and when: at once where `due_at` is not after `now`.

    Every ground that deciding asks is asked again, of the lead, the playbook and the moment as they
    are.
    """
    program = rules.library.live_program(touch.program)
    content = rules.library.content(touch.content)
    if lead is None or content is None or program is None:
        return Withhold("superseded", "the lead, the content or the program is gone")
    is_requested = program.trigger == "request" if touch.requested is None else touch.requested
    if is_requested and not rules.library.hands_over(program, touch.product):
        return Withhold("superseded", f"the program {program.id} answers no such request any more")
    trigger = Trigger(
        touch.stage,
        touch.product,
        touch.cause_at or touch.decided_at or now,
        decode_provenance(touch.imported),
    )
    case = Case(rules, lead, trigger, now, program, touch.channel, content, is_requested)
    if ground := ground_against(case):
        return ground
    return SendTime(now, "") if is_requested else send_time(rules.playbook, lead.snapshot, now)
