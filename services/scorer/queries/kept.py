"""A result that takes long to work out, kept for a while."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
KEEP_S = 300.0


class Kept(Generic[T]):
    """The last result of `make`; whoever asks meanwhile waits for the same one."""

    def __init__(self, make: Callable[[], Awaitable[T]], keep_s: float = KEEP_S) -> None:
        self._make, self._keep_s = make, keep_s
        self._lock, self._until = asyncio.Lock(), 0.0
        self._found: T | None = None

    async def get(self) -> T:
        """The result, no older than `keep_s`; what is made quickly is made again soon."""
        async with self._lock:
            if self._found is None or time.monotonic() >= self._until:
                began = time.monotonic()
                self._found = await self._make()
                took = time.monotonic() - began
                self._until = time.monotonic() + min(self._keep_s, 100 * took)
            return self._found
