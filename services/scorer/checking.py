"""The check of matured outcomes: what it found is kept a day, and a process of its own makes it
every night.
"""

import asyncio
import json
import os
import sys
import time
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scorer import archive
from services.scorer.learning import monitor
from services.scorer.model.fold import Fold
from services.scorer.models import Models, current
from services.shared.clock import Clock
from services.shared.db import is_transient, open_engine, rows, value
from services.shared.playbook.loading import load
from services.shared.runtime import Heartbeat
from services.shared.settings import Settings
from services.shared.telemetry import MODEL_ALARMS, MODEL_CHECKED

log = structlog.get_logger()
NICE = 10
LOOK_S, LOOKS_APART = 5.0, 12
FIRST_S = 300.0  # after the start, which has other things to do
DUE = (
    "SELECT coalesce(max(checked_at) < clock_timestamp() - interval '24 hours', true) "
    "FROM scorer.model_check"
)
LOCK_KEY = 7165  # of the advisory lock that one check at a time holds
ALARMS = ("calibration", "mix", "silent")


class Checked(NamedTuple):
    """What a check found, on which day and when, of which version."""

    day: str
    version: str
    checked_at: datetime
    found: dict[str, Any]


async def checks(connection: AsyncConnection, most: int = 400) -> list[Checked]:
    """The last checks, the newest first."""
    found = await rows(
        connection,
        "SELECT day, version, checked_at, body FROM scorer.model_check ORDER BY day DESC "
        "LIMIT :most",
        most=most,
    )
    return [
        Checked(row.day.isoformat(), row.version, row.checked_at, json.loads(row.body))
        for row in found
    ]


async def alike(connection: AsyncConnection) -> dict[str, Any] | None:
    """What the last check found came of leads by their likelihood; None before one that tells."""
    found = await rows(
        connection,
        "SELECT CAST(body AS json) -> 'alike' AS alike FROM scorer.model_check "
        "ORDER BY day DESC LIMIT 1",
    )
    return found[0].alike if found else None


async def check(settings: Settings) -> dict[str, Any] | None:
    """Checks the running model now, keeps what was found, and puts a recalibrated version in use;
    None where another process is at it.
    """
    engine = open_engine(settings, "check")
    try:
        async with engine.connect() as connection:
            if not await value(connection, "SELECT pg_try_advisory_lock(:key)", key=LOCK_KEY):
                return None
            in_use = await current(engine, load(settings.playbook))
            fold = Fold(in_use.playbook)
            await connection.commit()
            await connection.execution_options(isolation_level="REPEATABLE READ")
            found = await archive.read(connection, fold, Clock.parse(settings.clock).now_us())
            checked = monitor.check(fold, found.found, found.until, found.sources)
            await connection.rollback()
            await _keep(engine, in_use.version, checked)
            return checked.figures | {"version": in_use.version}
    finally:
        await engine.dispose()


async def _keep(engine: AsyncEngine, version: str, checked: monitor.Check) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO scorer.model_check (day, version, body) "
                "VALUES (current_date, :version, :body) ON CONFLICT (day) DO UPDATE SET "
                "version = excluded.version, body = excluded.body, checked_at = clock_timestamp()"
            ),
            {"version": version, "body": json.dumps(checked.figures)},
        )
        models = Models(connection)
        if checked.recalibrated and await models.in_use() == version:
            await models.add(checked.recalibrated)
            await models.use(checked.recalibrated.version, "recalibrated on matured outcomes")


class NightlyCheck:
    """Starts the check in a process of its own when the last one is a day old; tells the metrics
    what it found.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def run(self, heartbeat: Heartbeat) -> None:
        """Looks until cancelled."""
        began = time.monotonic()
        while True:
            heartbeat()
            try:
                if await self._look() and time.monotonic() - began > FIRST_S:
                    await self._check(heartbeat)
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("model_check_waits", reason=type(error).__name__)
            for _ in range(LOOKS_APART):
                heartbeat()
                await asyncio.sleep(LOOK_S)

    async def _look(self) -> bool:
        """Whether a check is due."""
        async with self._engine.connect() as connection:
            due = bool(await value(connection, DUE))
            last = await checks(connection, most=1)
        for checked in last:
            MODEL_CHECKED.set(checked.checked_at.timestamp())
            kinds = [alarm["kind"] for alarm in checked.found["alarms"]]
            for kind in ALARMS:
                MODEL_ALARMS.labels(kind).set(kinds.count(kind))
        return due

    async def _check(self, heartbeat: Heartbeat) -> None:
        """Runs the process to its end; ends it when cancelled."""
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__)
        try:
            while True:
                heartbeat()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        code = await process.wait()
                    break
        except BaseException:
            with suppress(ProcessLookupError):
                process.terminate()
            raise
        log.info("model_checked", code=code, seconds=round(time.monotonic() - began, 1))


if __name__ == "__main__":
    os.nice(NICE)
    asyncio.run(check(Settings.read()))
