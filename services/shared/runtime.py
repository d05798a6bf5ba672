"""How a service lives: signals, side tasks, a watchdog, a bounded drain, and the points at which
tests kill it.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

from services.shared.errors import Retry
from services.shared.telemetry import LOOP_AGE

log = structlog.get_logger()
Beat = Callable[[], None]
DRAIN_SECONDS = 10.0

_fault: dict[str, int] = {}


def arm_fault(setting: str) -> None:
    """Arms `NAME:N`: the N-th passage of that point is the process's last instant."""
    name, _, count = setting.partition(":")
    if name:
        _fault[name] = int(count or 1)


def fault_point(name: str) -> None:
    """Where a test may kill the process; free otherwise."""
    if name in _fault:
        _fault[name] -= 1
        if _fault[name] == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Pulse:
    """Watches loops: one that does not turn for `limit` seconds ends the process, whose supervisor
    starts it again.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._turned: dict[str, float] = {}

    def beat(self, loop: str) -> Beat:
        """The function that this loop calls at every turn."""

        def turn() -> None:
            self._turned[loop] = time.monotonic()

        turn()
        return turn

    def stuck(self) -> list[str]:
        """Loops that have not turned in time."""
        now = time.monotonic()
        for loop, turned in self._turned.items():
            LOOP_AGE.labels(loop).set(now - turned)
        return [loop for loop, turned in self._turned.items() if now - turned > self._limit]

    async def watch(self) -> None:
        """Ends the process when a loop hangs."""
        while True:
            await asyncio.sleep(1)
            if hung := self.stuck():
                log.error("loop_hangs", loops=hung)
                os._exit(70)


async def patiently(work: Callable[[], Awaitable[Any]], what: str, beat: Beat | None = None) -> Any:
    """Repeats `work` while it raises Retry, waiting 0.2 to 5 seconds."""
    wait = 0.2
    while True:
        try:
            return await work()
        except Retry as error:
            log.warning("waiting", what=what, reason=str(error))
            if beat:
                beat()
            await asyncio.sleep(wait)
            wait = min(wait * 2, 5.0)


@asynccontextmanager
async def side_tasks(*tasks: Coroutine[Any, Any, Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Runs tasks beside the body and cancels them after it."""
    running = [asyncio.create_task(task) for task in tasks]
    try:
        yield running
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=DRAIN_SECONDS)
