"""The arm of a lead's account: nurtured, by the calendar, or held out for good, so that the effect
of nurturing can be measured (N10, M2, M7). Pure.
"""

from services.nurture.rules.lead import Lead
from services.shared.contracts.holdout import Arm, arm_of, draw_of, unit_of
from services.shared.contracts.identity import Cleaner
from services.shared.playbook.sections import Holdout


def arm_of_lead(lead: Lead, holdout: Holdout, cleaner: Cleaner) -> Arm:
    """The arm of the lead's account."""
    unit = unit_of(lead.snapshot.email, lead.snapshot.user_id, lead.id, cleaner)
    return arm_of(draw_of(unit, holdout.salt), holdout.share, holdout.calendar.share)


def is_held_out(lead: Lead, holdout: Holdout, cleaner: Cleaner) -> bool:
    """Whether the lead's account is held out."""
    return arm_of_lead(lead, holdout, cleaner) == "holdout"
