"""The page Rehearsal: the running playbook on simulated people, by the command line in a process of
its own, one at a time and for a minute at most.
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import structlog
from fastapi import APIRouter, Form, Response

from services.scorer.ui.frame import Frame, see_other
from services.scorer.ui.rendering import HEADERS
from services.shared.clock import Clock
from services.shared.contracts.touch_reasons import REASON_SENTENCES
from services.shared.errors import Reject
from services.shared.http.acting import only

log = structlog.get_logger()
LIMIT_S = 60.0
REFRESH_S = 2
NICE = 10
MOST_OUTPUT = 1 << 20  # bytes of a line, which is never so long
COURSES = {"nurtured": "Nurtured by this playbook", "left_alone": "Left alone",
           "calendar": "Calendar drip of the same content"}  # fmt: skip
SVG = "image/svg+xml"


class Asked(NamedTuple):
    """How many people, for how many days."""

    leads: int = 300
    days: int = 180


class Result(NamedTuple):
    """What a rehearsal brought; `problem` says in a sentence why it brought nothing."""

    asked: Asked
    at: datetime
    summary: dict[str, Any] | None = None
    plot: str = ""
    problem: str = ""


class Rehearsals:
    """The rehearsal that runs, and the last one that did."""

    def __init__(self, playbook: Path, clock: Clock, limit_s: float = LIMIT_S) -> None:
        self._playbook, self._clock, self._limit_s = playbook, clock, limit_s
        self._task: asyncio.Task[None] | None = None
        self.share = 0.0
        self.last: Result | None = None

    @property
    def running(self) -> bool:
        """Whether one runs."""
        return self._task is not None and not self._task.done()

    def start(self, asked: Asked) -> None:
        """Starts one, unless one runs."""
        if not self.running:
            self.share = 0.0
            self._task = asyncio.create_task(self._run(asked))

    async def _run(self, asked: Asked) -> None:
        at = self._clock.now()
        try:
            with tempfile.TemporaryDirectory() as folder:
                self.last = await self._rehearsed(asked, at, Path(folder))
        except (OSError, ValueError) as error:
            log.warning("rehearsal_failed", reason=type(error).__name__)
            self.last = Result(asked, at, problem=f"it could not be run: {type(error).__name__}")

    async def _rehearsed(self, asked: Asked, at: datetime, folder: Path) -> Result:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.ops", "rehearse", "--json", "--progress",
            "--playbook", str(self._playbook), "--leads", str(asked.leads),
            "--days", str(asked.days), "--out", str(folder / "touches.jsonl"),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, limit=MOST_OUTPUT, start_new_session=True,
        )  # fmt: skip
        try:
            with suppress(OSError):  # scoring comes first
                os.setpriority(os.PRIO_PGRP, process.pid, NICE)
            async with asyncio.timeout(self._limit_s):
                printed, said = await asyncio.gather(_last(process.stdout), self._follow(process))
                await process.wait()
        except TimeoutError:
            slow = f"it took more than {self._limit_s:.0f} seconds; choose fewer people or days"
            return Result(asked, at, problem=slow)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            return Result(asked, at, problem=said or f"it ended with code {process.returncode}")
        summary: dict[str, Any] = json.loads(printed)
        plot = (folder / "rehearsal.svg").read_text("utf-8")
        return Result(asked, at, summary, plot)

    async def _follow(self, process: asyncio.subprocess.Process) -> str:
        """Reads progress; returns the last line that is none."""
        assert process.stderr is not None
        said = ""
        async for line in process.stderr:
            try:
                self.share = float(json.loads(line)["share"])
            except (ValueError, KeyError, TypeError):
                said = line.decode(errors="replace").strip() or said
        return said


async def _last(stream: asyncio.StreamReader | None) -> str:
    """The last line of a stream."""
    assert stream is not None
    last = ""
    async for line in stream:
        last = line.decode(errors="replace").strip() or last
    return last


class RehearsalRoutes:
    """Running a rehearsal, and what it brought."""

    def __init__(self, rehearsals: Rehearsals, frame: Frame) -> None:
        self._rehearsals, self._frame = rehearsals, frame

    def add_to(self, router: APIRouter) -> None:
        """Adds the routes."""
        router.add_api_route("/rehearsal", self.show)
        router.add_api_route(
            "/rehearsal", self.start, methods=["POST"], dependencies=[only("marketing", "admin")]
        )
        router.add_api_route("/rehearsal/plot", self.plot)

    async def show(self) -> Response:
        """The page; while one runs it loads itself again."""
        rehearsals = self._rehearsals
        response = self._frame.page(
            "rehearsal.html",
            here="rehearsal",
            running=rehearsals.running,
            percent=round(100 * rehearsals.share),
            last=rehearsals.last,
            asked=rehearsals.last.asked if rehearsals.last else Asked(),
            courses=COURSES,
            reasons=REASON_SENTENCES,
        )
        if rehearsals.running:
            response.headers["Refresh"] = f"{REFRESH_S}; url=/rehearsal"
        return response

    async def start(
        self,
        leads: Annotated[Literal["100", "300", "500"], Form()] = "300",
        days: Annotated[Literal["60", "180", "365"], Form()] = "180",
    ) -> Response:
        """Starts one; where one runs it goes on."""
        self._rehearsals.start(Asked(int(leads), int(days)))
        return see_other("/rehearsal")

    async def plot(self) -> Response:
        """The plot of the last one."""
        last = self._rehearsals.last
        if last is None or not last.plot:
            raise Reject(
                "no rehearsal has been run", where="plot", remedy="run one", kind="not-found"
            )
        return Response(last.plot, 200, HEADERS, SVG)
