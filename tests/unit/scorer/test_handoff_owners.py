"""Whose a hand-off is, and how many a week there are (H5)."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scorer.handoffs.capacity import room, week_of
from services.scorer.handoffs.owners import Asked, Counting, Load, changed, choose
from services.scorer.handoffs.records import Handoff
from services.shared.playbook.handoff import Absence, Owner, Territory
from services.shared.playbook.handoff import Handoff as Section

NOW = datetime(2026, 6, 9, 9, tzinfo=UTC)
ANA, BEN, CY = (
    Owner(email="ana@x.example", name="Ana", weight=2, accounts=["acme.example"]),
    Owner(
        email="ben@x.example", name="Ben",
        territories=[Territory(trait="country", one_of=["Germany"])],
    ),
    Owner(email="cy@x.example", name="Cy", weight=0),
)  # fmt: skip
SECTION = Section(owners=[ANA, BEN, CY])


def chosen(section: Section = SECTION, loads: dict[str, Load] | None = None, **asked: Any) -> Any:
    return choose(section, "UTC", Asked("h", NOW, **asked), loads or {})


@pytest.mark.parametrize(
    ("asked", "owner", "why"),
    [
        ({"traits": {"owner": "cy"}}, "cy@x.example", "owner is named"),
        ({"traits": {"owner": "BEN@x.example"}}, "ben@x.example", "owner is named"),
        ({"domain": "acme.example"}, "ana@x.example", "has the account acme.example"),
        ({"last_owner": "cy@x.example"}, "cy@x.example", "had the lead before"),
        ({"account_owner": "ben@x.example"}, "ben@x.example", "same company"),
        ({"traits": {"country": "germany"}}, "ben@x.example", "has the territory"),
        ({}, "ana@x.example", "it is Ana's turn"),
    ],
)
def test_the_first_way_that_leads_to_somebody_is_taken(
    asked: dict[str, Any], owner: str, why: str
) -> None:
    choice = chosen(**asked)
    assert choice.owner == owner
    assert why in choice.why


def test_who_is_absent_is_passed_over_and_it_is_said() -> None:
    days = [Absence(first_day=date(2026, 6, 1), last_day=date(2026, 6, 9))]
    section = Section(owners=[ANA.model_copy(update={"absent": days}), BEN])
    choice = chosen(section, domain="acme.example")
    assert choice.owner == "ben@x.example"
    assert choice.why.startswith("Ana is absent; ")


def test_who_has_no_room_gets_only_what_is_urgent() -> None:
    section = Section(owners=[ANA.model_copy(update={"per_week": 3})])
    full = {"ana@x.example": Load(3, 3)}
    assert chosen(section, full).owner == ""
    assert chosen(section, full, is_urgent=True).owner == "ana@x.example"


def test_what_is_urgent_goes_to_somebody_at_work() -> None:
    asleep = Owner(email="far@x.example", timezone="Asia/Tokyo", weight=50)
    section = Section(owners=[asleep, BEN])
    assert chosen(section).owner == "far@x.example"
    assert chosen(section, is_urgent=True).owner == "ben@x.example"


def test_who_was_silent_is_not_asked_again_and_nobody_may_be_left() -> None:
    section = Section(owners=[ANA])
    assert chosen(section, tried=frozenset({"ana@x.example"})).owner == ""
    assert chosen(Section()).why == "the playbook names no owners"


@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.integers(20, 200))
@settings(max_examples=60, deadline=None)
def test_over_time_each_has_a_share_by_weight(weights: list[int], many: int) -> None:
    """H5: nobody is more than one behind or ahead of the share."""
    owners = [Owner(email=f"o{n}@x.example", weight=w) for n, w in enumerate(weights)]
    section, given_to = Section(owners=owners), Counter[str]()
    for n in range(many):
        loads = {owner: Load(count) for owner, count in given_to.items()}
        given_to[choose(section, "UTC", Asked(str(n), NOW), loads).owner] += 1
    for owner in owners:
        share = many * owner.weight / sum(weights)
        assert abs(given_to[owner.email] - share) <= len(weights)


def test_credit_for_no_shows_brings_the_next_one() -> None:
    section = Section(owners=[BEN, Owner(email="dee@x.example")])
    same = {"ben@x.example": Load(4), "dee@x.example": Load(4)}
    credited = same | {"dee@x.example": Load(3)}
    assert chosen(section, credited).owner == "dee@x.example"


def handoff_of(owner: str, n: int, **changed: Any) -> Handoff:
    return Handoff(
        id=UUID(int=n), lead_id=UUID(int=n), product="default", kind="ready", opener=UUID(int=n),
        opener_at=NOW, detected_at=NOW, owner=owner, **changed,
    )  # fmt: skip


AS_COUNTED: list[dict[str, Any]] = [
    {"owner": owner, "status": status, "reason": reason, "opened_at": opened_at}
    for owner in ("", "ana@x.example", "ben@x.example")
    for status in ("next", "open", "superseded", "rejected")
    for reason in ("", "no_show")
    for opened_at in (None, NOW, NOW - timedelta(days=10), NOW - timedelta(days=40))
]
Changes = list[tuple[dict[str, Any], dict[str, Any]]]


@given(st.lists(st.tuples(st.sampled_from(AS_COUNTED), st.sampled_from(AS_COUNTED)), max_size=12))
@settings(max_examples=60, deadline=None)
def test_loads_that_are_kept_up_to_date_are_those_that_are_counted(changes: Changes) -> None:
    counting = Counting(NOW, NOW - timedelta(days=1), ("no_show",))
    before = [handoff_of(n=n, **one) for n, (one, _) in enumerate(changes)]
    after = [handoff_of(n=n, **other) for n, (_, other) in enumerate(changes)]
    loads = counting.loads(before)
    for old, new in zip(before, after, strict=True):
        loads = changed(loads, counting.loads([old]), counting.loads([new]))
    counted = counting.loads(after)
    assert {owner: load for owner, load in loads.items() if load != Load()} == {
        owner: load for owner, load in counted.items() if load != Load()
    }


def test_the_week_begins_on_monday_in_its_zone() -> None:
    zone = ZoneInfo("America/New_York")
    assert week_of(datetime(2026, 6, 8, 3, tzinfo=UTC), zone) == datetime(2026, 6, 1, tzinfo=zone)
    assert (room(None, 50), room(5, 2), room(5, 7)) == (None, 3, 0)
