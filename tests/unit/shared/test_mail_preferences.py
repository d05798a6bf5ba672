"""Preferences of mails as people and tools write them (N9)."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.contracts.preferences import (
    is_among,
    normal_traits,
    read_day,
    read_language,
    read_pace,
    read_topics,
)
from services.shared.errors import Reject

LAST = date(2026, 12, 31)
NEXT = date(2027, 1, 1)


@pytest.mark.parametrize(
    "written",
    [
        "2026-12-31", " 2026-12-31 ", "20261231", 20261231, "2026-W53-4", "2026-12-31T00:00:00Z",
        1798675200, 1798675200.0, "1798675200", 1798675200000, "1798675200000", "31/12/2026",
        "12/31/2026", "31-12-2026", "2026/12/31", "2026.12.31", "31.12.2026", "31. 12. 2026",
        "31 Dec 2026", "31-DEC-2026", "31st december 2026", "31. Dezember 2026",
        "December 31, 2026", "Dec. 31 2026", "Thu, 31 Dec 2026 00:00:00 GMT",
        "12/31/2026, 12:00:00 AM", ["2026-12-31"], ["", "2026-12-31"],
    ],
)  # fmt: skip
def test_a_day_is_read_in_every_common_form(written: object) -> None:
    assert read_day(written) == LAST


@pytest.mark.parametrize(
    "written",
    [
        "2026-12-31T23:59:59Z", "2026-12-31T09:00+01:00", "2026-12-31 09:00", 1798711200,
        "Thu Dec 31 2026 10:00:00 GMT+0100 (Central European Standard Time)",
        "12/31/2026 3:00 PM", "31.12.2026, 15:00",
    ],
)  # fmt: skip
def test_a_moment_within_a_day_pauses_until_the_next(written: object) -> None:
    assert read_day(written) == NEXT


@pytest.mark.parametrize(
    "written",
    [
        "soon", "03/04/2026", "3-4-2026", "31.02.2026", "12.31.2026", "31.12.26", "2026-12", True,
        {"until": 1}, 7, -1, 1e300, float("nan"), ["2026-12-31", "2027-01-31"], "202612311000",
        "32 Dec 2026", "31 Foo 2026", "31.12.20261", "2026-12-31 soon", "9" * 5000,
    ],
)  # fmt: skip
def test_a_day_that_cannot_be_read_is_refused_with_its_remedy(written: object) -> None:
    with pytest.raises(Reject) as refused:
        read_day(written)
    assert refused.value.where == "/traits/mail_paused_until"
    assert "2030-01-31" in refused.value.remedy


def test_equal_numbers_are_one_day_and_the_last_day_has_no_next() -> None:
    assert read_day("12/12/2026") == date(2026, 12, 12)
    assert read_day("9999-12-31T23:59") == date.max


@pytest.mark.parametrize("written", [None, "", "  ", [], ["", ""]])
def test_null_and_blank_lift_a_pause_a_pace_and_a_language(written: object) -> None:
    assert read_day(written) is read_pace(written) is read_language(written) is None


def test_a_pace_is_read_in_any_case() -> None:
    assert [read_pace(each) for each in ("Weekly", " MONTHLY ", "usual")] == [
        "weekly", "monthly", None,
    ]  # fmt: skip
    for wrong in ("hourly", 7, {"a": 1}, ["weekly", "monthly"]):
        with pytest.raises(Reject, match="pace"):
            read_pace(wrong)


@pytest.mark.parametrize(
    ("written", "topics"),
    [
        (["Cost", "tools"], ("Cost", "tools")), ("cost;tools", ("cost", "tools")),
        ("cost, tools", ("cost", "tools")), ("a, b; c", ("a, b", "c")), ("cost", ("cost",)),
        ('["cost", "tools"]', ("cost", "tools")), (["", "cost", "cost "], ("cost",)),
        ([], ()), ("", ()), ("none", ()), ([""], ()), (None, None), ("All", None),
    ],
)  # fmt: skip
def test_topics_are_a_list_or_a_text_and_none_at_all_is_a_choice(
    written: object, topics: Any
) -> None:
    assert read_topics(written) == topics


@pytest.mark.parametrize("written", [7, True, {"a": 1}, [1], [["a"]], "[a", "[" * 10_000])
def test_topics_that_cannot_be_read_are_refused(written: object) -> None:
    with pytest.raises(Reject, match="topics"):
        read_topics(written)


def test_topics_are_compared_without_case() -> None:
    assert is_among("Cost", ("cost",))
    assert not is_among("cost", ())


def test_a_language_is_a_tag() -> None:
    written = ("DE", "de_AT.UTF-8", " zh-Hans-CN ", "fil", "German", "Deutsch (Österreich)")
    read = ["de", "de-AT", "zh-Hans-CN", "fil", "de", "de"]
    assert [read_language(each) for each in written] == read
    for wrong in ("Klingonese", "de,en;q=0.9", 7, "d", "de-", "C.UTF-8"):
        with pytest.raises(Reject, match="language"):
            read_language(wrong)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
)


@given(st.sampled_from(["mail_topics", "mail_pace", "mail_paused_until", "language"]), values)
def test_what_is_read_once_is_read_the_same_again(name: str, value: object) -> None:
    """The door stores a normal form, and whoever reads it later finds the same."""
    try:
        once = normal_traits({name: value})
    except Reject:
        return
    assert normal_traits(once) == once
