"""The ids of topics, which aiokafka's own metadata request (up to version 5) does not ask for: a
topic that is deleted and created again has another one. Kafka gives them from 2.8 on (KIP-516).
"""

import uuid
from collections.abc import Iterable
from io import BytesIO
from typing import NamedTuple
from uuid import UUID

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

NO_ID = UUID(int=0)  # of a topic that is asked for by its name
METADATA_KEY, METADATA_VERSION = 3, 10
TEXT, TAGS = CompactString("utf-8"), ("tags", TaggedFields)


class Topic(NamedTuple):
    """One incarnation of a topic, and its partitions in order."""

    id: UUID
    partitions: tuple[int, ...]


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]  # aiokafka has no types
    """16 bytes."""

    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return uuid.UUID(bytes=data.read(16))


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = METADATA_KEY, METADATA_VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("node_id", Int32), ("host", TEXT), ("port", Int32), ("rack", TEXT), TAGS),
        ),
        ("cluster_id", TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", TEXT),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                TAGS,
            ),
        ),
        ("cluster_authorized_operations", Int32),
        TAGS,
    )


class _MetadataRequestStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY, API_VERSION, RESPONSE_TYPE = METADATA_KEY, METADATA_VERSION, _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", TEXT), TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        TAGS,
    )


class _MetadataRequest(Request[_MetadataRequestStruct]):  # type: ignore[misc]
    API_KEY = METADATA_KEY

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics: list[tuple[UUID, str, dict[int, bytes]]] = [
            (NO_ID, topic, {}) for topic in topics
        ]

    def build(self, struct: type[_MetadataRequestStruct]) -> _MetadataRequestStruct:
        return struct(self._topics, False, False, False, {})


async def topic_ids(client: AIOKafkaClient, topics: Iterable[str]) -> dict[str, UUID]:
    """The id of each of the topics that exists, by name. Raises as `described` does."""
    return {name: topic.id for name, topic in (await described(client, topics)).items()}


async def described(client: AIOKafkaClient, topics: Iterable[str]) -> dict[str, Topic]:
    """Those of the topics that exist, by name. Raises KafkaError, also where the broker is older
    than topic ids.
    """
    try:
        answer = await client.send(client.get_random_node(), _MetadataRequest(topics))
    except NotImplementedError as error:
        raise IncompatibleBrokerVersion("Kafka 2.8 or newer is needed") from error
    return {
        name: Topic(topic_id, tuple(sorted(number for _, number, *_ in partitions)))
        for code, name, topic_id, _, partitions, *_ in answer.topics
        if code == 0
    }
