"""Caps, gaps, and the pauses and paces that leads ask for (N5, N9)."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from services.nurture.rules.cadence import LOOK_BACK, most_careful
from services.nurture.rules.decision import Send
from services.shared.contracts.preferences import GAPS
from tests.support.nurture import NOW, against, asking, decided, goes_out, item, lead, trigger, utc


def test_caps_hold_over_all_programs(make: Any) -> None:
    """N5: three in seven days, and twenty hours between two."""
    rules = make(item("a"))
    days = [NOW - timedelta(days=n) for n in (2, 4, 6, 8)]
    assert goes_out(decided(rules, lead(recent_sends=(days[0], days[1], days[3])), trigger()))
    week = decided(rules, lead(recent_sends=tuple(days[:3])), trigger())
    assert isinstance(week, Send)
    assert (week.reason, week.due_at) == ("capped", days[2] + timedelta(days=7))
    near, far = NOW - timedelta(hours=19, minutes=59), NOW - timedelta(hours=20)
    gap = decided(rules, lead(recent_sends=(near,)), trigger())
    assert isinstance(gap, Send)
    assert (gap.reason, gap.due_at) == ("capped", near + timedelta(hours=20))
    assert goes_out(decided(rules, lead(recent_sends=(far,)), trigger()))


@pytest.mark.parametrize(
    ("until", "now", "sent"),
    [
        ("2026-05-14", NOW, False),
        ("2026-05-13", NOW, True),
        ("2026-05-14", utc("2026-05-13T23:59+00:00"), False),
        ("2026-05-14", utc("2026-05-14T00:00+00:00"), True),
        ("2026-05-14T18:00:00Z", NOW, False),
        (None, NOW, True),
        ("soon", NOW, False),
        (["2030-01-01"], NOW, False),
        ("13 May 2026", NOW, True),
        (1778803200000, NOW, False),
        (20300101, NOW, False),
    ],
)
def test_a_pause_holds_until_its_day_begins(
    make: Any, until: object, now: datetime, sent: bool
) -> None:
    """N9: in the lead's own time zone; what is no day has no end."""
    rules = make(item("a"))
    decision = against(rules, asking(mail_paused_until=until), now)
    assert (decision is None) is sent
    assert decision is None or (
        decision.reason == "preference" and ("no mail before" in decision.why or until == "soon")
    )
    late = lead(traits={"timezone": "America/Los_Angeles", "mail_paused_until": "2026-05-13"})
    assert against(rules, late, utc("2026-05-13T06:59+00:00")).reason == "preference"
    assert against(rules, late, utc("2026-05-13T07:00+00:00")) is None


@pytest.mark.parametrize(
    ("pace", "days_ago", "sent"),
    [
        ("weekly", 6.9, False), ("weekly", 7, True), ("monthly", 29.9, False), ("monthly", 30,
        True), (None, 1, True),
        ("usual", 1, True), (" Weekly ", 6, False), (["weekly"], 6, False),
        ("hourly", 29, False), ("hourly", 30, True),
    ],
)  # fmt: skip
def test_a_slower_pace_is_a_longer_gap(
    make: Any, pace: object, days_ago: float, sent: bool
) -> None:
    """N9, N5."""
    decision = against(make(item("a")), asking(days_ago, mail_pace=pace), NOW)
    assert (decision is None) is sent
    assert decision is None or decision.reason == "preference"


@pytest.mark.parametrize(
    ("own", "others", "counts"),
    [
        ({}, [], {}),
        ({"topic": "a"}, [{"topic": "b"}, {}], {"topic": "a"}),
        (
            {"mail_paused_until": "2026-07-01", "mail_pace": "weekly"},
            [{"mail_paused_until": "2026-06-01", "mail_pace": "usual"}],
            {"mail_paused_until": "2026-07-01", "mail_pace": "weekly"},
        ),
        (
            {"mail_pace": "usual"},
            [{"mail_pace": "monthly"}, {"mail_paused_until": "1 August 2026"}, {"mail_pace": "?"}],
            {"mail_pace": "monthly", "mail_paused_until": "1 August 2026"},
        ),
        (
            {"mail_paused_until": "2026-07-01"},
            [{"mail_paused_until": "soon"}, {"mail_paused_until": "2027-01-01"}],
            {"mail_paused_until": "soon"},
        ),
    ],
)
def test_of_what_is_asked_for_the_most_careful_counts(
    own: dict[str, str], others: list[dict[str, str]], counts: dict[str, str]
) -> None:
    """N9."""
    assert most_careful(own, others) == counts


def test_the_past_that_is_looked_at_covers_the_slowest_pace() -> None:
    assert max(GAPS.values()) < LOOK_BACK
