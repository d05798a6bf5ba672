"""Serves HTTP beside a service's loops until a signal, and drains within a bounded time."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from services.shared.errors import Reject, Restart
from services.shared.http.wire import LimitedHttpProtocol
from services.shared.runtime import DRAIN_SECONDS, side_tasks
from services.shared.settings import Settings

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """uvicorn without its own handling of signals, which `serve` does."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


async def serve(
    app: ASGIApp,
    settings: Settings,
    service: str,
    *tasks: Coroutine[Any, Any, Any],
    on_stop: Callable[[], None] = lambda: None,
    drain_s: float = DRAIN_SECONDS,
) -> None:
    """Serves HTTP and runs the loops until SIGTERM or SIGINT; a failed loop ends the service.

    `on_stop` is called at once then; the loops have `drain_s` to end after they are cancelled.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    config = _config(app, settings, service)
    server = _Server(config)
    web = asyncio.create_task(server.serve())
    async with side_tasks(*tasks, drain_s=drain_s) as running:
        stopped = asyncio.create_task(stop.wait())
        log.info("started", port=config.port)
        done, _ = await asyncio.wait([web, stopped, *running], return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in done if task is not stopped]
        on_stop()
        server.handle_exit(signal.SIGTERM, None)  # also ends streams, which would hold up the drain
        await asyncio.wait([web], timeout=DRAIN_SECONDS)
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(name)
    for task in failed:
        if error := task.exception():
            if isinstance(error, Reject | Restart):
                raise error  # `run` says it in a sentence, the service starts again
            log.error("loop_failed", exc_info=error)
            raise SystemExit(1)
    if failed and not stop.is_set():
        log.error("loop_ended")
        raise SystemExit(1)
    log.info("stopped")


def _config(app: ASGIApp, settings: Settings, service: str) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port_of(service),
        http=partial(LimitedHttpProtocol, header_seconds=settings.header_seconds),  # type: ignore[arg-type]
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=5,
        timeout_keep_alive=65,
        server_header=False,
    )
