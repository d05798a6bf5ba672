"""Receivers of mail: who they are, a new sender's ramp, rates, complaints and answers (N15)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.nurture.rules.receivers import (
    ANSWERS,
    DAY,
    HOUR,
    Counts,
    answer_of,
    day_limit,
    ramp_hold,
    rate_hold,
    receiver_of,
    verdict,
)
from services.shared.playbook.sections import Sending

NOW = datetime(2026, 5, 13, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ann@gmail.com", "google"),
        ("ann@GoogleMail.com", "google"),
        ("ann@hotmail.co.uk", "microsoft"),
        ("ann@live.nl", "microsoft"),
        ("ann@yahoo.co.jp", "yahoo"),
        ("ann@web.de", "gmx"),
        ("ann@me.com", "apple"),
        ("ann@me.company.example", "me.company.example"),
        ("ann@Firm.example.", "firm.example"),
        ("", ""),
    ],
)
def test_an_address_belongs_to_its_provider_else_to_its_domain(address: str, expected: str) -> None:
    assert receiver_of(address) == expected


@pytest.mark.parametrize(
    ("sent", "complained", "expected"),
    [
        (0, 0, "ok"),
        (0, 3, "ok"),
        (1001, 1, "ok"),
        (1000, 1, "warning"),
        (10, 1, "warning"),  # of a single person
        (1000, 2, "warning"),
        (1001, 3, "warning"),
        (1000, 3, "stopped"),
        (100, 2, "stopped"),
    ],
)
def test_complaints_warn_at_one_and_stop_at_three_in_a_thousand(
    sent: int, complained: int, expected: str
) -> None:
    """N15."""
    assert verdict(Counts(sent, complained)).state == expected


@given(
    st.integers(1, 300), st.floats(1, 10), st.integers(0, 90), st.integers(0, 120),
    st.integers(0, 100_000),
)  # fmt: skip
def test_a_new_sender_sends_no_more_than_its_day_allows_and_more_each_day(
    first: int, growth: float, days: int, age: int, sent: int
) -> None:
    """N15: what is held goes on with the next day."""
    sending = Sending(first_day=first, daily_growth=growth, ramp_days=days)
    since = NOW - timedelta(days=age)
    limit, before = day_limit(sending, since, NOW), day_limit(sending, since, NOW - DAY)
    over = ramp_hold(sending, since, sent, NOW)
    if limit is None:
        assert age >= days
        assert over is None
        return
    assert limit >= first
    assert age == 0 or before is None or limit >= before
    assert (over is not None) == (sent >= limit)
    assert over is None or over.at == datetime(2026, 5, 14, tzinfo=UTC)


@given(st.lists(st.integers(0, 3599), max_size=60), st.integers(1, 20))
def test_a_receiver_gets_no_more_in_any_hour_and_the_next_one_as_soon_as_may_be(
    seconds_ago: list[int], per_hour: int
) -> None:
    """N15."""
    times = [NOW - timedelta(seconds=seconds) for seconds in seconds_ago]
    over = rate_hold(Sending(per_hour=per_hour), "google", times, NOW)
    if over is None:
        assert len(times) < per_hour
        return
    assert over.at > NOW
    later = over.at
    assert sum(at > later - HOUR for at in times) < per_hour
    if later > NOW + timedelta(seconds=1):
        sooner = later - timedelta(microseconds=1)
        assert sum(at > sooner - HOUR for at in times) >= per_hour


@pytest.mark.parametrize(
    ("words", "status", "about"),
    [
        ("5.7.26 This mail has been blocked because the sender is unauthenticated", "5.7.26",
         "SPF and DKIM"),
        ("5.7.515 Access denied, sending domain x.example does not meet the required level",
         "5.7.515", "high-volume"),
        ("4.7.28 Gmail has detected an unusual rate of unsolicited mail", "4.7.28", "too much"),
        ("#5.7.25# PTR", "5.7.25", "PTR record"),
        ("5.1.1 The email account does not exist", "5.1.1", ""),
        ("no such user", "", ""),
        ("relay 195.7.26.1 says no", "", ""),
    ],
)  # fmt: skip
def test_answers_about_the_sender_come_with_their_remedy(
    words: str, status: str, about: str
) -> None:
    """N15."""
    answer = answer_of(words)
    assert answer.status == status
    assert about in answer.remedy
    assert bool(about) == bool(answer.remedy)


def test_every_remedy_says_what_is_wrong_and_what_to_do() -> None:
    for remedy in ANSWERS.values():
        assert ": " in remedy
