"""When a touch may go out: quiet hours, working days, visits and ramps (N5, N12)."""

from datetime import date, timedelta
from typing import Any

import pytest

from services.nurture.rules.decision import Send
from services.nurture.rules.grounds import Rules, Withhold
from services.nurture.rules.time_zones import is_unreadable
from services.nurture.rules.timing import send_time
from services.shared.contracts.events import Snapshot
from tests.support.nurture import NOW, decided, due, imported, item, lead, trigger, utc, with_parts


@pytest.mark.parametrize(
    ("now", "zone", "expected"),
    [
        ("2026-05-13T12:00+00:00", "UTC", "2026-05-13T12:00+00:00"),
        ("2026-05-13T21:59:59+00:00", "UTC", "2026-05-13T21:59:59+00:00"),
        ("2026-05-13T22:00+00:00", "UTC", "2026-05-14T06:00+00:00"),
        ("2026-05-13T05:59+00:00", "UTC", "2026-05-13T06:00+00:00"),
        ("2026-05-13T06:00+00:00", "UTC", "2026-05-13T06:00+00:00"),
        ("2026-05-13T12:00+00:00", "Asia/Tokyo", "2026-05-13T12:00+00:00"),  # 21 o'clock
        ("2026-05-13T13:30+00:00", "Asia/Tokyo", "2026-05-14T06:00+09:00"),  # 22:30 there
        # 5 in the morning
        ("2026-05-13T12:00+00:00", "America/Los_Angeles", "2026-05-13T06:00-07:00"),
        ("2026-05-13T18:40+00:00", "Asia/Kathmandu", "2026-05-14T06:00+05:45"),  # 00:25 there
        # already tomorrow, 2 o'clock
        ("2026-05-13T12:00+00:00", "Pacific/Kiritimati", "2026-05-14T06:00+14:00"),
        ("2026-12-31T23:30+00:00", "UTC", "2027-01-01T06:00+00:00"),
        # Europe/Berlin leaves standard time in the night to 2026-03-29, and returns to it in that
        # to 2026-10-25
        ("2026-03-28T22:30+01:00", "Europe/Berlin", "2026-03-29T06:00+02:00"),
        ("2026-10-24T22:30+02:00", "Europe/Berlin", "2026-10-25T06:00+01:00"),
        ("2026-10-25T02:30+02:00", "Europe/Berlin", "2026-10-25T06:00+01:00"),
    ],
)
def test_nothing_goes_out_in_the_leads_own_night(
    make: Any, now: str, zone: str, expected: str
) -> None:
    """N5."""
    at, reason = due(make(item("a")), utc(now), zone)
    assert at == utc(expected)
    assert reason == ("quiet_hours" if utc(now) != utc(expected) else "")


def test_a_zone_that_nobody_knows_is_the_companys(make: Any) -> None:
    plain = make(item("a")).playbook
    company = plain.company.model_copy(update={"timezone": "Asia/Tokyo"})
    rules = Rules.of(with_parts(plain, company=company), sink=True)
    night_there = utc("2026-05-13T14:00+00:00")
    for zone in ("", "Mars/Olympus", "../etc/passwd", "\0"):
        assert due(rules, night_there, zone) == (utc("2026-05-14T06:00+09:00"), "quiet_hours")
    assert due(rules, night_there, "UTC") == (night_there, "")


@pytest.mark.parametrize(
    "zone",
    [" asia/TOKYO ", "Tokyo Standard Time", "tokyo standard time", "UTC+9", "GMT+09:00", "+0900",
     "UTC\u00a0+ 9", "(UTC+09:00) Osaka, Sapporo, Tokyo", "Japan", "Asia / Tokyo"],
)  # fmt: skip
def test_a_zone_is_read_as_people_and_tools_write_it(make: Any, zone: str) -> None:
    """N5."""
    night_there = utc("2026-05-13T14:00+00:00")
    assert due(make(item("a")), night_there, zone) == (
        utc("2026-05-14T06:00+09:00"), "quiet_hours",
    )  # fmt: skip
    assert not is_unreadable({"timezone": zone})


@pytest.mark.parametrize("zone", ["Mars/Olympus", "UTC+15", "UTC+2:75", "5", 7, ["UTC"], "x" * 900])
def test_where_the_zone_is_not_understood_it_is_day_in_all_of_the_country(
    make: Any, zone: object
) -> None:
    """N5: in New York it is night from 2:00 UTC on, in Honolulu until 16:00 UTC."""
    rules = make(item("a"))
    assert is_unreadable({"timezone": zone})
    for country in ("US", " us", "United States"):
        reader = Snapshot(stage="awareness", traits={"timezone": zone, "country": country})
        for now, opens in (
            ("2026-05-13T16:00+00:00", "2026-05-13T16:00+00:00"),
            ("2026-05-13T15:59+00:00", "2026-05-13T16:00+00:00"),
            ("2026-05-14T02:00+00:00", "2026-05-14T16:00+00:00"),
        ):
            assert send_time(rules.playbook, reader, utc(now)).due_at == utc(opens)
    elsewhere = Snapshot(stage="awareness", traits={"timezone": zone, "country": "Atlantis"})
    assert send_time(rules.playbook, elsewhere, NOW).due_at == NOW


