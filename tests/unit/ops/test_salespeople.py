"""Simulated salespeople answer soon, late, or not at all, the same way for the same seed (U1)."""

from collections import Counter
from datetime import UTC, datetime

from services.ops.simulation.evaluation import handoffs
from services.ops.simulation.salespeople import LATE, SOON, TRUSTED, reaction

OPENED = datetime(2026, 6, 9, 9, tzinfo=UTC)


def test_some_answer_some_are_late_and_some_never_do() -> None:
    drawn = [reaction(7, str(n), OPENED) for n in range(2000)]
    assert drawn == [reaction(7, str(n), OPENED) for n in range(2000)]
    silent = sum(each.at is None for each in drawn) / 2000
    assert abs(silent - (1 - SOON - LATE)) < 0.03
    assert {each.answer for each in drawn} == set(TRUSTED)
    late = sum(each.at is not None and (each.at - OPENED).days >= 2 for each in drawn) / 2000
    assert abs(late - LATE) < 0.03


def test_the_report_counts_what_came_of_them() -> None:
    statuses = Counter(open=1, accepted=3, expired=2, returned=1, superseded=2, next=4)
    found = [
        {"status": status, "opened_at": None if status == "next" else "2026-06-09T09:00:00Z"}
        for status, many in statuses.items()
        for _ in range(many)
    ]
    assert handoffs(found) == {"opened": 7, "accepted": 3, "expired": 2, "returned": 1}
