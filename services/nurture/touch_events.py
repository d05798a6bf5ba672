"""The events on `nurture.touches`, as they go into the outbox."""

import time
from datetime import datetime

from services.shared.contracts.events import (
    TOUCHES,
    ChangeEvent,
    HandedOver,
    HandoffEvent,
    Touch,
    TouchEvent,
    derived,
    encode,
)
from services.shared.messaging.kafka import Outgoing


def decided(touch: Touch) -> Outgoing:
    """A touch is due, or withheld, or has another item."""
    return _event("touch.decided.v1", touch, touch.decided_at, touch.content)


def sent(touch: Touch) -> Outgoing:
    """A touch has left, with what its recipient reads."""
    return _event("touch.sent.v1", touch, touch.sent_at)


def failed(touch: Touch) -> Outgoing:
    """A touch was not sent, or nobody knows whether it was."""
    return _event("touch.failed.v1", touch, touch.decided_at)


def answered(touch: Touch, at: datetime) -> Outgoing:
    """A person has said what came of a call, or nobody has in time."""
    return _event("touch.answered.v1", touch, at)


def exported(touch: Touch) -> Outgoing:
    """Somebody went out in an audience."""
    return _event("touch.exported.v1", touch, touch.sent_at)


def handed_over(event: ChangeEvent) -> Outgoing | None:
    """A step of a hand-off, for those who follow what becomes of leads; None of other changes."""
    change = event.data
    if change.handoff is None:
        return None
    data = HandedOver(lead=change.lead, product=change.product, handoff=change.handoff)
    told = HandoffEvent(id=derived(event.id, "handoff.changed.v1"), time=event.time, data=data)
    return Outgoing(TOUCHES, change.lead, encode(told))


def _event(kind: str, touch: Touch, at: datetime | None, *more: str) -> Outgoing:
    """The id is derived, so that a repetition changes nothing."""
    if at is None:
        raise ValueError(f"a touch without its time: {touch.id}")
    event = TouchEvent(
        id=derived(touch.id, kind, touch.outcome or touch.status, *more),
        type=kind,
        time=at,
        data=touch,
        postedat=time.time(),
    )
    return Outgoing(TOUCHES, touch.lead, encode(event))
