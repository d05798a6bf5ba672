"""How a service lives: signals, side tasks, a watchdog, a bounded drain, and the points at which tests kill it."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from services.shared.errors import Retry
from services.shared.settings import Settings
from services.shared.telemetry import LOOP_AGE
from services.shared.wire import Strict

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
    """Watches loops: one that does not turn for `limit` seconds ends the process, whose supervisor starts it again."""

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


class _Server(uvicorn.Server):
    """uvicorn that leaves the signals to `serve`."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


async def serve(app: ASGIApp, settings: Settings, service: str, *tasks: Coroutine[Any, Any, Any]) -> None:
    """Serves HTTP and runs the loops until SIGTERM or SIGINT; a failed loop ends the service."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port_of(service),
        http=partial(Strict, patience=settings.header_seconds),  # type: ignore[arg-type]
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=5,
        timeout_keep_alive=65,
        server_header=False,
    )
    server = _Server(config)
    web = asyncio.create_task(server.serve())
    async with side_tasks(*tasks) as running:
        stopped = asyncio.create_task(stop.wait())
        log.info("started", port=config.port)
        done, _ = await asyncio.wait([web, stopped, *running], return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in done if task is not stopped]
        server.handle_exit(signal.SIGTERM, None)  # tells streams too, which would hold the drain up
        await asyncio.wait([web], timeout=DRAIN_SECONDS)
    for task in failed:
        if error := task.exception():
            log.error("loop_failed", exc_info=error)
            raise SystemExit(1)
    if failed and not stop.is_set():
        log.error("loop_ended")
        raise SystemExit(1)
    log.info("stopped")
