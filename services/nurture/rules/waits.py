"""What delays a touch and passes: pauses, caps, pace, silence, the site, the hour. Pure.

A hold has no known end: it is asked again at news of the lead, and after `ASK_AGAIN`.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from services.nurture.rules import cadence
from services.nurture.rules.after_loss import policy_of
from services.nurture.rules.cadence import Over
from services.nurture.rules.grounds import Case
from services.nurture.rules.membership import back_at
from services.nurture.rules.pace import silence_over, unanswered
from services.nurture.rules.time_zones import zones_of
from services.nurture.rules.timing import send_time
from services.shared.contracts.preferences import PAUSED_UNTIL
from services.shared.contracts.touch_reasons import WaitReason

ASK_AGAIN = timedelta(days=7)
ROUNDS = 12  # of waits after waits; what is left is asked when the touch is due


class Waited(NamedTuple):
    """When a touch may go out, and what it waits for last; the hour only where nothing else is."""

    due_at: datetime
    reason: WaitReason
    why: str


class Hold(NamedTuple):
    """`holds` returns why nothing goes out until something changes, None where it may."""

    reason: WaitReason
    holds: Callable[[Case], str | None]


class Wait(NamedTuple):
    """`until` returns until when nothing goes out, None where nothing speaks against `case.now`."""

    reason: WaitReason
    until: Callable[[Case], Over | None]


def earliest(case: Case, ramp: timedelta = timedelta()) -> Waited:
    """The first moment from `case.now` on at which no ground that passes is against the touch."""
    for kind, holds in HOLDS:
        if why := holds(case):
            return Waited(case.now + ASK_AGAIN, kind, why)
    waited = Waited(case.now + ramp, "ramp" if ramp else "", "")
    for _ in range(ROUNDS):
        begun = waited.due_at
        asked = case._replace(now=begun)
        for reason, until in WAITS:
            over = until(asked)
            if over and over.at > waited.due_at:
                waited = Waited(over.at, reason, over.why)
                asked = case._replace(now=over.at)
        due = send_time(case.rules.playbook, case.lead.snapshot, waited.due_at)
        if due.due_at > waited.due_at and not case.at_any_hour:
            hour_alone = waited.reason in ("", "ramp")
            waited = Waited(due.due_at, due.reason if hour_alone else waited.reason, waited.why)
        if waited.due_at == begun:
            break
    return waited


def _with_sales(case: Case) -> str | None:
    if case.lead.account_with_sales:
        return "sales is working with somebody of the same company"
    return cadence.with_sales(case.lead.snapshot.sales_status)


def _endless_pause(case: Case) -> str | None:
    return cadence.endless_pause(case.lead.snapshot.traits, case.now)


def _paused_by_person(case: Case) -> Over | None:
    return cadence.paused_by_person(case.lead.paused_until, case.now)


def _paused_by_lead(case: Case) -> Over | None:
    traits = case.lead.snapshot.traits
    if traits.get(PAUSED_UNTIL) is None:  # of nearly everybody
        return None
    return cadence.paused_by_lead(traits, zones_of(traits, case.rules.playbook.company.timezone))


def _after_loss(case: Case) -> Over | None:
    policy = policy_of(case.rules.playbook, case.lead.snapshot)
    if policy is None or policy.until is None or policy.until <= case.now:
        return None
    status = case.lead.snapshot.sales_status
    return Over(policy.until, f"the playbook lets time pass after {status}")


def _slower_pace(case: Case) -> Over | None:
    return cadence.slower_pace(case.lead.snapshot.traits, case.lead.recent_sends, case.now)


def _capped(case: Case) -> Over | None:
    return cadence.cap_reached(case.rules.playbook.cadence, case.lead.recent_sends, case.now)


def _silent(case: Case) -> Over | None:
    """Silence is an answer: unanswered touches slow down, and pause; not by the calendar."""
    if case.program is None or case.rules.library.by_calendar(case.lead):
        return None
    over = silence_over(case.program, case.lead)
    if over is None or over <= case.now:
        return None
    return Over(over, f"the lead has left {unanswered(case.lead)} touches unanswered")


def _back(case: Case) -> Over | None:
    """Who has left comes back after the program's days at the earliest."""
    if case.program is None or case.enrolment is None or case.enrolment.state != "left":
        return None
    at = back_at(case.program, case.enrolment)
    if at is None or at <= case.now:
        return None
    return Over(at, f"it comes back into the program {case.program.id} on {at:%Y-%m-%d}")


HOLDS = (Hold("with_sales", _with_sales), Hold("preference", _endless_pause))
WAITS = (
    Wait("paused", _paused_by_person),
    Wait("preference", _paused_by_lead),
    Wait("after_loss", _after_loss),
    Wait("pace", _back),
    Wait("preference", _slower_pace),
    Wait("capped", _capped),
    Wait("silence", _silent),
)
