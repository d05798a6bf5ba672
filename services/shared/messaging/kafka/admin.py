"""What the broker has: its topics, and where their partitions end."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError

from services.shared.contracts.events import TOPICS
from services.shared.errors import Retry
from services.shared.messaging.kafka.closing import close
from services.shared.messaging.kafka.records import Log
from services.shared.messaging.kafka.topic_ids import described
from services.shared.settings import Settings

ASK_S = 10.0
CREATE_TOPICS_S = 20.0
RETENTION_MS = 14 * 24 * 3600 * 1000


class EndOffsets:
    """Asks the broker for the end offsets of its partitions, over one connection; an answer may
    take `ask_s` seconds.
    """

    def __init__(self, settings: Settings, ask_s: float = ASK_S) -> None:
        self._settings, self._ask_s = settings, ask_s
        self._consumer: AIOKafkaConsumer | None = None

    async def of(self, topics: Sequence[str]) -> dict[Log, int]:
        """The next offset of every partition of the topics. Raises Retry while the broker is away,
        has not all of the topics, or gives them other ids or partitions meanwhile.
        """
        try:
            async with asyncio.timeout(self._ask_s):
                return await self._ask(topics)
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            raise Retry(f"the broker is away: {type(error).__name__}") from error
        except Retry:
            await self.close()
            raise

    async def _ask(self, topics: Sequence[str]) -> dict[Log, int]:
        consumer = await self._connected()
        found = await described(consumer._client, topics)
        if missing := [topic for topic in topics if topic not in found]:
            raise Retry(f"topics are missing: {', '.join(missing)}; run `ripeline provision`")
        ends = await consumer.end_offsets(
            [
                TopicPartition(name, part)
                for name, topic in found.items()
                for part in topic.partitions
            ]
        )
        if await described(consumer._client, topics) != found:
            raise Retry("topics were changed meanwhile")
        return {
            Log(part.topic, found[part.topic].id, part.partition): end for part, end in ends.items()
        }

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            # subscribed to nothing: a fetch would hold up what is asked over its connection
            self._consumer = AIOKafkaConsumer(
                bootstrap_servers=self._settings.kafka_bootstrap,
                enable_auto_commit=False,
                metadata_max_age_ms=5_000,
            )
            await self._consumer.start()
            await self._consumer._client.set_topics(TOPICS)
        return self._consumer

    async def close(self) -> None:
        """Closes the connection."""
        consumer, self._consumer = self._consumer, None
        if consumer:
            await close(consumer.stop())


async def create_topics(settings: Settings) -> list[str]:
    """Creates the missing topics and returns their names. A broker that creates topics on first use
    (the in-memory one) is asked for them instead. Raises Retry while the broker is away.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    try:
        async with asyncio.timeout(CREATE_TOPICS_S):
            await admin.start()
            existing = set(await admin.list_topics())
            config = {"retention.ms": str(RETENTION_MS), "cleanup.policy": "delete"}
            missing = [
                NewTopic(
                    t, settings.kafka_partitions, settings.kafka_replication, topic_configs=config
                )
                for t in TOPICS
                if t not in existing
            ]
            with suppress(TopicAlreadyExistsError):
                if missing:
                    await admin.create_topics(missing)
            return [topic.name for topic in missing]
    except AttributeError as error:  # aiokafka's answer to a cluster without controller
        return await _topics_on_first_use(settings, error)
    except (KafkaError, OSError, TimeoutError) as error:
        raise Retry(f"the broker is away: {type(error).__name__}") from error
    finally:
        await close(admin.close())


async def _topics_on_first_use(settings: Settings, error: Exception) -> list[str]:
    """All topics, of a broker that creates them when they are asked for. Raises Retry where it did
    not: then it is a cluster that has no controller yet.
    """
    ends = EndOffsets(settings)
    try:
        await ends.of(TOPICS)
    except Retry:
        raise Retry("the broker has no controller yet") from error
    finally:
        await ends.close()
    return list(TOPICS)
