"""The end of a service: what it is told, and how long its loops have."""

import asyncio
import os
import signal
from contextlib import suppress

from services.shared.http.server import serve
from services.shared.settings import Settings
from tests.support.ports import free_port


async def _app(scope: object, receive: object, send: object) -> None:
    """An application that nobody asks."""


async def test_a_signal_is_told_at_once_and_the_loops_have_their_time_to_end() -> None:
    stopped, ended = asyncio.Event(), asyncio.Event()

    async def sending() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        assert stopped.is_set()
        await asyncio.sleep(0.3)
        ended.set()

    settings = Settings(port=free_port())
    serving = serve(_app, settings, "nurture", sending(), on_stop=stopped.set, drain_s=5)  # type: ignore[arg-type]
    running = asyncio.create_task(serving)
    await asyncio.sleep(0.3)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 10)
    assert ended.is_set()
