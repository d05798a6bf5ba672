"""Readers who will soon have had all that their program holds are told of 14 days ahead."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from services.nurture.rules.exhaustion import Exhaustion, Reader, Segment
from services.nurture.rules.grounds import Rules
from services.nurture.rules.lead import Had, Lead
from services.shared.playbook.sections import Playbook
from tests.support.nurture import NOW, item, lead, make_rules, program


def exhausted(rules: Rules, *readers: Reader) -> list[Segment]:
    """Of these readers, who are counted one by one."""
    found = Exhaustion(rules, NOW)
    for reader in readers:
        found.add([reader])
    return found.segments()


def had(sent: int) -> tuple[Had, ...]:
    """So many touches within 28 days, and one before."""
    ago = [NOW - timedelta(days=d) for d in (29, *range(1, sent + 1))]
    return tuple(Had(str(at), "p", "x", "email", at) for at in ago)


def segments(playbook: Playbook, *readers: tuple[set[str], int]) -> list[Segment]:
    """From (seen, sent within 28 days) of each reader, of six items that follow each other."""
    items = [item(str(n), prerequisites=[str(n - 1)] if n else []) for n in range(6)]
    rules = make_rules(playbook, *items, programs=[program(*(each.id for each in items))])
    given = [
        Reader(lead(id=str(n), seen=frozenset(seen), had=had(sent)))
        for n, (seen, sent) in enumerate(readers)
    ]
    return exhausted(rules, *given)


ALL = {*"012345"}


@pytest.mark.parametrize(
    ("seen", "sent", "soon"),
    [
        (set(), 4, 0),  # six left, one a week
        (ALL - {"5", "4"}, 4, 1),  # two left: fourteen days
        (ALL - {"5", "4", "3"}, 4, 0),  # three left
        (ALL - {"5", "4", "3"}, 8, 1),  # ... and twice the pace
        (set(), 12, 1),  # three a week: six are two weeks' worth
        (set(), 0, 0),  # nobody got any: one in seven days is the usual pace
        (ALL - {"5", "4"}, 0, 1),
    ],
)
def test_who_runs_out_within_14_days_is_counted(
    default_playbook: Playbook, seen: set[str], sent: int, soon: int
) -> None:
    found = segments(default_playbook, (seen, sent))
    assert [segment.soon for segment in found] == [soon] * bool(soon)
    if soon:
        assert found[0].first_at is not None
        assert NOW < found[0].first_at <= NOW + timedelta(days=14)


def test_a_segment_counts_its_readers_and_says_it(default_playbook: Playbook) -> None:
    (found,) = segments(default_playbook, (ALL, 0), (ALL - {"5"}, 4), (set(), 4))
    assert (found.readers, found.exhausted, found.soon, found.per_week) == (3, 1, 1, 1.0)
    assert "of 3 readers 1 have had everything, 1 more will have in 14 days" in found.sentence
    assert found.report()["days_ahead"] == 14


def test_nothing_is_told_of_a_program_that_does_not_send(default_playbook: Playbook) -> None:
    rules = make_rules(default_playbook, item("a"), programs=[program("a", state="draft")])
    readers = [Reader(lead(seen=frozenset("a")))]
    assert exhausted(rules, *readers) == []


def test_who_is_not_in_the_program_is_no_reader_of_it(default_playbook: Playbook) -> None:
    items = [item(str(n)) for n in range(6)]
    rules = make_rules(default_playbook, *items, programs=[program(*(each.id for each in items))])
    done = lead(seen=frozenset(ALL))
    for programs, count in ((frozenset({"p"}), 1), (frozenset(), 0), (None, 1)):
        found = exhausted(rules, Reader(done, programs))
        assert sum(segment.exhausted for segment in found) == count


@pytest.mark.parametrize(
    ("who", "counts"),
    [
        (lead(), 1),
        (lead(consent=None), 0),
        (lead(email=""), 0),
        (lead(excluded="competitor"), 0),
        (lead(sales_status="disqualified", sales_reason="student"), 0),
    ],
)
def test_who_may_not_be_written_to_is_no_reader(
    default_playbook: Playbook, who: Lead, counts: int
) -> None:
    """N6: silence of those who are never written to would look like a library that is used up."""
    rules = make_rules(default_playbook, item("a"), programs=[program("a")])
    found = exhausted(rules, Reader(replace(who, seen=frozenset("a"))))
    assert sum(segment.readers for segment in found) == counts


def test_who_is_held_out_is_no_reader(default_playbook: Playbook) -> None:
    """M2."""
    rules = make_rules(default_playbook, item("a"), programs=[program("a")], share=0.9)
    readers = [
        Reader(lead(id=str(n), email=f"a@firm{n}.example", seen=frozenset("a"))) for n in range(40)
    ]
    (found,) = exhausted(rules, *readers)
    assert 0 < found.readers < 20
