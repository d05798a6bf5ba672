"""Whether the broker answers, asked every second."""

import asyncio
import time

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from services.shared.contracts.events import TOPICS
from services.shared.errors import Retry
from services.shared.messaging.kafka.closing import close
from services.shared.messaging.kafka.topic_ids import topic_ids
from services.shared.runtime import Heartbeat, refresh_every_second
from services.shared.settings import Settings

ASK_S = 3.0


class BrokerWatch:
    """Asks for the topics over a connection of its own; `problem` is why nothing can be published
    or consumed, in a sentence, and '' where it can.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: AIOKafkaClient | None = None
        self._answered = time.monotonic()
        self.problem = "the broker was not asked yet"

    async def watch(self, heartbeat: Heartbeat) -> None:
        """Asks until cancelled."""
        try:
            await refresh_every_second(self.ask, heartbeat, "broker_away")
        finally:
            await self.close()

    async def ask(self) -> None:
        """Asks once; raises Retry with the problem."""
        try:
            async with asyncio.timeout(ASK_S):
                found = await topic_ids(await self._connected(), TOPICS)
        except (KafkaError, OSError, TimeoutError) as error:
            silent = time.monotonic() - self._answered
            self.problem = f"the broker has not answered for {silent:.0f} s"
            await self.close()
            raise Retry(f"the broker is away: {type(error).__name__}") from error
        self._answered = time.monotonic()
        missing = sorted(set(TOPICS) - set(found))
        self.problem = (
            f"topics are missing: {', '.join(missing)}; run `ripeline provision`" if missing else ""
        )
        if missing:
            raise Retry(self.problem)

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            self._client = AIOKafkaClient(bootstrap_servers=self._settings.kafka_bootstrap)
            await self._client.bootstrap()
        return self._client

    async def close(self) -> None:
        """Closes the connection."""
        client, self._client = self._client, None
        if client:
            await close(client.close())
