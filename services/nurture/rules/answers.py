"""Decisions as touches: what an announced change asks for, the next one of a program, and a due one
as it is by now. Pure.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace

from services.nurture.rules.calendar import next_day
from services.nurture.rules.choice import channel_of
from services.nurture.rules.decision import Send, answer_request, decide, recheck
from services.nurture.rules.enrolment import Enrolment
from services.nurture.rules.grounds import Rules, Withhold
from services.nurture.rules.lead import Lead, Trigger
from services.nurture.rules.steps import entered
from services.shared.contracts.events import (
    OWN_ACTS,
    Change,
    ChangeEvent,
    Touch,
    derived,
    is_forward,
)
from services.shared.contracts.provenance import decode_provenance, encode_provenance
from services.shared.playbook.programs import Program

STAGE_CHANGED = "lead.stage_changed.v1"


class Answer(NamedTuple):
    """A touch, and the enrolment that begins or goes on with it; None where none does."""

    touch: Touch
    enrolment: Enrolment | None = None


def touch_of(
    touch_id: str,
    cause_id: str,
    lead: Lead,
    trigger: Trigger,
    program: Program | None,
    decision: Send | Withhold,
    now: datetime,
) -> Touch:
    """The touch of a decision; `cause_id` is what it answers, or the touch that it follows."""
    send = decision if isinstance(decision, Send) else None
    return Touch(
        id=touch_id,
        lead=lead.id,
        product=trigger.product,
        announcement="" if trigger.follows else cause_id,
        program=program.id if program else "",
        stage=trigger.stage,
        content=send.content.id if send else "",
        channel=channel_of(program, send.content) if program and send else "",
        status="due" if send else "withheld",
        reason=decision.reason,
        why=decision.why,
        propensity=send.propensity if send else None,
        decided_at=now,
        cause_at=trigger.cause_at,
        imported=encode_provenance(trigger.imported),
        requested=False,
        follows=cause_id if trigger.follows else "",
        persona=trigger.persona,
        arm=trigger.arm,
        due_at=send.due_at if send else None,
    )


def answers_to_stage(
    rules: Rules, event: ChangeEvent, lead: Lead, now: datetime, known: Mapping[str, Enrolment]
) -> list[Answer]:
    """A touch for each program that answers a stage change; where none does, one that says so.
    `known` are the lead's enrolments by program.
    """
    change, library = event.data, rules.library
    trigger = Trigger(
        change.stage,
        change.product,
        change.cause_at or event.time,
        decode_provenance(change.imported),
        persona=library.persona(lead.snapshot.traits).id,
        arm=library.arm(lead),
    )
    programs: list[Program | None] = [*library.programs(lead, trigger)]
    answers = []
    for program in programs or [None]:
        touch_id = derived(event.id, "touch", program.id if program else "")
        before = known.get(program.id) if program else None
        decision = decide(rules, lead, trigger, program, now, before, touch_id)
        if isinstance(decision, Send) and library.by_calendar(lead):
            decision = _on_its_day(rules, lead, decision)
        touch = touch_of(touch_id, event.id, lead, trigger, program, decision, now)
        after = entered(program, lead, touch_id, decision, now, before) if program else None
        answers.append(Answer(touch, after))
    return answers


def _on_its_day(rules: Rules, lead: Lead, send: Send) -> Send:
    """A stage change brings nothing forward where the calendar says when the next item comes."""
    day = next_day(rules.playbook.holdout.calendar, lead)
    if day is None or day <= send.due_at:
        return send
    return send._replace(due_at=day, reason="calendar")


def answers_to_requests(rules: Rules, event: ChangeEvent, lead: Lead, now: datetime) -> list[Touch]:
    """A touch for each thing that the lead asked for; a request is answered once a program."""
    change, library = event.data, rules.library
    persona = library.persona(lead.snapshot.traits).id
    touches = []
    for request in change.requests:
        cause = derived(request.uid, "request")
        provenance = decode_provenance(request.imported)
        trigger = Trigger(
            change.stage, change.product, request.at, provenance, persona=persona,
            arm=library.arm(lead),
        )  # fmt: skip
        for item in library.requested(request, change.product):
            touch_id = derived(cause, "touch", item.program.id)
            decision = answer_request(rules, lead, request, item, now)
            touch = touch_of(touch_id, cause, lead, trigger, item.program, decision, now)
            touches.append(replace(touch, requested=True))
    return touches


def next_touch(
    rules: Rules, before: Enrolment, decision: Send | Withhold, lead: Lead, now: datetime
) -> Touch:
    """The touch that a step decides, after the one of the enrolment before it."""
    library = rules.library
    persona = library.persona(lead.snapshot.traits).id
    trigger = Trigger(
        lead.snapshot.stage, before.product, now, follows=True, persona=persona,
        arm=library.arm(lead),
    )  # fmt: skip
    touch = touch_of(
        before.next_touch(), before.before, lead, trigger,
        library.program(before.program), decision, now,
    )  # fmt: skip
    return touch if touch.program else replace(touch, program=before.program)


def rechecked(
    rules: Rules,
    touch: Touch,
    lead: Lead | None,
    now: datetime,
    enrolment: Enrolment | None,
    *,
    at_any_hour: bool = False,
) -> Touch:
    """The touch as it is by now, perhaps with a better item: sent, due later, or withheld."""
    result = recheck(rules, lead, touch, now, enrolment, at_any_hour=at_any_hour)
    if isinstance(result, Withhold):
        return replace(touch, status="withheld", reason=result.reason, why=result.why)
    touch = replace(touch, content=result.content.id, propensity=result.propensity, why=result.why)
    if result.due_at > now:
        return replace(touch, due_at=result.due_at, reason=result.reason)
    return replace(touch, status="sending", reason="")


def is_step_forward(stages: Sequence[str], change: Change) -> bool:
    """Whether a stage change is one that the lead took forward by its own act."""
    forward = is_forward(stages, change.from_stage, change.stage)
    return forward and change.cause in OWN_ACTS and change.cause_at is not None
