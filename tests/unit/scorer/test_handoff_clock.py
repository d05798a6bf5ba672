"""Of hand-offs of people who turn out to be one the clock that began first goes on (H2)."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.scorer.handoffs.grounds import Act, Facts
from services.scorer.handoffs.records import Handoff, Kind, Status
from services.scorer.handoffs.rules import Rules, examine
from services.shared.clock import to_us
from services.shared.playbook.sections import Playbook

NOW = datetime(2026, 6, 9, 12, tzinfo=UTC)
LEAD = UUID(int=1)
HOUR, WEEK = timedelta(hours=1), timedelta(days=7)


@dataclass
class Opened:
    """A hand-off that is open since then."""

    id: UUID
    since: datetime
    owner: str

    def handoff(self, kind: Kind = "raised_hand", **more: Any) -> Handoff:
        status: Status = "open"
        given: dict[str, Any] = {
            "status": status, "opened_at": self.since, "routed_at": self.since,
            "told_at": self.since, "respond_by": self.since + 2 * HOUR, "owner": self.owner,
            "expires_at": self.since + WEEK, "next_at": self.since + 2 * HOUR,
        }  # fmt: skip
        return Handoff(
            id=self.id, lead_id=LEAD, product="default", kind=kind, opener=self.id,
            opener_at=self.since, detected_at=self.since, **given | more,
        )  # fmt: skip


@pytest.fixture
def rules(default_playbook: Playbook) -> Rules:
    return Rules.of(default_playbook)


def facts_of_requests(*hours_ago: int) -> Facts:
    moments = [to_us(NOW - hours * HOUR) for hours in hours_ago]
    acts = [Act(at, UUID(int=100 + n).hex, at) for n, at in enumerate(moments)]
    return Facts(first=acts[0], raises=acts, acts=acts)


def test_the_first_request_goes_on_with_the_clock_that_began_first(rules: Rules) -> None:
    """The first request was examined after the second one."""
    facts = facts_of_requests(5, 3)
    view = rules.outlook(facts, [], NOW)
    assert view.wanted
    kept = Opened(view.wanted.id, NOW - HOUR, "ben@x.example").handoff(note="on holiday")
    other = Opened(UUID(int=9), NOW - 3 * HOUR, "ana@x.example").handoff()
    noted = examine(rules, LEAD, facts, [kept, other], NOW).noted
    assert [(each.handoff.id, each.what) for each in noted] == [(other.id, "superseded")]
    assert (kept.opened_at, kept.expires_at) == (other.opened_at, other.expires_at)
    assert (kept.respond_by, kept.owner) == (other.respond_by, "ana@x.example")
    assert (kept.note, other.superseded_by) == ("on holiday", kept.id)


def test_what_waits_for_room_does_not_take_the_place_of_what_is_open(rules: Rules) -> None:
    facts = Facts(first=facts_of_requests(9).first)
    unopened = dict.fromkeys(("opened_at", "routed_at", "told_at", "respond_by", "expires_at"))
    waits = Opened(UUID(int=8), NOW - 5 * HOUR, "").handoff("ready", status="next", **unopened)
    is_open = Opened(UUID(int=9), NOW - 3 * HOUR, "ana@x.example").handoff("ready")
    before = (is_open.opened_at, is_open.expires_at)
    noted = examine(rules, LEAD, facts, [waits, is_open], NOW).noted
    assert [(each.handoff.id, each.what) for each in noted] == [(waits.id, "superseded")]
    assert (is_open.status, is_open.opened_at, is_open.expires_at) == ("open", *before)
