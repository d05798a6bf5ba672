"""Who enters a program, and what ends it for a lead. Pure."""

from datetime import datetime, timedelta

from services.nurture.rules.enrolment import Enrolment
from services.nurture.rules.lead import Lead
from services.shared.playbook.programs import Program
from services.shared.playbook.sections import CUSTOMER


def may_enter(program: Program, lead: Lead) -> bool:
    """Whether a lead has done what the program asks of who enters."""
    return lead.done.keys() >= {*program.entry.done}


def is_goal_reached(program: Program, lead: Lead) -> bool:
    """Whether one of the items that are the program's goal is done, by whatever way."""
    return not lead.done.keys().isdisjoint(program.exit.done)


def why_over(program: Program, lead: Lead, *, by_calendar: bool) -> str | None:
    """What ends the program for a lead as it stands; None where nothing does. By the calendar no
    stage does but the purchase.
    """
    if is_goal_reached(program, lead):
        return f"the goal of the program {program.id} is reached"
    is_counted = not by_calendar or lead.snapshot.stage == CUSTOMER
    if is_counted and lead.snapshot.stage in program.exit.stages:
        return f"the program {program.id} ends in the stage {lead.snapshot.stage}"
    if lead.snapshot.sales_status in program.exit.sales:
        return f"the program {program.id} ends when sales reports {lead.snapshot.sales_status}"
    return None


def back_at(program: Program, enrolment: Enrolment) -> datetime | None:
    """From when on somebody may come back who has left or reached the goal; None: never."""
    if enrolment.state != "left" or not program.reentry.allowed:
        return None
    return (enrolment.left_at or enrolment.entered_at) + timedelta(days=program.reentry.after_days)


def stays_out(program: Program, enrolment: Enrolment) -> str | None:
    """Why somebody who has left does not come back; None for who may."""
    if enrolment.state == "active" or back_at(program, enrolment):
        return None
    if enrolment.state == "completed":
        return f"the goal of the program {program.id} is reached"
    return f"who has left the program {program.id} does not come back"
