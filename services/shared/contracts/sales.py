"""What sales reports of a lead: one identity and shape for a fact, whichever way it comes in."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from services.shared.clock import rfc3339
from services.shared.errors import Reject

SalesStatus = Literal[
    "accepted", "rejected", "disqualified", "opportunity", "won", "lost", "refunded",
    "churned", "returned",
]  # fmt: skip
TYPE_OF: Mapping[SalesStatus, str] = {
    "accepted": "sales_accepted",
    "rejected": "sales_rejected",
    "disqualified": "sales_disqualified",
    "opportunity": "opportunity_opened",
    "won": "won",
    "lost": "lost",
    "refunded": "refunded",
    "churned": "churned",
    "returned": "sales_returned",
}
STATUS_OF: Mapping[str, SalesStatus] = {type_: status for status, type_ in TYPE_OF.items()}
UNDONE = "event"  # the property that names the event whose word is taken back


def restored_status(properties: Mapping[str, Any]) -> SalesStatus | Literal[""]:
    """The status that counts again after sales took back what it had said last; '' for none."""
    given = properties.get("status")
    return next((status for status in TYPE_OF if status == given), "")


def scope_of(type_: str, origin: str = "") -> str:
    """Within what an id of such a fact is unique: its type, not the source by which it came.

    A deal's id may so stand for its opening and for its end. `origin` is that of formats whose ids
    are unique only within one.
    """
    return f"sales:{type_}:{origin}" if origin else f"sales:{type_}"


def derived_id(at: datetime, strongest: str, product: str) -> str:
    """The id of a fact that came without one, from its time, the strongest identifier and the
    product.
    """
    return hashlib.sha256("\0".join((rfc3339(at), strongest, product)).encode()).hexdigest()[:32]


def checked_properties(
    type_: str,
    properties: dict[str, Any],
    reasons: Sequence[str],
    where: str = "/properties/reason",
) -> dict[str, Any]:
    """The properties in the order of their names, a reason for disqualifying as the playbook writes
    it.

    Raises Reject where that reason is missing or not on the list.
    """
    if type_ == TYPE_OF["disqualified"]:
        reason = listed(properties.get("reason"), reasons, where)
        properties = properties | {"reason": reason}
    return dict(sorted(properties.items()))


def listed(reason: Any, reasons: Sequence[str], where: str) -> str:
    """A reason as the playbook writes it. Raises Reject for one that is missing or not known."""
    given = str(reason or "").strip()
    for known in reasons:
        if _plain(known) == _plain(given):
            return known
    title = f"no such reason: {given[:60]!r}" if given else "disqualified without a reason"
    raise Reject(title, where=where, remedy=f"use one of {', '.join(reasons)}")


def _plain(reason: str) -> str:
    return "_".join(reason.lower().replace("-", " ").replace("_", " ").split())