def test_where_it_is_never_day_in_all_of_the_country_its_first_zone_counts(make: Any) -> None:
    """Working hours of three do not meet between Honolulu and New York."""
    rules = make(item("a"), cadence={"quiet_from": 15, "quiet_until": 12})
    reader = Snapshot(stage="awareness", traits={"country": "US"})
    opens = send_time(rules.playbook, reader, NOW).due_at
    assert opens == utc("2026-05-13T12:00-04:00")


def test_content_is_valid_until_the_leads_day_ends(make: Any) -> None:
    """N13: in the night to the 14th the day is over in Auckland first."""
    rules = make(item("a", valid_until=date(2026, 5, 13)))
    for zone, last in (
        ("Pacific/Auckland", "2026-05-13T23:59+12:00"),
        ("UTC", "2026-05-13T23:59+00:00"),
        ("Pacific/Honolulu", "2026-05-13T23:59-10:00"),
    ):
        reader = lead(traits={"timezone": zone})
        assert isinstance(decided(rules, reader, trigger(), utc(last)), Send)
        over = utc(last) + timedelta(minutes=1)
        assert isinstance(decided(rules, reader, trigger(), over), Withhold)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-05-15T21:00+00:00", "2026-05-15T21:00+00:00"),  # Friday evening
        ("2026-05-15T22:00+00:00", "2026-05-18T06:00+00:00"),  # Friday night waits for Monday
        ("2026-05-16T12:00+00:00", "2026-05-18T06:00+00:00"),
        ("2026-05-17T03:00+00:00", "2026-05-18T06:00+00:00"),
        ("2026-05-17T23:00+00:00", "2026-05-18T06:00+00:00"),
        ("2026-05-18T05:00+00:00", "2026-05-18T06:00+00:00"),
    ],
)
def test_only_working_days_count(make: Any, now: str, expected: str) -> None:
    """N5."""
    at, _ = due(make(item("a"), cadence={"working_days": [0, 1, 2, 3, 4]}), utc(now))
    assert at == utc(expected)


def test_quiet_hours_may_lie_within_one_day_or_be_none(make: Any) -> None:
    siesta = make(item("a"), cadence={"quiet_from": 12, "quiet_until": 15})
    assert due(siesta, utc("2026-05-13T12:30+00:00")) == (
        utc("2026-05-13T15:00+00:00"),
        "quiet_hours",
    )
    assert due(siesta, utc("2026-05-13T23:30+00:00")) == (utc("2026-05-13T23:30+00:00"), "")
    never = make(item("a"), cadence={"quiet_from": 0, "quiet_until": 0})
    assert due(never, utc("2026-05-13T00:00+00:00")) == (utc("2026-05-13T00:00+00:00"), "")


def test_nobody_is_written_to_while_still_on_the_site(make: Any) -> None:
    """N12: half an hour after the last act, or later where that is night."""
    rules = make(item("a"))
    assert due(rules, NOW, "UTC", NOW - timedelta(minutes=10)) == (
        NOW + timedelta(minutes=20),
        "on_site",
    )
    assert due(rules, NOW, "UTC", NOW - timedelta(minutes=30)) == (NOW, "")
    evening = utc("2026-05-13T21:50+00:00")
    assert due(rules, evening, "UTC", evening) == (utc("2026-05-14T06:00+00:00"), "quiet_hours")
    decision = decided(rules, lead(last_act_at=NOW), trigger())
    assert isinstance(decision, Send)
    assert (decision.due_at, decision.reason) == (NOW + timedelta(minutes=30), "on_site")


def test_an_imported_new_lead_is_new_whenever_it_happened(make: Any) -> None:
    decision = decided(make(item("a")), lead(), imported("new_leads:0", NOW - timedelta(days=300)))
    assert isinstance(decision, Send)
    assert (decision.due_at, decision.reason) == (NOW, "")


def test_imported_new_leads_are_spread_evenly_over_their_days_and_always_alike(make: Any) -> None:
    rules = make(item("a"), cadence={"quiet_from": 0, "quiet_until": 0})
    due = []
    for n in range(400):
        first, again = (decided(rules, lead(id=str(n)), imported("new_leads:10")) for _ in range(2))
        assert first == again
        assert isinstance(first, Send)
        assert first.reason == "ramp"
        due.append((first.due_at - NOW) / timedelta(days=1))
    assert 0 <= min(due) < 1 < 9 < max(due) <= 10
    assert sum(day < 5 for day in due) in range(150, 250)


def test_the_turn_of_a_new_lead_waits_for_the_morning_too(make: Any) -> None:
    rules = make(item("a"), cadence={"quiet_from": 1, "quiet_until": 0})
    decision = decided(rules, lead(), imported("new_leads:3"))
    assert isinstance(decision, Send)
    assert (decision.due_at.hour, decision.reason) == (0, "quiet_hours")
