"""The send window over random moments, zones, countries and playbooks: nothing falls into quiet
hours, a day off or a holiday, and nothing waits for longer than it must (N5).
"""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import holidays
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.nurture.rules.cadence import cap_reached, slower_pace
from services.nurture.rules.grounds import Case
from services.nurture.rules.time_zones import country_of, zones_of
from services.nurture.rules.timing import window_opens
from services.nurture.rules.waits import earliest
from services.shared.playbook.sections import Cadence, Cap, Playbook
from services.shared.public_holidays import is_holiday
from tests.support.nurture import due, item, lead, make_rules, trigger, utc, with_parts

ZONES = ["Europe/Berlin", "America/New_York", "America/Santiago", "Asia/Tokyo", "Asia/Kathmandu",
         "Australia/Lord_Howe", "Pacific/Kiritimati", "Africa/Casablanca", "UTC"]  # fmt: skip
COUNTRIES = ["DE", "US", "CL", "JP", "NP", "AU", "KI", "MA", "CN", "GB", ""]
# around the changes of clocks too: those of Berlin in 2026, of New York, of Santiago
HALF_AN_HOUR = timedelta(minutes=30)
CHANGES = [utc(f"2026-{day}T00:00+00:00") for day in ("03-29", "10-25", "03-08", "04-05")]
MOMENTS = st.integers(0, 4 * 365 * 24 * 60).map(
    lambda minutes: utc("2025-01-01T00:00+00:00") + timedelta(minutes=minutes)
) | st.sampled_from(CHANGES).flatmap(
    lambda day: st.integers(-30 * 60, 30 * 60).map(lambda away: day + timedelta(minutes=away))
)
CADENCES = st.builds(
    Cadence,
    quiet_from=st.integers(0, 23),
    quiet_until=st.integers(0, 23),
    working_days=st.lists(st.integers(0, 6), min_size=1, unique=True),
    holidays=st.booleans(),
)


@lru_cache
def _listed(country: str, year: int) -> holidays.HolidayBase:
    return holidays.country_holidays(country, years=year)


def is_open(cadence: Cadence, moment: datetime, zone: ZoneInfo, country: str) -> bool:
    """Whether mail may go out, in so many words."""
    local = moment.astimezone(zone)
    start, end = cadence.quiet_from, cadence.quiet_until
    quiet = start <= local.hour < end if start <= end else not end <= local.hour < start
    is_off = country and local.date() in _listed(country, local.year)
    return not quiet and local.weekday() in cadence.working_days and not (
        cadence.holidays and is_off
    )  # fmt: skip


@settings(deadline=None)
@given(CADENCES, MOMENTS, st.sampled_from(ZONES), st.sampled_from(COUNTRIES))
def test_a_window_is_open_and_the_first_one(
    cadence: Cadence, moment: datetime, name: str, country: str
) -> None:
    """N5: half an hour earlier, and so on back to the moment itself, would not have done."""
    zone = ZoneInfo(name)
    opens = window_opens(cadence, moment, [zone], country)
    assert opens >= moment
    assert is_open(cadence, opens, zone, country)
    waits = range(int((opens - moment) / HALF_AN_HOUR))
    for step in (opens - HALF_AN_HOUR * (n + 1) for n in waits):
        assert not is_open(cadence, step, zone, country), step
    assert window_opens(cadence, opens, [zone], country) == opens


@settings(deadline=None)
@given(MOMENTS, st.sampled_from(["US", "BR", "AU", "MX", "CA"]))
def test_where_the_zone_is_unknown_the_window_is_open_in_all_of_the_country(
    moment: datetime, country: str
) -> None:
    """N5."""
    cadence = Cadence(quiet_from=21, quiet_until=8, working_days=[0, 1, 2, 3, 4])
    zones = zones_of({"country": country, "timezone": "Nowhere/Land"}, "Europe/Berlin")
    opens = window_opens(cadence, moment, zones, country)
    assert len(zones) > 1
    assert all(is_open(cadence, opens, zone, country) for zone in zones)


@given(
    st.lists(st.integers(0, 40 * 24), max_size=30),
    st.lists(st.builds(Cap, days=st.integers(1, 31), max=st.integers(1, 6)), max_size=3),
    st.integers(1, 5),
    st.floats(0, 100),
)
def test_a_cap_holds_until_the_moment_that_it_names_and_no_longer(
    hours_ago: list[int], caps: list[Cap], per_week: int, gap: float
) -> None:
    """N5: over all programs; after that moment a touch more breaks none."""
    cadence = Cadence(per_week=per_week, caps=caps, min_hours_between=gap)
    now = datetime(2026, 5, 13, 12, tzinfo=UTC)
    sends = [now - timedelta(hours=hours) for hours in hours_ago]
    at = now
    while over := cap_reached(cadence, sends, at):
        assert over.at > at
        just_before = over.at - timedelta(microseconds=1)
        assert cap_reached(cadence, sends, just_before)
        at = over.at
    for cap in cadence.all_caps:
        within = [sent for sent in sends if at - sent < timedelta(days=cap.days)]
        assert len(within) < cap.max
    assert not sends or at - max(sends) >= timedelta(hours=gap)


