"""The spool on disk: safe before the answer, in order, bounded, whole again after a crash."""

import asyncio
import errno
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from services.ingest.spool import Spool
from services.ingest.spool_files import (
    HEADER,
    Frame,
    damaged_files,
    framed,
    read_frames,
    waiting_submissions,
)
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
    for torn in (b"\0\0\0", b"\0\0\0\x10abc", framed(b"x" * 8, b"y" * 99)[:-1], b"\xff" * 30):
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


# -- damage ---------------------------------------------------------------------------------------

SEGMENT_BYTES = 700


async def filled(folder: Path, count: int) -> list[tuple[Path, Frame, int]]:
    """Fills a spool; its frames with the file and the number of each."""
    spool = Spool(folder, MAX, segment_bytes=SEGMENT_BYTES)
    spool.open()
    for number in range(count):
        await spool.append(record(number), str(number))
    spool.close()
    files = sorted(folder.glob("*.spool"))
    frames = [(path, frame) for path in files for frame in read_frames(path)]
    assert len(frames) == count
    return [(path, frame, number) for number, (path, frame) in enumerate(frames)]


async def recovered(folder: Path) -> list[int]:
    """The numbers that come out of a spool that a new process finds."""
    spool, broker = Spool(folder, MAX, segment_bytes=SEGMENT_BYTES), Broker()
    spool.open()
    await drained(spool, broker)
    assert (spool.count, spool.bytes, spool._shares) == (0, 0, {})
    spool.close()
    return broker.numbers


Damage = tuple[str, int, int]  # what kind, where and how long, in thousandths and bytes
DAMAGES = st.tuples(
    st.sampled_from(["flip", "zero", "cut", "insert", "remove"]),
    st.integers(0, 999), st.integers(1, 120),
)  # fmt: skip


def damaged(data: bytes, damage: Damage) -> tuple[bytes, int, int]:
    """The data with that damage, and the bytes from and to which it reaches."""
    kind, place, length = damage
    at = place * len(data) // 1000
    end = min(len(data), at + length)
    match kind:
        case "flip":
            return data[:at] + bytes([data[at] ^ 1 << length % 8]) + data[at + 1 :], at, at + 1
        case "zero":
            return data[:at] + b"\0" * (end - at) + data[end:], at, end
        case "cut":
            return data[:at], at, len(data)
        case "insert":
            return data[:at] + b"\xc1" * length + data[at:], at, at
        case _:
            return data[:at] + data[end:], at, end


