"""Working time across weekends, public holidays and changes of clocks (H2)."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scorer.handoffs.working_time import WorkingTime
from services.shared.playbook.handoff import Handoff, Owner

BERLIN = WorkingTime(ZoneInfo("Europe/Berlin"), frozenset(range(5)), 9, 17, "DE")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 700 * 86_400).map(lambda seconds: BEGIN + timedelta(seconds=seconds))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "hours", "until"),
    [
        ("2026-06-09T08:00", 2, "2026-06-09T10:00"),  # a Tuesday in summer
        ("2026-06-09T14:00", 2, "2026-06-10T08:00"),  # one hour on, then the night
        ("2026-06-12T14:30", 1, "2026-06-15T07:30"),  # a Friday: the weekend between
        ("2026-06-13T10:00", 2, "2026-06-15T09:00"),  # from a Saturday
        ("2026-12-24T15:00", 2, "2026-12-28T09:00"),  # Christmas and a weekend
        ("2026-03-27T15:30", 1, "2026-03-30T07:30"),  # summer time begins on that Sunday
        ("2026-10-23T14:30", 1, "2026-10-26T08:30"),  # and ends on that one
    ],
)
def test_hours_pass_in_working_time_alone(since: str, hours: float, until: str) -> None:
    assert BERLIN.after_hours(utc(since), hours) == utc(until)


@pytest.mark.parametrize(
    ("since", "days", "until"),
    [
        ("2026-06-09T08:00", 7, "2026-06-18T08:00"),
        ("2026-06-13T10:00", 7, "2026-06-24T07:00"),  # from a Saturday: counted from Monday at nine
        ("2026-03-24T10:00", 7, "2026-04-02T09:00"),  # the same hour by the clock, in summer time
        ("2026-10-20T10:00", 7, "2026-10-29T11:00"),
        ("2026-12-18T10:00", 7, "2026-12-30T10:00"),  # over Christmas
    ],
)
def test_days_are_working_days_at_the_same_hour(since: str, days: int, until: str) -> None:
    assert BERLIN.after_days(utc(since), days) == utc(until)


@pytest.mark.parametrize("year", [2026, 2027])
def test_a_whole_day_of_hours_is_twenty_four_where_the_clock_changes(year: int) -> None:
    """Who works around the clock loses an hour in spring and gains one in autumn."""
    always = WorkingTime(ZoneInfo("Europe/Berlin"), frozenset(range(7)), 0, 24)
    local = ZoneInfo("Europe/Berlin")
    hours = {
        always.hours_between(begin, begin.astimezone(local) + timedelta(days=1))
        for begin in (datetime(year, 1, 1, tzinfo=local) + timedelta(days=n) for n in range(365))
    }
    assert hours == {23, 24, 25}


@given(since=MOMENTS, hours=st.floats(0.25, 200))
@settings(max_examples=150, deadline=None)
def test_the_clock_neither_stops_nor_runs_twice(since: datetime, hours: float) -> None:
    end = BERLIN.after_hours(since, hours)
    assert end > since
    assert BERLIN.hours_between(since, end) == pytest.approx(hours, abs=1e-6)
    half = BERLIN.after_hours(since, hours / 2)
    assert BERLIN.after_hours(half, hours / 2) - end <= timedelta(microseconds=10)


@given(since=MOMENTS, days=st.integers(1, 30))
@settings(max_examples=150, deadline=None)
def test_a_day_ends_on_a_working_day_in_working_time(since: datetime, days: int) -> None:
    end = BERLIN.after_days(since, days)
    assert BERLIN.is_open(end) or end.astimezone(BERLIN.zone).hour == 17
    assert end >= BERLIN.opens(since) + timedelta(hours=23) + timedelta(days=days - 1)


def test_an_owner_has_hours_and_a_zone_of_its_own() -> None:
    owner = Owner(email="a@b.example", timezone="America/New_York", day_from=8, day_until=12)
    working = WorkingTime.of(Handoff(holidays=True), "Europe/Berlin", owner)
    assert (working.day_from, working.day_until, working.country) == (8, 12, "US")
    assert working.opens(utc("2026-07-03T10:00")) == utc("2026-07-06T12:00")  # Independence Day
    assert WorkingTime.of(Handoff(holidays=False), "Europe/Berlin").country == ""
