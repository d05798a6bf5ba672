"""Service processes of a test: started with their own settings, watched, killed for real, started
again on their ports.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from services.ops.embedded.processes import tied
from services.shared.settings import ROOT, Settings
from tests.support import present
from tests.support.ports import free_port


def settings_of(variables: Mapping[str, str]) -> Settings:
    """The settings that a process with these variables has."""
    fields: dict[str, Any] = {
        name.removeprefix("RIPELINE_").lower(): value for name, value in variables.items()
    }
    return Settings(**fields)


class Process:
    """One service process; `faults` arm named points, the first in its first life, each other in
    the life after the death at the one before.
    """

    def __init__(self, module: str, variables: Mapping[str, str], log: Path, *faults: str) -> None:
        self.module, self.log = module, log
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._variables = dict(variables) | {"RIPELINE_PORT": str(self.port)}
        self._faults, self._is_armed = [fault for fault in faults if fault], True
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.deaths = 0
        self.died_by_fault = ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def _launch(self) -> None:
        variables = (
            present.environment()
            | self._variables
            | ({"RIPELINE_FAULT": self._faults[0]} if self._faults else {})
        )
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *tied([sys.executable, "-m", self.module]),
                env=variables,
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    async def start(self) -> None:
        """Starts it and keeps it alive, as Compose would."""
        await self._launch()
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            code = await self._process.wait()
            self.deaths += 1
            if not self._is_armed:
                self._is_armed = True
            elif self._faults and code == -signal.SIGKILL:
                self.died_by_fault = self._faults.pop(0)
            await asyncio.sleep(0.3)
            await self._launch()

    async def ready(self, seconds: float = 40) -> None:
        """Waits until the service says that it is ready."""
        async with aiohttp.ClientSession() as http:
            for _ in range(int(seconds * 10)):
                try:
                    async with http.get(
                        f"{self.url}/health/ready", timeout=aiohttp.ClientTimeout(2)
                    ) as answer:
                        if answer.status == 200:
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(0.1)
        raise AssertionError(f"{self.module} is not ready:\n{self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def signal(self, number: int) -> None:
        """Sends a signal to the process of now."""
        if self._process and self._process.returncode is None:
            os.kill(self._process.pid, number)

    @property
    def is_to_die(self) -> bool:
        """Whether it has not died at all its points yet."""
        return bool(self._faults)

    def arm(self, fault: str, **variables: str) -> None:
        """Kills it; in its next life a named point is armed, and these settings hold."""
        self._faults, self._is_armed, self.died_by_fault = [fault], False, ""
        self._variables |= variables
        self.signal(signal.SIGKILL)

    async def stop(self) -> int | None:
        """SIGTERM and the exit code."""
        if self._keeper:
            self._keeper.cancel()
        if self._process and self._process.returncode is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 20)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        return self._process.returncode if self._process else None
