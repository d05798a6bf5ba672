"""The control: a scorer as toys are written. It applies, waits 50 ms, then commits the offset; it
knows no duplicates.
"""

import asyncio
import sys
from contextlib import suppress

import asyncpg
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from services.shared.contracts.events import INTERACTIONS


async def main(bootstrap: str, database: str) -> None:
    """Counts records for ever."""
    while True:
        consumer = AIOKafkaConsumer(
            INTERACTIONS,
            bootstrap_servers=bootstrap,
            group_id="naive",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=6000,
        )
        try:
            connection = await asyncpg.connect(database)
            await consumer.start()
            while True:
                batch = await consumer.getmany(timeout_ms=200, max_records=50)
                count = sum(map(len, batch.values()))
                if count:
                    await connection.execute("UPDATE naive SET counted = counted + $1", count)
                    await asyncio.sleep(0.05)
                    await consumer.commit()
        except (KafkaError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await asyncio.sleep(0.5)
        finally:
            with suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(consumer.stop(), 3)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