@pytest.mark.parametrize(
    ("country", "day", "expected"),
    [
        ("DE", date(2026, 4, 3), True),  # Good Friday
        ("US", date(2026, 4, 3), False),
        ("US", date(2026, 7, 3), True),  # for Saturday the fourth
        ("US", date(2026, 11, 26), True),  # Thanksgiving
        ("CN", date(2026, 2, 17), True),  # New Year
        ("DE", date(2026, 11, 1), False),  # of some of its states alone
        ("XX", date(2026, 12, 25), False),
        ("", date(2026, 12, 25), False),
    ],
)
def test_holidays_are_the_countrys(country: str, day: date, expected: bool) -> None:
    """N5."""
    assert is_holiday(country, day) is expected


@pytest.mark.parametrize(
    ("traits", "company", "expected"),
    [
        ({"country": "Germany", "timezone": "America/New_York"}, "UTC", "DE"),
        ({"country": " de "}, "UTC", "DE"),
        ({"timezone": "America/New_York"}, "Europe/Berlin", "US"),
        ({"country": "Atlantis", "timezone": "Asia/Tokyo"}, "Europe/Berlin", "JP"),
        ({}, "Europe/Berlin", "DE"),
        ({"timezone": "Nowhere/Land"}, "Europe/London", "GB"),
        ({"timezone": "UTC+2"}, "Europe/Berlin", ""),  # read, and of no country
        ({"country": 7, "timezone": ["x"]}, "UTC", ""),
    ],
)
def test_the_country_is_the_leads_else_its_zones_else_the_companys(
    traits: dict[str, Any], company: str, expected: str
) -> None:
    """N5."""
    assert country_of(traits, company) == expected


def test_a_holiday_waits_for_the_next_working_day(make: Any) -> None:
    """N5: Good Friday to Easter Monday in Berlin, with Saturday and Sunday off."""
    rules = make(item("a"), cadence={"working_days": [0, 1, 2, 3, 4]})
    friday = utc("2026-04-03T10:00+02:00")
    assert due(rules, friday, "Europe/Berlin") == (utc("2026-04-07T06:00+02:00"), "quiet_hours")
    plain = make(item("a"), cadence={"working_days": [0, 1, 2, 3, 4], "holidays": False})
    assert due(plain, friday, "Europe/Berlin") == (friday, "")


@settings(deadline=None)
@given(
    MOMENTS, st.sampled_from(ZONES), st.sampled_from(COUNTRIES), CADENCES,
    st.lists(st.integers(0, 31 * 24), max_size=8), st.integers(-5, 40), st.integers(0, 90),
    st.sampled_from(["", "weekly", "monthly"]),
)  # fmt: skip
def test_what_waits_goes_out_when_no_ground_is_against_it(
    default_playbook: Playbook, now: datetime, zone: str, country: str, cadence: Cadence,
    hours_ago: list[int], paused_days: int, minutes_ago: int, pace: str,
) -> None:  # fmt: skip
    """N5, N9, N12: not capped, not paused, not on the site, in the window, all at once."""
    asked = make_rules(default_playbook, item("a"))
    rules = replace(asked, playbook=with_parts(asked.playbook, cadence=cadence))
    traits = {"timezone": zone, "country": country} | ({"mail_pace": pace} if pace else {})
    reader = lead(
        traits=traits,
        recent_sends=tuple(now - timedelta(hours=hours) for hours in hours_ago),
        paused_until=now + timedelta(days=paused_days),
        last_act_at=now - timedelta(minutes=minutes_ago),
    )
    of = rules.playbook.programs[0]
    waited = earliest(Case(rules, reader, trigger(cause_at=now), now, of, of.channel))
    at = waited.due_at
    assert at >= max(now, now + timedelta(days=paused_days))
    assert at >= now + timedelta(minutes=cadence.on_site_minutes - minutes_ago)
    assert cap_reached(cadence, reader.recent_sends, at) is None
    assert slower_pace(traits, reader.recent_sends, at) is None
    assert is_open(cadence, at, ZoneInfo(zone), country_of(traits, "UTC"))
