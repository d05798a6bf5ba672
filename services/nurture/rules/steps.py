"""One step of an enrolment: what comes next for a person in a program, and when. Pure.

The answer to a stage change is decided by `decision.decide`; here what follows it within the stage.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec.structs import replace

from services.nurture.rules.calendar import next_day
from services.nurture.rules.decision import Send, decide
from services.nurture.rules.enrolment import Enrolment
from services.nurture.rules.grounds import Rules, Withhold
from services.nurture.rules.lead import Lead, Trigger
from services.nurture.rules.membership import is_goal_reached, why_over
from services.nurture.rules.pace import next_place_at
from services.shared.contracts.touch_reasons import WaitReason
from services.shared.playbook.programs import Program
from services.shared.playbook.sections import UNKNOWN

BEGINS_NOTHING = frozenset({"history", "unknown_stage", "holdout", "excluded"})


class Step(NamedTuple):
    """The enrolment as it goes on, and the touch that is decided; None where none is. `upcoming` is
    the touch as it would be decided by now, also where its moment is yet to come.
    """

    enrolment: Enrolment
    decision: Send | Withhold | None = None
    upcoming: Send | None = None


def entered(
    program: Program,
    lead: Lead,
    touch: str,
    decision: Send | Withhold,
    now: datetime,
    enrolment: Enrolment | None = None,
) -> Enrolment | None:
    """The enrolment after a stage change was answered by a touch of this id. None for who does not
    enter: what is of the past, of nobody known or left out begins nothing.
    """
    is_withheld = isinstance(decision, Withhold)
    if is_withheld and decision.reason in BEGINS_NOTHING and enrolment is None:
        return None
    known = enrolment or Enrolment(lead.id, program.id, program.product, now)
    return replace(
        known,
        state=known.state if is_withheld else "active",
        place=known.place + 1,
        last_touch=touch,
        next_at=None,
        reason=decision.reason,
        why=decision.why,
    )


def newly_entered(
    rules: Rules, lead: Lead, product: str, known: Collection[str], now: datetime
) -> list[Enrolment]:
    """Enrolments in further programs that a lead comes into without a change of stage: its persona
    has become known, or the playbook has got another program.
    """
    if lead.snapshot.stage == UNKNOWN:
        return []  # a lead enters with the first stage that is known
    trigger = Trigger(lead.snapshot.stage, product, now, follows=True)
    return [
        Enrolment(lead.id, program.id, product, now, next_at=now)
        for program in rules.library.programs(lead, trigger)
        if program.id not in known
    ]


def step(
    rules: Rules,
    lead: Lead,
    enrolment: Enrolment,
    now: datetime,
    *,
    is_pending: bool = False,
    paced: bool = True,
) -> Step:
    """What comes next at `now`. `is_pending`: a touch of the program waits or is on the wire, whose
    outcome calls for the next step. A touch that is decided is due at once. Unless `paced` the
    lead's pace delays nothing.
    """
    program = rules.library.program(enrolment.program)
    if program is None:
        return _ended(enrolment)
    if enrolment.state in ("completed", "ended"):
        return _rest(enrolment, "", "the program is over for the lead")
    if rules.library.live_program(program.id) is None:
        return _rest(enrolment, "", f"the program {program.id} is not live")
    if is_pending:
        return _rest(enrolment, "", "a touch is on its way")
    by_calendar = rules.library.by_calendar(lead)
    over = why_over(program, lead, by_calendar=by_calendar)
    if is_goal_reached(program, lead):
        return _rest(replace(enrolment, state="completed", left_at=now), "", over or "")
    trigger = Trigger(lead.snapshot.stage, enrolment.product, now, follows=True)
    if by_calendar and not over and rules.library.waits_its_turn(program, lead, trigger):
        return _rest_until_its_turn(rules, enrolment, now)
    if why := over or _why_outside(rules, program, lead, trigger):
        left_at = now if enrolment.state == "active" else enrolment.left_at
        return _rest(replace(enrolment, state="left", left_at=left_at), "", why)
    decision = decide(rules, lead, trigger, program, now, enrolment, enrolment.next_touch())
    if isinstance(decision, Withhold):
        return _rest(enrolment, decision.reason, decision.why)
    if not paced:
        return _at_its_time(enrolment, decision, None, now)
    if by_calendar:
        day = next_day(rules.playbook.holdout.calendar, lead)
        return _at_its_time(enrolment, decision, day, now, "calendar")
    return _at_its_time(enrolment, decision, next_place_at(program, lead), now)


def _at_its_time(
    enrolment: Enrolment,
    decision: Send,
    paced: datetime | None,
    now: datetime,
    by: WaitReason = "pace",
) -> Step:
    """The touch, where nothing delays it; `paced` is from when on the lead's pace, or the calendar,
    allows it.
    """
    at, reason = decision.due_at, str(decision.reason)
    if paced and paced > now and paced >= at:
        at, reason = paced, by
    if at > now:
        waiting = replace(enrolment, next_at=at, reason=reason, why=decision.why)
        return Step(waiting, upcoming=decision)
    return Step(enrolment.with_touch(decision.why), decision, decision)


def _rest_until_its_turn(rules: Rules, enrolment: Enrolment, now: datetime) -> Step:
    """By the calendar another program comes first: until the next day of the calendar."""
    at = now + timedelta(days=rules.playbook.holdout.calendar.days)
    why = f"the program {enrolment.program} comes in its turn, by the calendar"
    return Step(replace(enrolment, next_at=at, reason="calendar", why=why))


def _why_outside(rules: Rules, program: Program, lead: Lead, trigger: Trigger) -> str | None:
    if rules.library.answers(program, lead, trigger):
        return None
    return f"the program {program.id} is not for the stage {trigger.stage} and the persona"


def _rest(enrolment: Enrolment, reason: str, why: str) -> Step:
    """Until there is news."""
    return Step(replace(enrolment, next_at=None, reason=reason, why=why))


def _ended(enrolment: Enrolment) -> Step:
    """The program is gone: the word in the timeline is a touch that nothing comes of."""
    why = f"the program {enrolment.program} is no more in the playbook"
    over = replace(
        enrolment, state="ended", last_touch=enrolment.next_touch(), next_at=None, why=why,
        reason="program_ended",
    )  # fmt: skip
    return Step(over, Withhold("program_ended", why))
