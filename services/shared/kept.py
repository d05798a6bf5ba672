"""A result that takes long to work out, kept for a while."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
KEEP_S = 300.0
SLOW_S = 1.0  # to make
LATE = 12  # times `keep_s`


class Kept(Generic[T]):
    """The last result of `make`, kept for `keep_s`; what is made quickly is made again soon. Of
    what is slow the last result is given while the next is being made, until `LATE` times as long.
    """

    def __init__(self, make: Callable[[], Awaitable[T]], keep_s: float = KEEP_S) -> None:
        self._make, self._keep_s = make, keep_s
        self._until = self._took = 0.0
        self._found: T | None = None
        self._making: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The result; whoever asks meanwhile waits for the same one."""
        if self._found is not None and time.monotonic() < self._until:
            return self._found
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._make_it())
        is_late = time.monotonic() > self._until + LATE * self._keep_s
        if self._found is not None and self._took > SLOW_S and not is_late:
            return self._found
        return await asyncio.shield(self._making)

    async def _make_it(self) -> T:
        began = time.monotonic()
        self._found = await self._make()
        self._took = time.monotonic() - began
        self._until = time.monotonic() + min(self._keep_s, 100 * self._took)
        return self._found
