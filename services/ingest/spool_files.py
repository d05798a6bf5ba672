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
SUFFIX = ".spool"


class Frame(NamedTuple):
    """A stored submission: its owner, its records, its bytes on disk, and where the next begins."""

    owner: bytes
    payload: bytes
    size: int
    end: int


class Segment:
    """A file of frames: `size` bytes of it are safely on disk, `read_to` of them published;
    `owners` has the waiting bytes of each owner.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = self.read_to = 0
        self.owners: Counter[bytes] = Counter()


def framed(owner: bytes, records: bytes) -> bytes:
    """A submission as it is written."""
    payload = OWNED + owner + records
    return HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def waiting_submissions(folder: Path) -> int:
    """Submissions in all spools below a folder, as its files show them to another process."""
    found = 0
    for path in folder.rglob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            found += count_frames(path)
    return found


def count_frames(path: Path) -> int:
    """Sound frames of a file."""
    return sum(1 for _ in read_frames(path))


def read_frames(path: Path, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
    """Sound frames that begin in [start, stop) bytes; ends at the first torn one."""
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
                else (NO_OWNER, payload)
            )
            yield Frame(owner, records, HEADER.size + length, start)


def sync_folder(folder: Path) -> None:
    """Makes a new file's name durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
