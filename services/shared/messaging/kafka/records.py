"""What is published and what is consumed."""

from typing import NamedTuple
from uuid import UUID

from services.shared.errors import Reject


class Log(NamedTuple):
    """A partition of one incarnation of a topic: a topic that is created again has another id."""

    topic: str
    topic_id: UUID
    partition: int


class Extent(NamedTuple):
    """The offsets that a broker has of a log: from `begin` to before `end`."""

    begin: int
    end: int


class Record(NamedTuple):
    """A consumed record."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    topic_id: UUID = UUID(int=0)

    @property
    def log(self) -> Log:
        """Where it lies."""
        return Log(self.topic, self.topic_id, self.partition)


class Outgoing(NamedTuple):
    """A record to publish; the key is an HMAC or an id, whose last 8 hex digits choose the
    partition.
    """

    topic: str
    key: str
    value: bytes


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key: records of one key keep their order. Raises Reject for a key that
    chooses none.
    """
    try:
        return int(key[-8:], 16) % partitions
    except ValueError:
        raise Reject("the record's key chooses no partition") from None
