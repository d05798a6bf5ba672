"""Where a consumer goes on, from what is stored and what the broker has."""

import uuid

from services.shared.messaging.kafka import Extent, Log
from services.shared.messaging.progress import UNTOLD, Gap, Stored, placed

OLD, NEW = uuid.UUID(int=1), uuid.UUID(int=2)


def old(partition: int = 0) -> Log:
    return Log("t", OLD, partition)


def new(partition: int = 0) -> Log:
    return Log("t", NEW, partition)


def test_what_is_stored_says_where_to_go_on() -> None:
    assert placed({old(): Stored(7, 9, 1)}, {old(): Extent(0, 20)}) == ({old(): 7}, [])


def test_what_is_not_stored_begins_at_the_first_offset_there_was() -> None:
    assert placed({}, {old(): Extent(0, 20)}) == ({old(): 0}, [])
    assert placed({}, {old(): Extent(4, 20)}) == (
        {old(): 4},
        [Gap(old(), 0, 4, "deleted")],
    )


def test_what_the_broker_deleted_unread_is_a_gap() -> None:
    assert placed({old(): Stored(7, 9, 1)}, {old(): Extent(12, 20)}) == (
        {old(): 12},
        [Gap(old(), 7, 12, "deleted")],
    )


def test_a_log_that_lost_its_end_is_read_on_from_there() -> None:
    assert placed({old(): Stored(30, 30, 1)}, {old(): Extent(0, 20)}) == (
        {old(): 20},
        [Gap(old(), 20, 20, "truncated")],
    )


def test_a_topic_that_was_created_again_begins_anew_and_what_was_unread_before_is_a_gap() -> None:
    """Also of partitions that it no longer has."""
    known = {old(0): Stored(30, 33, 1), old(5): Stored(8, 8, 2)}
    starts, gaps = placed(known, {new(0): Extent(0, 99)})
    assert starts == {new(0): 0}
    assert gaps == [Gap(old(0), 30, 33, "recreated"), Gap(old(5), 8, 8, "recreated")]


def test_a_process_that_still_sees_the_topic_before_does_not_take_the_new_one_for_older() -> None:
    known = {old(): Stored(30, 30, 1), new(): Stored(5, 5, 2)}
    assert placed(known, {old(): Extent(0, 30)}) == ({old(): 30}, [])


def test_what_was_read_before_topics_had_ids_is_no_gap_and_is_read_again_where_it_is_left() -> None:
    untold = Log("t", UNTOLD, 0)
    assert placed({untold: Stored(7, 9, 1)}, {new(): Extent(5, 20)}) == ({new(): 5}, [])
    assert placed({untold: Stored(7, 9, 1)}, {new(): Extent(12, 20)}) == (
        {new(): 12},
        [Gap(new(), 0, 12, "deleted")],
    )
