"""Starts again what dies, and says where that cannot help; keeps logs below a size."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from services.ops.embedded.child import ChildProcess
from services.ops.embedded.postgres import EmbeddedPostgres

SHORT_LIFE_S = 2.0  # a service that dies sooner than this waits a moment before it is started again
RESTART_PAUSE_S = 0.5
POSTGRES_POLL_S = 0.5
LOG_POLL_S = 2.0
LOG_BYTES = 5 * 1024 * 1024  # of one log; as much of it stays as was written before


class Restarted(NamedTuple):
    """A part that died and was started again, under its new process id."""

    service: str
    pid: int


class Supervisor:
    """Watches processes; `failed` is set, with the `reason`, when one cannot be started again."""

    def __init__(self, on_restart: Callable[[Restarted], None]) -> None:
        self.failed = asyncio.Event()
        self.reason = ""
        self._on_restart = on_restart
        self._tasks: list[asyncio.Task[None]] = []

    def watch_service(self, child: ChildProcess) -> None:
        """Starts a service again, on its port, whenever it dies."""
        self._watch(self._restart_service(child))

    def watch_postgres(self, postgres: EmbeddedPostgres) -> None:
        """Starts PostgreSQL again, on its data, whenever it dies."""
        self._watch(self._restart_postgres(postgres))

    def watch_broker(self, broker: ChildProcess) -> None:
        """With the in-memory broker all that waits in it is lost, so it is not started again."""
        self._watch(self._wait_for_broker(broker))

    def watch_logs(self, logs: Callable[[], Iterable[Path]]) -> None:
        """Keeps each of these files, and one before it, below a size."""
        self._watch(_rotate_all(logs))

    async def stop(self) -> None:
        """Watches no more. May be called twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _watch(self, watching: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(watching))

    async def _restart_service(self, child: ChildProcess) -> None:
        loop = asyncio.get_running_loop()
        while child.process is not None:
            started = loop.time()
            await child.process.wait()
            if loop.time() - started < SHORT_LIFE_S:
                await asyncio.sleep(RESTART_PAUSE_S)
            await child.start()
            self._on_restart(Restarted(child.name, child.pid))

    async def _restart_postgres(self, postgres: EmbeddedPostgres) -> None:
        while True:
            await asyncio.sleep(POSTGRES_POLL_S)
            if postgres.running:
                continue
            try:
                postgres.start()
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                return self._fail(f"PostgreSQL died and did not start again: {error}")
            self._on_restart(Restarted("postgres", postgres.pid))

    async def _wait_for_broker(self, broker: ChildProcess) -> None:
        if broker.process is not None:
            await broker.process.wait()
            self._fail(f"the in-memory broker died, and what it held with it:\n{broker.log_end()}")

    def _fail(self, reason: str) -> None:
        self.reason = reason
        self.failed.set()


async def _rotate_all(logs: Callable[[], Iterable[Path]]) -> None:
    while True:
        await asyncio.sleep(LOG_POLL_S)
        for log in logs():
            with suppress(OSError):
                rotate(log)


def rotate(log: Path, most: int = LOG_BYTES) -> None:
    """Moves a log that is larger than this to `….1`; the process that appends to it goes on in the
    emptied file.
    """
    if log.stat().st_size > most:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)
