"""The arm that gets the same content by the calendar: in the author's order, an item every so many
days, whatever its stage, answers and silence (M7). What protects people holds as for all others.
Pure.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from services.nurture.rules.lead import Lead
from services.shared.playbook.sections import CUSTOMER, CalendarArm


def is_as_customer(stages: Iterable[str], stage: str) -> bool:
    """Whether one of the stages is on the same side of the purchase as `stage`: a purchase is a
    fact, every other stage an estimate.
    """
    return any((each == CUSTOMER) == (stage == CUSTOMER) for each in stages)


def next_day(arm: CalendarArm, lead: Lead) -> datetime | None:
    """When the next item comes; None: at once."""
    return lead.had[-1].sent_at + timedelta(days=arm.days) if lead.had else None
