"""The files of the spool: frames with length and checksum, in segments that are deleted whole."""

import contextlib
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HEADER = struct.Struct(">II")  # length and crc32 of what follows
# Never the first byte of msgpack: the owner follows, then the records. Frames of earlier releases
# have no owner.
OWNED = b"\xc1"
OWNER_BYTES = 8
NO_OWNER = b""
RECORDS = 1 + OWNER_BYTES  # where the records begin
SUFFIX, DAMAGED = ".spool", ".damaged"
READ_BYTES = 64 * 1024


class Frame(NamedTuple):
    """A stored submission: its owner, its records, its bytes on disk, and where it ends."""

    owner: bytes
    payload: bytes
    size: int
    end: int

    @property
    def begin(self) -> int:
        """Where it begins."""
        return self.end - self.size


class Segment:
    """A file of frames: `size` bytes of it are safely on disk, `read_to` of them published; `count`
    frames wait, and `owners` has their bytes by owner. One that `is_damaged` is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = self.read_to = self.count = 0
        self.owners: Counter[bytes] = Counter()
        self.is_damaged = False

    def add(self, frame: Frame) -> None:
        """Counts a sound frame that was found in the file; what it leaves out is damaged."""
        self.is_damaged |= frame.begin > self.size
        self.size = frame.end
        self.count += 1
        self.owners[frame.owner] += frame.size


def framed(owner: bytes, records: bytes) -> bytes:
    """A submission as it is written."""
    payload = OWNED + owner + records
    return HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def waiting_submissions(folder: Path) -> int:
    """Submissions in all spools below a folder, as its files show them to another process."""
    found = 0
    for path in folder.rglob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            found += sum(1 for _ in read_frames(path))
    return found


def damaged_files(folder: Path) -> int:
    """Files of all spools below a folder that were put aside for people to look at."""
    return sum(1 for _ in folder.rglob(f"*{DAMAGED}"))


def numbered_files(folder: Path, suffix: str) -> list[Path]:
    """The files that a spool has written, in their order."""
    return sorted(path for path in folder.glob(f"*{suffix}") if path.stem.isdecimal())


def read_tail(path: Path, begin: int) -> bytes:
    """What stands in a file from there on."""
    with path.open("rb") as file:
        file.seek(begin)
        return file.read()


def read_frames(path: Path, start: int = 0, size: int | None = None) -> Iterator[Frame]:
    """The sound frames of a file's first `size` bytes from `start` on. What is damaged between them
    is left out.
    """
    with path.open("rb") as file:
        file.seek(start)
        data = b""  # what was read from `start` on
        left = os.fstat(file.fileno()).st_size if size is None else size
        left -= start
        while left > 0:
            if len(data) < HEADER.size:
                data += file.read(min(left, READ_BYTES) - len(data))
            if len(data) >= HEADER.size and (wanted := _length(data) + HEADER.size) <= left:
                data += file.read(max(0, wanted - len(data)))
            frame = _frame(data, start)
            if frame is None:
                data += file.read(left - len(data))
                frame = _next_frame(data, start)
                if frame is None:
                    return
            used = frame.end - start
            yield frame
            data, start, left = data[used:], frame.end, left - used


def is_torn(tail: bytes) -> bool:
    """Whether these last bytes of a file are of a frame whose writing did not end, and so was never
    acknowledged; else they were sound once.
    """
    if len(tail) < HEADER.size:
        return True
    length, crc = HEADER.unpack_from(tail)
    rest = tail[HEADER.size :]
    return len(rest) < length and zlib.crc32(rest) != crc


def _length(data: bytes) -> int:
    return int(HEADER.unpack_from(data)[0])


def _frame(data: bytes, at: int) -> Frame | None:
    """The sound frame that the data begin with, `at` being where they are in the file."""
    if len(data) < HEADER.size:
        return None
    length, crc = HEADER.unpack_from(data)
    payload = data[HEADER.size : HEADER.size + length]
    if not length or len(payload) < length or zlib.crc32(payload) != crc:
        return None
    size = HEADER.size + length
    if payload.startswith(OWNED):
        return Frame(payload[1:RECORDS], payload[RECORDS:], size, at + size)
    return Frame(NO_OWNER, payload, size, at + size)


def _next_frame(data: bytes, at: int) -> Frame | None:
    """The first sound frame with an owner that is anywhere in the data: the byte that these begin
    with is found nowhere in JSON, so a search comes upon few others.
    """
    mark = data.find(OWNED, HEADER.size)
    while mark >= 0:
        begin = mark - HEADER.size
        is_whole = _length(data[begin:mark]) <= len(data) - mark
        if is_whole and (frame := _frame(data[begin:], at + begin)):
            return frame
        mark = data.find(OWNED, mark + 1)
    return None


def sync_folder(folder: Path) -> None:
    """Makes a new file's name durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
