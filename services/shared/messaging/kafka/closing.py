"""Closing aiokafka's clients in bounded time."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import structlog
from aiokafka.errors import KafkaError

log = structlog.get_logger()
CLOSE_S = 3.0


async def close(closing: Awaitable[Any]) -> None:
    """Awaits a client's `stop()`, which hangs while the broker is away, and logs its errors."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await closing
    except (KafkaError, OSError, TimeoutError, AttributeError, ValueError) as error:
        log.debug("kafka_close", error=type(error).__name__)
