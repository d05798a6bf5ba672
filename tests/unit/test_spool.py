"""The spool on disk: safe before the answer, in order, bounded, whole again after a crash."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from services.shared.errors import Reject, Retry
from services.shared.kafka import Outgoing
from services.shared.spool import Spool, waiting

MAX = 1_000_000


def record(number: int, size: int = 10) -> list[Outgoing]:
    return [Outgoing("lead.interactions", f"{number:08x}", b"x" * size), Outgoing("lead.consents", f"{number:08x}", b"y")]


class Broker:
    """Takes records, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.got: list[Outgoing] = []

    async def publish(self, records: Sequence[Outgoing]) -> None:
        if self.away:
            raise Retry("away")
        self.got += records

    @property
    def numbers(self) -> list[int]:
        return [int(one.key, 16) for one in self.got if one.topic == "lead.interactions"]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path, MAX, segment_bytes=500)
    opened.open()
    yield opened
    opened.close()


async def drained(spool: Spool, broker: Broker) -> None:
    task = asyncio.create_task(spool.drain(broker.publish, lambda: None))
    async with asyncio.timeout(5):
        while spool.count or spool.bytes:
            await asyncio.sleep(0.01)
    task.cancel()


async def test_what_was_taken_is_on_disk_and_goes_out_in_order(spool: Spool, tmp_path: Path) -> None:
    """Reliability: a form's submission is on disk before its answer, and is delivered later by itself."""
    for number in range(40):
        await spool.append(record(number))
    assert spool.count == waiting(tmp_path) == 40
    assert len(list(tmp_path.glob("*.spool"))) > 1
    broker = Broker()
    await drained(spool, broker)
    assert broker.numbers == list(range(40))
    assert broker.got[:2] == record(0)
    assert waiting(tmp_path) == 0
    assert not list(tmp_path.glob("*.spool"))


async def test_submissions_that_come_together_share_one_fsync(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    plain = os.fsync

    def counted(number: int) -> None:
        synced.append(number)
        plain(number)

    monkeypatch.setattr(os, "fsync", counted)
    await asyncio.gather(*(spool.append(record(number)) for number in range(200)))
    assert spool.count == 200
    assert len(synced) < 20


async def test_nothing_is_lost_while_the_broker_stays_away(spool: Spool) -> None:
    broker = Broker()
    broker.away = True
    task = asyncio.create_task(spool.drain(broker.publish, lambda: None))
    for number in range(5):
        await spool.append(record(number))
    await asyncio.sleep(0.05)
    assert (spool.count, broker.got) == (5, [])
    broker.away = False
    async with asyncio.timeout(5):
        while spool.count:
            await asyncio.sleep(0.05)
    task.cancel()
    assert broker.numbers == list(range(5))


async def test_a_crash_loses_nothing_that_was_acknowledged_and_a_torn_end_is_cut(spool: Spool, tmp_path: Path) -> None:
    """Reliability: kill -9 at any moment."""
    for number in range(20):
        await spool.append(record(number))
    spool.close()
    newest = sorted(tmp_path.glob("*.spool"))[-1]
    whole = newest.stat().st_size
    for torn in (b"\0" * 64, b"\0\0\0\x10abc", b"\0\0\0\x02\0\0\0\0hi", b"\xff" * 30):
        with newest.open("ab") as file:
            file.write(torn)
        again = Spool(tmp_path, MAX, segment_bytes=500)
        again.open()
        assert (again.count, newest.stat().st_size) == (20, whole)
        again.close()
    last = Spool(tmp_path, MAX)
    last.open()
    await last.append(record(20))
    broker = Broker()
    await drained(last, broker)
    last.close()
    assert broker.numbers == list(range(21))


async def test_a_full_spool_says_so_and_has_room_again_once_drained(tmp_path: Path) -> None:
    """Ready while the spool has room; full is a 503."""
    small = Spool(tmp_path, 400)
    small.open()
    answers = await asyncio.gather(*(small.append(record(number)) for number in range(10)), return_exceptions=True)
    refusals = [answer for answer in answers if isinstance(answer, Reject)]
    assert {refusal.kind for refusal in refusals} == {"spool-full"}
    assert small.count == 10 - len(refusals) > 0
    assert small.bytes <= 400
    await drained(small, Broker())
    assert small.has_room
    await small.append(record(1))
    small.close()


async def test_a_write_that_fails_is_not_acknowledged_and_harms_nothing_else(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await spool.append(record(1))
    plain = os.write

    def half(number: int, data: bytes) -> int:
        plain(number, bytes(data)[:7])
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(Reject):
        await spool.append(record(2))
    monkeypatch.setattr(os, "write", plain)
    await spool.append(record(3))
    broker = Broker()
    await drained(spool, broker)
    assert broker.numbers == [1, 3]


async def test_a_file_that_rotted_is_put_aside_and_does_not_hold_up_the_others(spool: Spool, tmp_path: Path) -> None:
    for number in range(40):
        await spool.append(record(number))
    first = sorted(tmp_path.glob("*.spool"))[0]
    first.write_bytes(b"\xff" * first.stat().st_size)
    broker = Broker()
    await drained(spool, broker)
    assert broker.numbers == list(range(broker.numbers[0], 40))
    assert (spool.count, first.with_suffix(".damaged").exists()) == (0, True)


async def test_two_processes_do_not_share_a_folder(spool: Spool, tmp_path: Path) -> None:
    with pytest.raises(Reject):
        Spool(tmp_path, MAX).open()
    assert spool.has_room


def test_a_spool_that_is_not_open_has_no_room(tmp_path: Path) -> None:
    assert not Spool(tmp_path, MAX).has_room
