"""A bounded spool on disk: what it holds survives a crash, and goes to the broker in order once
that is back.

Each owner may fill a share of it only, so that one noisy sender keeps nobody else out.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from services.ingest.spool_files import (
    DAMAGED,
    OWNER_BYTES,
    SUFFIX,
    Frame,
    Segment,
    framed,
    is_torn,
    numbered_files,
    read_frames,
    read_tail,
    sync_folder,
)
from services.shared.errors import Reject, Retry
from services.shared.messaging.kafka import Outgoing
from services.shared.runtime import Heartbeat
from services.shared.telemetry import (
    SPOOL_BYTES,
    SPOOL_DAMAGED,
    SPOOL_FULL,
    SPOOL_RECORDS,
    SPOOL_SHARE,
)

log = structlog.get_logger()
SHARES = 4  # an owner may use one share
SEGMENT_BYTES = 4 * 1024 * 1024
BATCH_BYTES = 512 * 1024
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0  # between attempts to publish

Publish = Callable[[Sequence[Outgoing]], Awaitable[None]]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Outgoing]).decode
# errors that are of this one file; others, as of too many open ones, pass
FAULTS_OF_A_FILE = (errno.EIO, errno.EISDIR)


class PendingWrite(NamedTuple):
    """A frame that waits to be written and synced."""

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
        self._aside = 0  # files that were put aside
        self._pending: list[PendingWrite] = []
        self._flushing: asyncio.Task[None] | None = None
        self._written = asyncio.Event()
        self._is_full = False
        self._pending_bytes = 0
        self._shares: Counter[bytes] = Counter()  # bytes of each owner, the pending ones among them
        self.count = 0
        self.bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether it is open, and the last write succeeded."""
        return self._lock >= 0 and not self._is_full

    def open(self) -> None:
        """Locks the folder and recovers what a crash left. A torn end, never acknowledged, is cut;
        of a file with damage all that is sound goes out, and the file is kept.

        Raises Reject where another process has the folder, or it cannot be used.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
            self._lock_folder()
            paths = numbered_files(self._folder, SUFFIX)
            aside = numbered_files(self._folder, DAMAGED)
            self._aside = len(aside)
            self._next = 1 + max((int(path.stem) for path in paths + aside), default=0)
            for path in paths:
                self._recover(path, is_last=path == paths[-1])
        except OSError as error:
            self.close()
            raise Reject(
                f"the spool cannot be used ({error.strerror})",
                where="RIPELINE_SPOOL_DIR",
                remedy="give it a folder that this user can write, with room",
            ) from None
        self._update_metrics()

    def _lock_folder(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            remedy = "give each process a folder of its own"
            raise Reject(
                "another process uses the spool", where="RIPELINE_SPOOL_DIR", remedy=remedy
            ) from None

    def close(self) -> None:
        """Unlocks the folder; its files stay."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    async def append(self, records: Sequence[Outgoing], owner: str) -> None:
        """Returns once the records are on disk; those that come together share one fsync.

        Raises Reject `spool-full` where there is no room, `spool-share` where the owner has filled
        its share.
        """
        mark = hashlib.blake2b(owner.encode(), digest_size=OWNER_BYTES).digest()
        frame = framed(mark, _pack(records))
        if self._lock < 0 or self.bytes + self._pending_bytes + len(frame) > self._max_bytes:
            self._is_full = True
            raise _full()
        if self._shares[mark] + len(frame) > self._max_bytes // SHARES:
            raise _share_full()
        self._pending_bytes += len(frame)
        self._shares[mark] += len(frame)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append(PendingWrite(frame, mark, done))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await done

    async def drain(self, publish: Publish, heartbeat: Heartbeat) -> None:
        """Publishes what waits, oldest first, and deletes it once acknowledged; until cancelled.

        After a crash in between it is published again, which its ids make harmless.
        """
        pause = FIRST_PAUSE_S
        while True:
            heartbeat()
            try:
                done = await self._publish_oldest(publish)
                pause = FIRST_PAUSE_S
            except Retry as error:
                log.warning("spool_waits", reason=str(error), records=self.count)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
                continue
            if not done:
                self._written.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await self._written.wait()

    async def _publish_oldest(self, publish: Publish) -> bool:
        """Publishes some frames and counts them as published; False where none wait. Raises Retry
        while the broker is away.
        """
        frames = self._oldest_frames()
        if frames:
            batches = [self._records(frame) for frame in frames]
            try:
                await publish([record for batch in batches for record in batch])
            except Reject:
                await self._publish_singly(publish, batches)
            self._remove_published(frames)
            if not self.count:
                log.info("spool_drained")
        return bool(frames)

    async def _publish_singly(self, publish: Publish, batches: list[list[Outgoing]]) -> None:
        """Publishes what the broker takes; the file of what it never takes is kept."""
        for records in batches:
            try:
                await publish(records)
            except Reject as error:
                log.error("spool_unsendable", reason=str(error))
                self._note_damage(self._segments[0])

    def _records(self, frame: Frame) -> list[Outgoing]:
        """The records of a frame; none, and the file is kept, where this release cannot read it."""
        try:
            return _unpack(frame.payload)
        except msgspec.MsgspecError:
            self._note_damage(self._segments[0])
            return []

    async def _flush(self) -> None:
        """Writes the pending frames, and those that come meanwhile."""
        try:
            while self._pending:
                writes, self._pending = self._pending, []
                data = b"".join(write.frame for write in writes)
                try:
                    segment = self._writable()
                    await asyncio.to_thread(self._write, data)
                except OSError as error:
                    log.error("spool_write_failed", error=str(error))
                    self._fail(writes)
                else:
                    self._succeed(writes, segment, len(data))
                self._pending_bytes -= len(data)
        finally:
            self._flushing = None

    def _fail(self, writes: list[PendingWrite]) -> None:
        self._discard_torn_write()
        self._is_full = True
        for write in writes:
            self._release_share(write.owner, len(write.frame))
        _resolve(writes, _full())

    def _succeed(self, writes: list[PendingWrite], segment: Segment, size: int) -> None:
        for write in writes:
            segment.owners[write.owner] += len(write.frame)
        segment.size += size
        segment.count += len(writes)
        self.bytes += size
        self._is_full = False
        self.count += len(writes)
        self._update_metrics()
        self._written.set()
        _resolve(writes)

    def _writable(self) -> Segment:
        """The segment to write to: the last one, or a new one where that is full."""
        if self._file >= 0 and self._segments[-1].size < self._segment_bytes:
            return self._segments[-1]
        self._close_file()
        path = self._folder / f"{self._next:012d}{SUFFIX}"
        self._next += 1
        self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        self._segments.append(Segment(path))
        sync_folder(self._folder)
        return self._segments[-1]

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _discard_torn_write(self) -> None:
        """Cuts what a failed write left; the next write goes to another file."""
        if self._file >= 0:
            last = self._segments[-1]
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, last.size)
            self._close_file()
            if not last.size:
                self._segments.pop()
                last.path.unlink()

    def _oldest_frames(self) -> list[Frame]:
        """Frames at the front, of one segment, up to a batch's bytes. Retires what is read."""
        while self._segments:
            first = self._segments[0]
            if frames := self._read(first):
                return frames
            if first is self._segments[-1] and self._flushing:
                return []  # more is being written to it
            self._retire(first)
        return []

    def _read(self, segment: Segment) -> list[Frame]:
        frames, size, at = list[Frame](), 0, segment.read_to
        if at >= segment.size:
            return frames
        try:
            for frame in read_frames(segment.path, at, segment.size):
                if frame.begin > at:
                    self._note_damage(segment)
                frames.append(frame)
                size, at = size + frame.size, frame.end
                if size >= BATCH_BYTES:
                    break
        except OSError as error:
            log.error("spool_file_unreadable", file=segment.path.name, error=error.strerror)
            if error.errno not in FAULTS_OF_A_FILE:
                raise Retry(f"the spool cannot be read: {error.strerror}") from error
        if not frames:
            self._note_damage(segment)
        return frames

    def _remove_published(self, frames: list[Frame]) -> None:
        first = self._segments[0]
        first.read_to = frames[-1].end
        first.count -= len(frames)
        self.count -= len(frames)
        for frame in frames:
            first.owners[frame.owner] -= frame.size
            self._release_share(frame.owner, frame.size)
        if first.read_to >= first.size and not (first is self._segments[-1] and self._flushing):
            self._retire(first)
        self._update_metrics()

    def _note_damage(self, segment: Segment) -> None:
        """Says once that a file has damage; it is put aside when what is sound has gone out."""
        if not segment.is_damaged:
            log.error("spool_file_damaged", file=segment.path.name, kept_as=DAMAGED)
        segment.is_damaged = True

    def _retire(self, first: Segment) -> None:
        """Deletes a file that is published, or puts it aside where not all of it could be read."""
        if first is self._segments[-1]:
            self._close_file()
        self._aside += first.is_damaged
        try:
            if first.is_damaged:
                first.path.rename(first.path.with_suffix(DAMAGED))
            else:
                first.path.unlink()
        except OSError as error:  # published again after a restart, which ids make harmless
            log.error("spool_file_stays", file=first.path.name, error=error.strerror)
        self._segments.popleft()
        self.bytes -= first.size
        self.count -= first.count
        self._is_full = False
        for owner, size in first.owners.items():
            self._release_share(owner, size)
        self._update_metrics()

    def _recover(self, path: Path, *, is_last: bool) -> None:
        """Counts what waits in a file, and cuts a torn end."""
        segment, length = Segment(path), path.stat().st_size
        try:
            for frame in read_frames(path):
                segment.add(frame)
            tail = read_tail(path, segment.size)
        except OSError as error:
            log.error("spool_file_unreadable", file=path.name, error=error.strerror)
            if error.errno not in FAULTS_OF_A_FILE:
                raise
            segment.is_damaged, tail = True, b""
        if tail and is_last and is_torn(tail):
            log.warning("spool_end_cut", file=path.name, bytes=len(tail))
            os.truncate(path, segment.size)
        elif tail:
            segment.is_damaged, segment.size = True, length
        if segment.is_damaged:
            log.error("spool_file_damaged", file=path.name, kept_as=DAMAGED, sound=segment.count)
        self._segments.append(segment)
        self.bytes += segment.size
        self.count += segment.count
        self._shares += segment.owners

    def _release_share(self, owner: bytes, size: int) -> None:
        self._shares[owner] -= size
        if self._shares[owner] <= 0:
            del self._shares[owner]

    def _update_metrics(self) -> None:
        SPOOL_RECORDS.set(self.count)
        SPOOL_BYTES.set(self.bytes)
        SPOOL_DAMAGED.set(self._aside + sum(segment.is_damaged for segment in self._segments))


def _resolve(writes: list[PendingWrite], error: Exception | None = None) -> None:
    for write in writes:
        if not write.done.done():
            if error:
                write.done.set_exception(error)
            else:
                write.done.set_result(None)


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
