"""What is published and what is consumed."""

from typing import NamedTuple


class Record(NamedTuple):
    """A consumed record."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes


class Outgoing(NamedTuple):
    """A record to publish; the key is an HMAC or an id, whose last 8 hex digits choose the
    partition.
    """

    topic: str
    key: str
    value: bytes


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key: records of one key keep their order."""
    return int(key[-8:], 16) % partitions
