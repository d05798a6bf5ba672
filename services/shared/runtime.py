"""How a service runs: its watchdog, retry with backoff, side tasks with a bounded shutdown, and the
points at which tests kill the process.
"""

import asyncio
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from types import FrameType
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
WATCH_S = 1.0  # between two looks of the watchdog
LAST_WORDS_S = 5.0  # that the end of a stalled process may take
MOST_FRAMES, MOST_TASKS = 30, 50  # that are logged then
EVENT_LOOP, PYTHON = "event loop", "interpreter"  # loops that the watchdog itself sees to

_passages_left: dict[str, int] = {}
_signals: dict[str, signal.Signals] = {}


def arm_fault(setting: str) -> None:
    """Arms `NAME:N[:stop]`: at the N-th passage of that fault point the process kills itself, or
    stops as a debugger or a frozen machine would stop it.
    """
    name, _, rest = setting.partition(":")
    count, _, kind = rest.partition(":")
    if name:
        _passages_left[name] = int(count or 1)
        _signals[name] = signal.SIGSTOP if kind == "stop" else signal.SIGKILL


def fault_point(name: str) -> None:
    """A point at which a test may kill or stop the process; does nothing unless it is armed."""
    if name in _passages_left:
        _passages_left[name] -= 1
        if _passages_left[name] == 0:
            os.kill(os.getpid(), _signals[name])


class Watchdog:
    """Ends the process when one of its loops gives no heartbeat for `limit` seconds; its supervisor
    starts it again.

    It is a thread, so it sees a blocked event loop too. What keeps the interpreter to itself keeps
    a thread from running: for that the thread sets an alarm ahead at each of its turns, whose
    handler runs also amid a regular expression; and behind the alarm faulthandler, which needs no
    interpreter.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._last: dict[str, float] = {}
        self._ended = threading.Event()

    def heartbeat(self, loop: str) -> Heartbeat:
        """Registers a loop and returns the function that it calls at every turn."""

        def heartbeat() -> None:
            self._last[loop] = time.monotonic()

        heartbeat()
        return heartbeat

    def rest(self) -> None:
        """A heartbeat of all loops, while they wait to be started."""
        self._last = dict.fromkeys(self._last, time.monotonic())

    def stalled(self) -> list[str]:
        """The loops whose last heartbeat is too long ago; sets the metric of their ages."""
        now, last_turns = time.monotonic(), dict(self._last)
        for loop, last in last_turns.items():
            LOOP_AGE.labels(loop).set(now - last)
        return [loop for loop, last in last_turns.items() if now - last > self._limit]

    async def watch(self) -> None:
        """Watches until cancelled, and ends the process when a loop has stalled. Belongs into the
        main thread.
        """
        turn = self.heartbeat(EVENT_LOOP)
        pause = min(WATCH_S, self._limit / 4)
        watched = asyncio.get_running_loop(), threading.get_ident()
        handled = signal.signal(signal.SIGALRM, lambda _, frame: self._end([PYTHON], frame))
        thread = threading.Thread(target=self._look, args=(pause, *watched), daemon=True)
        thread.start()
        try:
            while True:
                turn()
                await asyncio.sleep(pause)
        finally:
            self._ended.set()
            await asyncio.to_thread(thread.join)
            signal.signal(signal.SIGALRM, handled)

    def _look(self, pause: float, loop: asyncio.AbstractEventLoop, main_thread: int) -> None:
        """The thread: looks every `pause` seconds."""
        while not self._ended.is_set():
            signal.setitimer(signal.ITIMER_REAL, self._limit)
            faulthandler.dump_traceback_later(self._limit + LAST_WORDS_S, exit=True)
            if stalled := self.stalled():
                self._end(stalled, sys._current_frames().get(main_thread), loop)
            self._ended.wait(pause)
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()

    def _end(
        self,
        loops: list[str],
        frame: FrameType | None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Logs which loops have stalled, where the main thread is, and what tasks wait for."""
        last = threading.Timer(LAST_WORDS_S, os._exit, [EXIT_STALLED])  # a log may be blocked too
        last.daemon = True
        last.start()
        is_blocked = loop is None or EVENT_LOOP in loops
        stack = "".join(traceback.format_stack(frame)[-MOST_FRAMES:]) if is_blocked else ""
        waits = [] if loop is None or is_blocked else _waits(loop)
        log.error("loop_stalled", loops=loops, stack=stack, waits=waits)
        os._exit(EXIT_STALLED)


def _waits(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Where each task waits: the functions that await each other, the outermost first."""
    found = []
    for task in list(asyncio.all_tasks(loop))[:MOST_TASKS]:
        awaited: Any = task.get_coro()
        chain = []
        while frame := getattr(awaited, "cr_frame", None):
            chain.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
            awaited = getattr(awaited, "cr_await", None)
        found.append(" > ".join(chain))
    return sorted(found)


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
