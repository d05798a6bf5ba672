"""The limits that HTTP is measured against: plain FastAPI routes with the same producer, engine and
server settings as ours.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Request

from services.shared.db import open_engine, rows
from services.shared.messaging.kafka.publisher import BATCH_BYTES
from services.shared.settings import Settings

TOPIC = "bench.limit"
WORKERS = 4  # batches on their way at once, as many as the driver keeps at ingest


def create_app(settings: Settings) -> FastAPI:
    """Three routes, each the least that does the job."""
    engine = open_engine(settings)
    producer: AIOKafkaProducer

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        nonlocal producer
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka_bootstrap,
            enable_idempotence=True,
            acks="all",
            linger_ms=2,
            max_batch_size=BATCH_BYTES,
            compression_type=settings.kafka_compression,
        )
        await producer.start()
        yield
        await producer.stop()
        await engine.dispose()

    app = FastAPI(lifespan=life, openapi_url=None)

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        """The routes may be asked."""
        return {"status": "ready"}

    @app.post("/produce")
    async def produce(request: Request) -> dict[str, int]:
        """P1: one produce, acknowledged."""
        await producer.send_and_wait(TOPIC, await request.body())
        return {"accepted": 1}

    @app.post("/send")
    async def send(request: Request, seconds: float) -> dict[str, float]:
        """P2: `send()` of each line of the body, over and over, without HTTP in between; records a
        second.
        """
        records = (await request.body()).split(b"\n")
        began = time.perf_counter()
        sent = await asyncio.gather(
            *(_keep_sending(producer, records, began + seconds) for _ in range(WORKERS))
        )
        return {"rate": sum(sent) / (time.perf_counter() - began)}

    @app.get("/leads/{lead_id}")
    async def lead(lead_id: uuid.UUID) -> dict[str, Any]:
        """P9: one SELECT by primary key."""
        async with engine.connect() as connection:
            found = await rows(
                connection,
                "SELECT id, version, excluded, created_at FROM scorer.lead WHERE id = :id",
                id=lead_id,
            )
        return dict(found[0]._mapping)

    return app


async def _keep_sending(producer: AIOKafkaProducer, records: list[bytes], until: float) -> int:
    sent = 0
    while time.perf_counter() < until:
        await asyncio.gather(*[await producer.send(TOPIC, record) for record in records])
        sent += len(records)
    return sent


if __name__ == "__main__":
    config = Settings()
    uvicorn.run(
        create_app(config),
        host=config.host,
        port=config.port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        timeout_keep_alive=65,
        server_header=False,
    )
