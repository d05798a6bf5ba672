"""The spool on disk: safe before the answer, in order, bounded, whole again after a crash."""

import asyncio
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from services.ingest.spool import Spool
from services.ingest.spool_files import HEADER, waiting_submissions
from services.shared.errors import Reject, Retry
from services.shared.messaging.kafka import Outgoing

MAX = 1_000_000


def record(number: int, size: int = 10) -> list[Outgoing]:
    return [
        Outgoing("lead.interactions", f"{number:08x}", b"x" * size),
        Outgoing("lead.consents", f"{number:08x}", b"y"),
    ]


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


async def test_what_was_taken_is_on_disk_and_goes_out_in_order(
    spool: Spool, tmp_path: Path
) -> None:
    """Reliability: a form's submission is on disk before its answer, and is delivered later by
    itself.
    """
    for number in range(40):
        await spool.append(record(number), str(number))
    assert spool.count == waiting_submissions(tmp_path) == 40
    assert len(list(tmp_path.glob("*.spool"))) > 1
    broker = Broker()
    await drained(spool, broker)
    assert broker.numbers == list(range(40))
    assert broker.got[:2] == record(0)
    assert waiting_submissions(tmp_path) == 0
    assert not list(tmp_path.glob("*.spool"))


async def test_submissions_that_come_together_share_one_fsync(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    plain = os.fsync

    def counted(number: int) -> None:
        synced.append(number)
        plain(number)

    monkeypatch.setattr(os, "fsync", counted)
    await asyncio.gather(*(spool.append(record(number), str(number)) for number in range(200)))
    assert spool.count == 200
    assert len(synced) < 20


async def test_nothing_is_lost_while_the_broker_stays_away(spool: Spool) -> None:
    broker = Broker()
    broker.away = True
    task = asyncio.create_task(spool.drain(broker.publish, lambda: None))
    for number in range(5):
        await spool.append(record(number), str(number))
    await asyncio.sleep(0.05)
    assert (spool.count, broker.got) == (5, [])
    broker.away = False
    async with asyncio.timeout(5):
        while spool.count:
            await asyncio.sleep(0.05)
    task.cancel()
    assert broker.numbers == list(range(5))


async def test_a_crash_loses_nothing_that_was_acknowledged_and_a_torn_end_is_cut(
    spool: Spool, tmp_path: Path
) -> None:
    """Reliability: kill -9 at any moment."""
    for number in range(20):
        await spool.append(record(number), str(number))
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
    await last.append(record(20), str(20))
    broker = Broker()
    await drained(last, broker)
    last.close()
    assert broker.numbers == list(range(21))


async def test_a_full_spool_says_so_and_has_room_again_once_drained(tmp_path: Path) -> None:
    """Ready while the spool has room; full is a 503."""
    small = Spool(tmp_path, 400)
    small.open()
    answers = await asyncio.gather(
        *(small.append(record(number), str(number)) for number in range(10)), return_exceptions=True
    )
    refusals = [answer for answer in answers if isinstance(answer, Reject)]
    assert {refusal.kind for refusal in refusals} == {"spool-full"}
    assert small.count == 10 - len(refusals) > 0
    assert small.bytes <= 400
    await drained(small, Broker())
    assert small.has_room
    await small.append(record(1), str(1))
    small.close()


async def test_a_write_that_fails_is_not_acknowledged_and_harms_nothing_else(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await spool.append(record(1), str(1))
    plain = os.write

    def half(number: int, data: bytes) -> int:
        plain(number, bytes(data)[:7])
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(Reject):
        await spool.append(record(2), str(2))
    monkeypatch.setattr(os, "write", plain)
    await spool.append(record(3), str(3))
    broker = Broker()
    await drained(spool, broker)
    assert broker.numbers == [1, 3]


async def test_a_file_that_rotted_is_put_aside_and_does_not_hold_up_the_others(
    spool: Spool, tmp_path: Path
) -> None:
    for number in range(40):
        await spool.append(record(number), str(number))
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


async def test_one_noisy_owner_fills_its_share_and_keeps_nobody_else_out(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 40_000)
    spool.open()
    noise = [spool.append(record(number, 100), "noisy") for number in range(100)]
    refusals = [
        answer
        for answer in await asyncio.gather(*noise, return_exceptions=True)
        if isinstance(answer, Reject)
    ]
    assert {refusal.kind for refusal in refusals} == {"spool-share"}
    assert spool.count == 100 - len(refusals)
    assert 9_500 < spool.bytes <= 10_000
    await spool.append(record(1, 100), "quiet")
    with pytest.raises(Reject):
        await asyncio.gather(*(spool.append(record(number, 5_000), "burst") for number in range(3)))
    await drained(spool, Broker())
    await spool.append(record(0, 100), "noisy")
    spool.close()


async def test_shares_are_counted_again_after_a_crash(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 40_000, segment_bytes=500)
    spool.open()
    for number in range(40):
        await spool.append(record(number, 150), "noisy")
    spool.close()
    again = Spool(tmp_path, 40_000, segment_bytes=500)
    again.open()
    with pytest.raises(Reject) as refused:
        await again.append(record(40, 2_000), "noisy")
    assert refused.value.kind == "spool-share"
    await again.append(record(40, 2_000), "quiet")
    broker = Broker()
    await drained(again, broker)
    assert broker.numbers == list(range(41))
    await again.append(record(41, 2_000), "noisy")
    again.close()


async def test_frames_of_old_that_name_no_owner_go_out_as_ever(tmp_path: Path) -> None:
    old = msgspec.msgpack.encode(record(1))
    (tmp_path / "000000000001.spool").write_bytes(HEADER.pack(len(old), zlib.crc32(old)) + old)
    spool, broker = Spool(tmp_path, MAX), Broker()
    spool.open()
    assert spool.count == 1
    await spool.append(record(2), "new")
    await drained(spool, broker)
    spool.close()
    assert broker.got == record(1) + record(2)


async def test_a_failed_write_and_a_rotten_file_give_shares_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, 40_000)
    spool.open()

    def never(number: int, data: bytes) -> int:
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", never)
        for _ in range(5):
            with pytest.raises(Reject) as refused:
                await spool.append(record(1, 8_000), "one")
            assert refused.value.kind == "spool-full"
    await spool.append(record(2, 8_000), "one")
    [file] = tmp_path.glob("*.spool")
    file.write_bytes(b"\xff" * file.stat().st_size)
    await drained(spool, Broker())
    await spool.append(record(3, 8_000), "one")
    spool.close()
