"""What the webhooks of mail tools share: what happened to a mail, whose it was, and values of any
type read as texts.

Leaving a part of a tool's lists (a group, a stream, one audience) is leaving them all: which part
our mails belong to only the tool knows, and a refusal too many can be mended. Coming back to a part
is noted as `resubscribed` and permits nothing.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple

from services.ingest.sources.contract import Item
from services.ingest.sources.touches import touch_of
from services.shared.errors import Reject

MAX_REASON = 500  # characters of what a mail server said


class Fate(NamedTuple):
    """What became of a mail or a subscription: a canonical type, and of a bounce whether it is for
    good.
    """

    type: str
    bounce: str = ""


PROCESSED, DROPPED, DELIVERED = (
    Fate("email_processed"),
    Fate("email_dropped"),
    Fate("email_delivered"),
)
HARD, SOFT = Fate("email_bounced", "hard"), Fate("email_bounced", "soft")
OPENED, CLICKED, COMPLAINED = Fate("email_opened"), Fate("email_clicked"), Fate("email_complained")
ANSWERED = Fate("email_replied")
LEFT, BACK = Fate("unsubscribed"), Fate("resubscribed")
# the tool sends no more, for a reason of former days or its owner's: no act of now
SUPPRESSED = Fate("consent_withdrawn")


def told(
    fate: Fate,
    *,
    id: str,
    email: object,
    at: datetime | None,
    touch: str = "",
    url: object = "",
    campaign: object = "",
    reason: object = "",
    machine: bool = False,
) -> Item:
    """The interaction; `reason` is what the tool or a mail server says of it."""
    properties: dict[str, Any] = {"type": fate.bounce} if fate.bounce else {}
    if why := text(reason)[:MAX_REASON]:
        properties["reason"] = why
    return Item(
        id=id,
        type=fate.type,
        email=text(email),
        occurred_at=at,
        touch_id=touch,
        url=text(url),
        campaign=text(campaign),
        machine=machine,
        properties=properties,
    )


def touch(custom: object, *message_ids: object) -> str:
    """The touch that a mail was: as the sender's own argument `touch_id` says, else by its
    Message-ID; '' where neither does.
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
    """What lies in nested objects; None where there is no such place."""
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
    """The refusal of an event that we have no word for."""
    return Reject(
        f"no event {name[:50]!r}",
        where=where,
        remedy="choose at the sender the events that `ripeline sources` names",
    )
