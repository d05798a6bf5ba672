"""Events of the far future and the far past."""

from datetime import datetime, timedelta

import pytest

from tests.support import present
from tests.support.running_system import System


def test_the_far_future_counts_from_now_and_is_flagged(system: System) -> None:
    then = (present.now() + timedelta(days=3650)).isoformat()
    email = system.address()
    system.post_event(type="page_viewed", email=email, occurred_at=then)
    lead = system.wait_for_lead(email=email)
    event = system.timeline(lead["id"])[0]
    assert event["flags"] == "clamped"
    assert abs((datetime.fromisoformat(event["at"]) - present.now()).total_seconds()) < 60


@pytest.mark.parametrize("days", [402, 900])
def test_the_far_past_is_stored_and_announces_nothing(system: System, days: int) -> None:
    email = system.address()
    given = [{"channel": "email", "purpose": "marketing", "state": "given"}]
    system.post_event(
        type="demo_requested", email=email, occurred_at=present.ago(days=days), consent=given
    )
    lead = system.wait_for_lead(email=email)
    items = system.timeline(lead["id"])
    assert [(item["kind"], item.get("flags")) for item in items] == [("event", "old")]
    at = (present.now() - timedelta(days=days - 1)).isoformat()
    assert system.query(f"/v1/leads/{lead['id']}", at=at)["stage"] == "decision"
    system.post_event(type="noted", email=email)
    system.wait_for_lead(2, email=email)
    assert {touch["status"] for touch in system.touches(lead["id"])} <= {"withheld"}
    assert system.mails(email) == []
