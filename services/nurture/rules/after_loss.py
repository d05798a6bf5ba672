"""What follows when sales gives a lead up, or a customer leaves: the playbook's policy by reason.
Pure.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from services.shared.contracts.events import Snapshot
from services.shared.playbook.programs import AfterLoss
from services.shared.playbook.sections import Playbook

EDUCATION = 1  # the greatest distance of what educates


class Policy(NamedTuple):
    """The rule that counts for a lead, and until when it waits."""

    rule: AfterLoss
    until: datetime | None


def policy_of(playbook: Playbook, snapshot: Snapshot) -> Policy | None:
    """The first rule for what sales reported last; None where nothing was lost."""
    status, reason = snapshot.sales_status, _plain(snapshot.sales_reason)
    for rule in playbook.after_loss:
        if status in rule.sales and (
            not rule.reasons or reason in {_plain(name) for name in rule.reasons}
        ):
            return Policy(rule, _until(rule, snapshot.sales_at))
    return None


def _until(rule: AfterLoss, at: datetime | None) -> datetime | None:
    if rule.then != "wait" or at is None:
        return None
    return at + timedelta(days=rule.days)


def _plain(reason: str) -> str:
    return "_".join(reason.lower().replace("-", " ").replace("_", " ").split())
