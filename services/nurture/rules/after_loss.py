"""What follows when sales gives a lead up, or a customer leaves: the playbook's policy by reason.
Pure.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from services.shared.contracts.events import Snapshot
from services.shared.playbook.programs import AfterLoss, rule_after
from services.shared.playbook.sections import Playbook

LONGEST = timedelta(days=3660)
EDUCATION = 1  # the greatest distance of what educates


class Policy(NamedTuple):
    """The rule that counts for a lead, and until when it waits."""

    rule: AfterLoss
    until: datetime | None


def policy_of(playbook: Playbook, snapshot: Snapshot) -> Policy | None:
    """The first rule for what sales reported last; None where nothing was lost."""
    rule = rule_after(playbook.after_loss, snapshot.sales_status, snapshot.sales_reason)
    return Policy(rule, _until(rule, snapshot)) if rule else None


def _until(rule: AfterLoss, snapshot: Snapshot) -> datetime | None:
    """From the day that sales named on, which counts where nothing else follows too; else the
    rule's days after the report.
    """
    waits = rule.then == "wait" or (rule.then == "go_on" and snapshot.sales_until)
    if not waits or snapshot.sales_at is None:
        return None
    if snapshot.sales_until:
        day = datetime.combine(date.fromisoformat(snapshot.sales_until), time(), tzinfo=UTC)
        return min(day, snapshot.sales_at + LONGEST)
    return snapshot.sales_at + timedelta(days=rule.days)