@given(damages=st.lists(st.tuples(st.integers(0, 9), DAMAGES), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
async def test_all_frames_whose_bytes_are_sound_go_out_and_no_other_byte_is_deleted(
    damages: list[tuple[int, Damage]],
) -> None:
    """Reliability: of what was acknowledged nothing is deleted, whatever became of the disk."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = await filled(folder, 30)
        files = sorted(folder.glob("*.spool"))
        written = {path: path.read_bytes() for path in files}
        left, sound = dict.fromkeys(files, b""), {number for *_, number in frames}
        for index, damage in {index % len(files): damage for index, damage in damages}.items():
            path = files[index]
            left[path], start, end = damaged(path.read_bytes(), damage)
            path.write_bytes(left[path])
            sound -= {
                number
                for at, frame, number in frames
                if at == path
                and ((frame.begin < end and start < frame.end) or frame.begin < start < frame.end)
            }
        came = await recovered(folder)
        assert sound <= set(came)
        assert sorted(came) == came
        for path, data in left.items():
            is_whole = all(number in came for at, _, number in frames if at == path)
            # cut between two frames: nothing in the file shows that there were more
            is_sound = data in {written[path][: frame.end] for at, frame, _ in frames if at == path}
            aside = path.with_suffix(".damaged")
            if data and not is_whole and not is_sound and path != files[-1]:
                assert aside.read_bytes() == data
        assert await recovered(folder) == []


@pytest.mark.parametrize(
    "damage", [("flip", 500, 3), ("flip", 5, 3), ("zero", 300, 64), ("cut", 500, 1)]
)
async def test_a_damaged_file_is_kept_counted_and_not_read_again(
    tmp_path: Path, damage: Damage
) -> None:
    await filled(tmp_path, 30)
    first = sorted(tmp_path.glob("*.spool"))[0]
    data, *_ = damaged(first.read_bytes(), damage)
    first.write_bytes(data)
    spool = Spool(tmp_path, MAX, segment_bytes=SEGMENT_BYTES)
    spool.open()
    assert REGISTRY.get_sample_value("ripeline_spool_damaged_files") == 1
    spool.close()
    assert await recovered(tmp_path) != list(range(30))
    assert first.with_suffix(".damaged").read_bytes() == data
    assert damaged_files(tmp_path) == 1
    again = Spool(tmp_path, MAX)
    again.open()
    await again.append(record(1), "one")
    again.close()
    assert first.with_suffix(".damaged").read_bytes() == data
    assert not first.exists()


@pytest.mark.parametrize("place", [-1, -20, -60])
async def test_the_last_frame_with_a_flipped_bit_is_kept_and_not_cut(
    tmp_path: Path, place: int
) -> None:
    """In its length too, which makes it look like one whose writing did not end."""
    frames = await filled(tmp_path, 3)
    last, frame, _ = frames[-1]
    data = bytearray(last.read_bytes())
    data[frame.begin if place == -60 else place] ^= 4
    last.write_bytes(data)
    assert await recovered(tmp_path) == [0, 1]
    assert last.with_suffix(".damaged").read_bytes() == data


async def test_a_frame_that_this_release_cannot_read_is_kept_and_holds_up_nobody(
    spool: Spool, tmp_path: Path
) -> None:
    spool.close()
    strange = framed(b"x" * 8, msgspec.msgpack.encode({"not": "records"}))
    known = framed(b"x" * 8, msgspec.msgpack.encode(record(7)))
    (tmp_path / "000000000001.spool").write_bytes(strange + known)
    assert await recovered(tmp_path) == [7]
    assert (tmp_path / "000000000001.damaged").read_bytes() == strange + known


async def test_what_the_broker_never_takes_is_kept_and_holds_up_nobody(
    spool: Spool, tmp_path: Path
) -> None:
    for number in range(3):
        await spool.append(record(number), str(number))
    got: list[Outgoing] = []

    async def publish(records: Sequence[Outgoing]) -> None:
        if any(one.key == "00000001" for one in records):
            raise Reject("too large")
        got.extend(records)

    task = asyncio.create_task(spool.drain(publish, lambda: None))
    async with asyncio.timeout(5):
        while spool.count:
            await asyncio.sleep(0.01)
    task.cancel()
    assert got == record(0) + record(2)
    [aside] = tmp_path.glob("*.damaged")
    assert [int(one.key, 16) for one in _records(aside)] == [0, 0, 1, 1, 2, 2]


def _records(path: Path) -> list[Outgoing]:
    """The records of a file of the spool."""
    frames = [msgspec.msgpack.decode(f.payload, type=list[Outgoing]) for f in read_frames(path)]
    return [record for frame in frames for record in frame]


async def test_strange_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    await filled(tmp_path, 2)
    (tmp_path / "notes.spool").write_text("of somebody")
    (tmp_path / "000000000009.spool").mkdir()
    spool, broker = Spool(tmp_path, MAX), Broker()
    spool.open()
    await drained(spool, broker)
    await spool.append(record(2), "two")
    spool.close()
    assert broker.numbers == [0, 1]
    assert (tmp_path / "notes.spool").read_text() == "of somebody"


async def test_a_disk_that_turned_read_only_holds_up_nobody_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path, 30)
    spool, broker = Spool(tmp_path, MAX), Broker()
    spool.open()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as read_only:
        read_only.setattr(Path, "unlink", refuse)
        await drained(spool, broker)
    spool.close()
    assert broker.numbers == list(range(30))
    assert await recovered(tmp_path) == list(range(30))


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_folder_that_cannot_be_used_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Reject, match=r"RIPELINE_SPOOL_DIR: the spool cannot be used \(.*\): give"):
        Spool(tmp_path, MAX).open()


async def test_a_fault_that_passes_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files: what is spooled waits, and goes out afterwards."""
    spool, published = Spool(tmp_path, MAX), list[Outgoing]()
    spool.open()
    await spool.append(record(1), "owner")

    async def publish(records: Sequence[Outgoing]) -> None:
        published.extend(records)

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("services.ingest.spool.read_frames", refuse)
        with pytest.raises(Retry):
            await spool._publish_oldest(publish)
    assert spool.count == 1
    assert await spool._publish_oldest(publish)
    assert (published, spool.count, damaged_files(tmp_path)) == (record(1), 0, 0)
    spool.close()
