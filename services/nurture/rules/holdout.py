"""The permanent hold-out: accounts that are never nurtured, so that its effect can be measured
(N10, M2). Pure.
"""

from services.nurture.rules.lead import Lead
from services.shared.contracts.holdout import draw_of, unit_of
from services.shared.contracts.identity import Cleaner
from services.shared.playbook.sections import Holdout


def is_held_out(lead: Lead, holdout: Holdout, cleaner: Cleaner) -> bool:
    """Whether the lead's account is held out."""
    unit = unit_of(lead.snapshot.email, lead.snapshot.user_id, lead.id, cleaner)
    return draw_of(unit, holdout.salt) < holdout.share
