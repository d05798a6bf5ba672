"""A bounded spool on disk: what it has taken survives a crash, and goes to the broker in order once
that is back.

Each owner may fill a share of it only, so that one noisy sender keeps nobody else out.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import struct
import zlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from services.shared.errors import Reject, Retry
from services.shared.messaging.kafka import Outgoing
from services.shared.runtime import Heartbeat
from services.shared.telemetry import SPOOL_BYTES, SPOOL_FULL, SPOOL_RECORDS, SPOOL_SHARE

log = structlog.get_logger()
HEADER = struct.Struct(">II")  # length and crc32 of what follows
# never the first byte of msgpack: here follow the owner and then the records; frames of old have no
# owner
OWNED = b"\xc1"
OWNER_BYTES = 8
NOBODY = b""
SHARES = 4  # an owner may use one part in so many
SEGMENT_BYTES = 4 * 1024 * 1024
BATCH_BYTES = 512 * 1024
SUFFIX = ".spool"
LONGEST_PAUSE_S = 5.0

Publish = Callable[[Sequence[Outgoing]], Awaitable[None]]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Outgoing]).decode


class Frame(NamedTuple):
    """A stored submission, whose it is, its bytes in its file, and where in that the next one
    begins.
    """

    owner: bytes
    payload: bytes
    size: int
    end: int


class Segment:
    """A file of frames; `size` bytes of it are safely on disk, and each owner's of them wait."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = self.read_to = 0
        self.owners: Counter[bytes] = Counter()


class Coming(NamedTuple):
    """A frame under way to the disk."""

    frame: bytes
    owner: bytes
    done: asyncio.Future[None]


