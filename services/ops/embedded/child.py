"""One child process of ours: start, stop, the end of its log, and whether it is ready."""

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from services.ops.embedded.processes import tied
from services.ops.embedded.spec import HOST
from services.ops.embedded.state import SystemFailed
from services.shared.settings import ROOT

READY_S = 60.0
GRACE_S = 35.0  # between SIGTERM and SIGKILL: a mail on its way may take 20 s
LOG_LINES = 30  # of the end of a log that a failure shows


@dataclass
class ChildProcess:
    """A Python process with its log; `port` is where it listens, 0 for nowhere."""

    name: str
    arguments: list[str]
    environ: dict[str, str]
    log: Path
    port: int = 0
    process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """0 before the start."""
        return self.process.pid if self.process else 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    @property
    def has_ended(self) -> bool:
        """Whether it does not run."""
        return self.process is None or self.process.returncode is not None

    async def start(self, stdout: int | None = None) -> asyncio.subprocess.Process:
        """Starts it in a session of its own, so that Ctrl-C reaches us alone; it ends when we end.

        `stdout` is as for asyncio's subprocesses, the log where it is None.
        """
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *tied([sys.executable, *self.arguments]),
                env=self.environ,
                cwd=ROOT,
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout or log,
                stderr=log,
            )
        return self.process

    async def stop(self) -> None:
        """SIGTERM, and after `GRACE_S` SIGKILL."""
        if self.process is None or self.has_ended:
            return
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(GRACE_S):
                await self.process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()

    def log_end(self) -> str:
        """The last lines of its log."""
        if not self.log.exists():
            return ""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
        return "\n".join(f"  {line}" for line in lines)


async def wait_until_ready(http: aiohttp.ClientSession, child: ChildProcess) -> None:
    """Returns once a service says that it is ready. Raises `SystemFailed` with the end of its
    log.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + READY_S
    while loop.time() < give_up:
        if child.has_ended:
            raise SystemFailed(f"{child.name} ended before it was ready:\n{child.log_end()}")
        with suppress(aiohttp.ClientError, TimeoutError):
            async with http.get(
                f"{child.url}/health/ready", timeout=aiohttp.ClientTimeout(2)
            ) as response:
                if response.status == 200:
                    return
        await asyncio.sleep(0.1)
    raise SystemFailed(f"{child.name} was not ready after {READY_S:.0f} s:\n{child.log_end()}")


async def broker_address(broker: ChildProcess) -> str:
    """What the in-memory broker, started with a pipe, prints in its first line. Raises
    `SystemFailed`.
    """
    assert broker.process is not None
    assert broker.process.stdout is not None
    try:
        async with asyncio.timeout(READY_S):
            line = await broker.process.stdout.readline()
        return str(json.loads(line)["bootstrap"])
    except (TimeoutError, ValueError, KeyError):
        raise SystemFailed(f"the in-memory broker did not start:\n{broker.log_end()}") from None
