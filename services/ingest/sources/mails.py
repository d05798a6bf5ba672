"""What the webhooks of mail tools share: the events of a mail, and values read as texts.

Leaving a part of a tool's lists (a group, a stream, one audience) is leaving them all: which part
our mails belong to only the tool knows, and a refusal too many can be mended. Coming back to a part
is noted as `resubscribed` and permits nothing.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from services.ingest.sources.bounces import Kind, kind_of
from services.ingest.sources.contract import Item
from services.ingest.sources.touches import touch_of
from services.shared.errors import Reject

MAX_REASON = 500  # characters of a mail server's reason


class MailEventType(NamedTuple):
    """What became of a mail or a subscription: a canonical type, and of a bounce whether it is for
    good.
    """

    type: str
    bounce: str = ""


PROCESSED = MailEventType("email_processed")
DROPPED = MailEventType("email_dropped")
DELIVERED = MailEventType("email_delivered")
HARD_BOUNCE = MailEventType("email_bounced", "hard")
SOFT_BOUNCE = MailEventType("email_bounced", "soft")
OPENED = MailEventType("email_opened")
CLICKED = MailEventType("email_clicked")
COMPLAINED = MailEventType("email_complained")
REPLIED = MailEventType("email_replied")
UNSUBSCRIBED = MailEventType("unsubscribed")
RESUBSCRIBED = MailEventType("resubscribed")
# the tool sends no more, for a reason of former days or its owner's: no act of now
SUPPRESSED = MailEventType("consent_withdrawn")


def bounce(status: str, *texts: str, otherwise: Kind) -> MailEventType:
    """A bounce by the table of all doors; `otherwise` where the server's words decide nothing."""
    kind = kind_of(status, *texts) or otherwise
    return HARD_BOUNCE if kind == "hard" else SOFT_BOUNCE


class MailEvent(msgspec.Struct, frozen=True, gc=False):
    """What a tool says of a mail; `reason` is what the tool or a mail server gives as one. Values
    that are no texts count as ''.
    """

    type: MailEventType
    id: str
    email: object
    at: datetime | None
    touch: str = ""
    url: object = ""
    campaign: object = ""
    reason: object = ""
    machine: bool = False

    def interaction(self) -> Item:
        """The event as an interaction."""
        properties: dict[str, Any] = {"type": self.type.bounce} if self.type.bounce else {}
        if reason := text(self.reason)[:MAX_REASON]:
            properties["reason"] = reason
        return Item(
            id=self.id,
            type=self.type.type,
            email=text(self.email),
            occurred_at=self.at,
            touch_id=self.touch,
            url=text(self.url),
            campaign=text(self.campaign),
            machine=self.machine,
            properties=properties,
        )


def touch(custom: object, *message_ids: object) -> str:
    """The touch of a mail: the custom argument `touch_id`, else by its Message-ID; '' where neither
    names one.
    """
    return text(custom) or touch_of(*message_ids)


def text(value: object) -> str:
    """A value that is a text; '' for any other: what a tool adds around an event must not
    spoil it.
    """
    return value if isinstance(value, str) else ""


def first(value: object) -> str:
    """A text, or the first of a list of them."""
    return text(value[0] if isinstance(value, list) and value else value)


def inside(value: object, *path: str) -> Any:
    """The value at a path in nested objects; None where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def moment(seconds: float | None, where: str) -> datetime | None:
    """Seconds since 1970 as a time. Raises Reject."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise Reject("a time out of range", where=where, remedy="send seconds since 1970") from None


def unknown(name: str, where: str) -> Reject:
    """The refusal of an event that we have no type for."""
    return Reject(
        f"no event {name[:50]!r}",
        where=where,
        remedy="choose at the sender the events that `ripeline sources` names",
    )