class Spool:
    """Submissions that wait on disk; `folder` belongs to this process alone."""

    def __init__(self, folder: Path, max_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder, self._max_bytes, self._segment_bytes = folder, max_bytes, segment_bytes
        self._segments: deque[Segment] = deque()
        self._file = self._lock = -1
        self._next = 1
        self._waiting: list[Coming] = []
        self._flushing: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()
        self._is_full = False
        self._coming = 0  # bytes under way to the disk
        self._shares: Counter[bytes] = Counter()  # bytes of each owner, with those under way
        self.count = 0
        self.bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether it is open, and took the last that it was given."""
        return self._lock >= 0 and not self._is_full

    def open(self) -> None:
        """Takes the folder and finds again what a crash left; a torn end, which nobody was told is
        safe, is cut.

        Raises Reject where another process has the folder.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = -1
            remedy = "give each process a folder of its own"
            raise Reject(
                "another process uses the spool", where="RIPELINE_SPOOL_DIR", remedy=remedy
            ) from None
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            self._recover(path)
        self._show()

    def close(self) -> None:
        """Lets go of the folder; what is in it stays."""
        for number in (self._file, self._lock):
            if number >= 0:
                os.close(number)
        self._file = self._lock = -1

    async def append(self, records: Sequence[Outgoing], owner: str) -> None:
        """Returns once the records are on disk; those that come together share one fsync.

        Raises Reject `spool-full` where there is no room, `spool-share` where the owner has filled
        its share.
        """
        mark = hashlib.blake2b(owner.encode(), digest_size=OWNER_BYTES).digest()
        payload = OWNED + mark + _pack(records)
        frame = HEADER.pack(len(payload), zlib.crc32(payload)) + payload
        if self._lock < 0 or self.bytes + self._coming + len(frame) > self._max_bytes:
            self._is_full = True
            raise _full()
        if self._shares[mark] + len(frame) > self._max_bytes // SHARES:
            raise _share_full()
        self._coming += len(frame)
        self._shares[mark] += len(frame)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(Coming(frame, mark, done))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await done

    async def drain(self, publish: Publish, heartbeat: Heartbeat) -> None:
        """Publishes what waits, oldest first, and forgets it once acknowledged; runs until
        cancelled.

        After a crash in between it is published again, which its ids make harmless.
        """
        pause = 0.2
        while True:
            heartbeat()
            if frames := self._oldest():
                try:
                    await publish([record for frame in frames for record in _unpack(frame.payload)])
                except Retry as error:
                    log.warning("spool_waits", reason=str(error), records=self.count)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_S)
                    continue
                pause = 0.2
                self._forget(frames)
                if not self.count:
                    log.info("spool_drained")
            else:
                self._arrived.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._arrived.wait(), 1)

    async def _flush(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                data = b"".join(one.frame for one in taken)
                try:
                    segment = self._writable()
                    await asyncio.to_thread(self._write, data)
                except OSError as error:
                    log.error("spool_write_failed", error=str(error))
                    self._abandon()
                    self._is_full = True
                    for one in taken:
                        self._give_back(one.owner, len(one.frame))
                    _resolve(taken, _full())
                else:
                    for one in taken:
                        segment.owners[one.owner] += len(one.frame)
                    segment.size += len(data)
                    self.bytes += len(data)
                    self._is_full = False
                    self.count += len(taken)
                    self._show()
                    self._arrived.set()
                    _resolve(taken)
                self._coming -= len(data)
        finally:
            self._flushing = None

    def _writable(self) -> Segment:
        """The segment that is written to; a full one is left for a new one."""
        if self._file >= 0 and self._segments[-1].size < self._segment_bytes:
            return self._segments[-1]
        self._leave()
        path = self._folder / f"{self._next:012d}{SUFFIX}"
        self._next += 1
        self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        _sync_folder(self._folder)
        self._segments.append(Segment(path))
        return self._segments[-1]

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)

    def _leave(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _abandon(self) -> None:
        """After a failed write: cut what may be half there, and go on in another file; an empty one
        does not stay.
        """
        if self._file >= 0:
            last = self._segments[-1]
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, last.size)
            self._leave()
            if not last.size:
                self._segments.pop()
                last.path.unlink()

    def _oldest(self) -> list[Frame]:
        """Frames at the front, of one segment, up to a batch's bytes."""
        while self._segments:
            first = self._segments[0]
            if first.read_to < first.size:
                frames = list(
                    _frames(first.path, first.read_to, min(first.size, first.read_to + BATCH_BYTES))
                )
                if frames:
                    return frames
                self._put_aside(first)
                continue
            if first is self._segments[-1] and self._flushing:
                return []  # more is being written to it
            self._delete(first)
        return []

    def _forget(self, frames: list[Frame]) -> None:
        first = self._segments[0]
        first.read_to = frames[-1].end
        self.count -= len(frames)
        for frame in frames:
            first.owners[frame.owner] -= frame.size
            self._give_back(frame.owner, frame.size)
        if first.read_to >= first.size and not (first is self._segments[-1] and self._flushing):
            self._delete(first)
        self._show()

    def _put_aside(self, first: Segment) -> None:
        """A file that has rotted since it was written is kept for people to look at."""
        log.error("spool_file_damaged", file=first.path.name, good_bytes=first.read_to)
        first.path.rename(first.path.with_suffix(".damaged"))
        if first is self._segments[-1]:
            self._leave()
        self._segments.popleft()
        self.bytes -= first.size
        self._is_full = False
        self.count = sum(_count(segment.path) for segment in self._segments)
        for owner, size in first.owners.items():
            self._give_back(owner, size)
        self._show()

    def _delete(self, first: Segment) -> None:
        if first is self._segments[-1]:
            self._leave()
        self._segments.popleft()
        self.bytes -= first.size
        self._is_full = False
        first.path.unlink()
        self._show()

    def _recover(self, path: Path) -> None:
        self._next = max(self._next, int(path.stem) + 1)
        segment, count = Segment(path), 0
        for frame in _frames(path):
            segment.size, count = frame.end, count + 1
            segment.owners[frame.owner] += frame.size
        length = path.stat().st_size
        if segment.size < length:
            log.warning("spool_end_cut", file=path.name, bytes=length - segment.size)
            os.truncate(path, segment.size)
        if not count:
            path.unlink()
            return
        self._segments.append(segment)
        self.bytes += segment.size
        self.count += count
        self._shares += segment.owners

    def _give_back(self, owner: bytes, size: int) -> None:
        self._shares[owner] -= size
        if self._shares[owner] <= 0:
            del self._shares[owner]

    def _show(self) -> None:
        SPOOL_RECORDS.set(self.count)
        SPOOL_BYTES.set(self.bytes)


def waiting(folder: Path) -> int:
    """Submissions in all spools below a folder, as its files show them to another process."""
    found = 0
    for path in folder.rglob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            found += _count(path)
    return found


def _count(path: Path) -> int:
    return sum(1 for _ in _frames(path))


def _frames(path: Path, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
    """Sound frames that begin in [start, stop); ends at the first torn one."""
    with path.open("rb") as file:
        file.seek(start)
        while stop is None or start < stop:
            head = file.read(HEADER.size)
            if len(head) < HEADER.size:
                return
            length, crc = HEADER.unpack(head)
            payload = file.read(length)
            if not length or len(payload) < length or zlib.crc32(payload) != crc:
                return
            start += HEADER.size + length
            owned = payload.startswith(OWNED)
            owner, records = (
                (payload[1 : 1 + OWNER_BYTES], payload[1 + OWNER_BYTES :])
                if owned
                else (NOBODY, payload)
            )
            yield Frame(owner, records, HEADER.size + length, start)


def _resolve(taken: list[Coming], error: Exception | None = None) -> None:
    for one in taken:
        if not one.done.done():
            if error:
                one.done.set_exception(error)
            else:
                one.done.set_result(None)


def _full() -> Reject:
    SPOOL_FULL.inc()
    return Reject(
        "the spool has no room",
        remedy="send it again after the seconds in Retry-After",
        kind="spool-full",
    )


def _share_full() -> Reject:
    SPOOL_SHARE.inc()
    remedy = "send it again after the seconds in Retry-After"
    return Reject("your share of the spool has no room", remedy=remedy, kind="spool-share")


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
