"""Where a likelihood is going, and in which group of the day a hand-off stands."""

import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from services.scorer.handoffs.daily import group_of
from services.scorer.handoffs.records import Handoff
from services.scorer.model.trend import trend
from services.scorer.ui.today import card_of, grouped, why_now

NOW, TODAY = datetime(2026, 6, 9, 9, tzinfo=UTC), date(2026, 6, 9)


def handoff(**fields: Any) -> Handoff:
    given: dict[str, Any] = {"kind": "ready", "detected_at": NOW} | fields
    return Handoff(
        id=uuid.uuid4(), lead_id=uuid.uuid4(), product="default", status="open",
        opener=uuid.uuid4(), opener_at=NOW, **given,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [
        (0.2, 0.1, "rising"), (0.1, 0.2, "falling"), (0.21, 0.2, "steady"), (0.2, 0.2, "steady"),
        (0.0, 0.0, "steady"), (1.0, 0.5, "rising"), (0.0, 0.5, "falling"),
        (None, 0.2, "unclear"), (0.2, None, "unclear"), (None, None, "unclear"),
    ],
)  # fmt: skip
def test_a_trend_compares_the_odds(now: float | None, before: float | None, expected: str) -> None:
    assert trend(now, before) == expected


@pytest.mark.parametrize(
    ("kind", "again_on", "group"),
    [
        ("raised_hand", None, "raised_hand"),
        ("ready", None, "ready"),
        ("reawakened", None, "reawakened"),
        ("raised_hand", TODAY, "follow_up"),
        ("ready", TODAY - timedelta(days=1), "not_reached"),
    ],
)
def test_a_hand_off_stands_in_one_group_and_says_why(
    kind: str, again_on: date | None, group: str
) -> None:
    given = handoff(kind=kind, again_on=again_on)
    assert group_of(given, TODAY) == group
    assert why_now(given, TODAY).endswith(".")


def test_groups_have_their_order_and_the_likeliest_first() -> None:
    earlier = NOW - timedelta(hours=1)
    given = [
        handoff(likelihood=0.1),
        handoff(likelihood=None),
        handoff(likelihood=0.3),
        handoff(likelihood=0.1, detected_at=earlier),
        handoff(kind="raised_hand", likelihood=0.05),
    ]
    found = grouped([card_of(each, None, None, "unclear", TODAY) for each in given])
    assert list(found) == ["raised_hand", "ready"]
    ready = [card.handoff for card in found["ready"]]
    assert ready == [given[2], given[3], given[0], given[1]]


def test_texts_of_a_lead_are_bounded() -> None:
    card = card_of(handoff(said="x" * 9_000, reasons=["y" * 900] * 9), None, None, "unclear", TODAY)
    assert len(card.said) <= 2_000
    assert [len(reason) for reason in card.reasons] == [120] * 3
