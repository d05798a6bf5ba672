"""How a service runs: its watchdog, retry with backoff, side tasks with a bounded shutdown, and the
points at which tests kill the process.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

from services.shared.errors import Retry
from services.shared.telemetry import LOOP_AGE

log = structlog.get_logger()
Heartbeat = Callable[[], None]  # what a loop calls at every turn
T = TypeVar("T")
DRAIN_SECONDS = 10.0  # what is under way at the end may take so long
RETRY_FIRST_S, RETRY_LONGEST_S = 0.2, 5.0
REFRESH_S = 0.8  # so that what has changed holds within a second
EXIT_STALLED = 70  # the exit status of a process whose loop has stalled: EX_SOFTWARE of sysexits.h

_passages_left: dict[str, int] = {}


def arm_fault(setting: str) -> None:
    """Arms `NAME:N`: the process kills itself at the N-th passage of that fault point."""
    name, _, count = setting.partition(":")
    if name:
        _passages_left[name] = int(count or 1)


def fault_point(name: str) -> None:
    """A point at which a test may kill the process; does nothing unless it is armed."""
    if name in _passages_left:
        _passages_left[name] -= 1
        if _passages_left[name] == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Watchdog:
    """Ends the process when one of its loops gives no heartbeat for `limit` seconds; its supervisor
    starts it again.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._last: dict[str, float] = {}

    def heartbeat(self, loop: str) -> Heartbeat:
        """Registers a loop and returns the function that it calls at every turn."""

        def heartbeat() -> None:
            self._last[loop] = time.monotonic()

        heartbeat()
        return heartbeat

    def stalled(self) -> list[str]:
        """The loops whose last heartbeat is too long ago; sets the metric of their ages."""
        now = time.monotonic()
        for loop, last in self._last.items():
            LOOP_AGE.labels(loop).set(now - last)
        return [loop for loop, last in self._last.items() if now - last > self._limit]

    async def watch(self) -> None:
        """Looks every second, and ends the process when a loop has stalled."""
        while True:
            await asyncio.sleep(1)
            if stalled := self.stalled():
                log.error("loop_stalled", loops=stalled)
                os._exit(EXIT_STALLED)


async def retry_with_backoff(
    work: Callable[[], Awaitable[T]], what: str, heartbeat: Heartbeat | None = None
) -> T:
    """The result of `work`, which is repeated while it raises Retry, after 0.2 to 5 seconds."""
    wait = RETRY_FIRST_S
    while True:
        try:
            return await work()
        except Retry as error:
            log.warning("retrying", what=what, reason=str(error))
            if heartbeat:
                heartbeat()
            await asyncio.sleep(wait)
            wait = min(wait * 2, RETRY_LONGEST_S)


async def refresh_every_second(
    load: Callable[[], Awaitable[None]], heartbeat: Heartbeat, event: str
) -> None:
    """Calls `load` until cancelled. While it raises Retry what was loaded before stays, and a new
    reason is logged as `event`.
    """
    logged = ""
    while True:
        heartbeat()
        try:
            await load()
            logged = ""
        except Retry as error:
            if str(error) != logged:
                log.warning(event, reason=str(error))
            logged = str(error)
        await asyncio.sleep(REFRESH_S)


@asynccontextmanager
async def side_tasks(
    *tasks: Coroutine[Any, Any, Any], drain_s: float = DRAIN_SECONDS
) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Runs tasks beside the body, cancels them after it, and waits for at most `drain_s`."""
    running = [asyncio.create_task(task) for task in tasks]
    try:
        yield running
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=drain_s)
