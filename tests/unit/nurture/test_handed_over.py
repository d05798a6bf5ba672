"""Steps of hand-offs are passed on as they are, and nothing else (H1)."""

from datetime import UTC, datetime

import msgspec

from services.nurture.touch_events import handed_over
from services.shared.contracts.events import (
    TOUCHES,
    Change,
    ChangeEvent,
    HandoffEvent,
    HandoffStep,
    is_handoff_step,
)

AT = datetime(2026, 6, 9, 9, tzinfo=UTC)
STEP = HandoffStep(id="h", what="opened", kind="ready", status="open", at=AT, reasons=("a", "b"))


def event(handoff: HandoffStep | None) -> ChangeEvent:
    change = Change(lead="l", version=1, handoff=handoff)
    return ChangeEvent(id="e", type="lead.handoff_changed.v1", time=AT, data=change)


def test_a_step_is_published_under_an_id_that_stays() -> None:
    told = handed_over(event(STEP))
    assert told is not None
    assert (told.topic, told.key) == (TOUCHES, "l")
    assert is_handoff_step(told.value)
    read = msgspec.json.decode(told.value, type=HandoffEvent)
    assert (read.type, read.data.handoff) == ("handoff.changed.v1", STEP)
    assert handed_over(event(STEP)) == told


def test_other_changes_are_no_steps() -> None:
    assert handed_over(event(None)) is None
    assert not is_handoff_step(b'{"type": "touch.sent.v1", "data": {"why": "handoff.changed.v1"}}')
    assert not is_handoff_step(b'"handoff.changed.v1')
