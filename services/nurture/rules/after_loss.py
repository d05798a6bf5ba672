"""What follows when sales gives a lead up, or a customer leaves: the playbook's policy by reason.
Pure.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from services.shared.contracts.events import Snapshot
from services.shared.playbook.programs import AfterLoss
from services.shared.playbook.sections import Playbook

LONGEST = timedelta(days=3660)
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
            return Policy(rule, _until(rule, snapshot))
    return None


def _until(rule: AfterLoss, snapshot: Snapshot) -> datetime | None:
    """From the day that sales named on, else the rule's days after the report."""
    if rule.then != "wait" or snapshot.sales_at is None:
        return None
    if snapshot.sales_until:
        day = datetime.combine(date.fromisoformat(snapshot.sales_until), time(), tzinfo=UTC)
        return min(day, snapshot.sales_at + LONGEST)
    return snapshot.sales_at + timedelta(days=rule.days)


def _plain(reason: str) -> str:
    return "_".join(reason.lower().replace("-", " ").replace("_", " ").split())
