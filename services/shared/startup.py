"""How a service starts: its settings, its log, and a database that is the right one; or one
sentence on why it does not.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
import uvloop
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared import installation
from services.shared.errors import Reject, Retry
from services.shared.logs import configure_logs, log_what_ends_us
from services.shared.playbook.loading import InvalidFile
from services.shared.runtime import Watchdog, arm_fault
from services.shared.settings import Settings

log = structlog.get_logger()
EXIT_CONFIG = 78  # the exit status of what cannot start as it is set up: EX_CONFIG of sysexits.h
PAUSE_S = 1.0

Task = Coroutine[Any, Any, Any]


def run(service: str, main: Callable[[Settings], Task]) -> None:
    """Runs a service until its end; what people can mend is one line of the log and EXIT_CONFIG."""
    configure_logs(service, "info")
    log_what_ends_us()
    try:
        settings = Settings.read()
        settings.require_pepper()
        configure_logs(service, settings.log_level)
        arm_fault(settings.fault)
        uvloop.run(main(settings))
        return
    except InvalidFile as broken:
        problem = (
            f"the playbook is broken; `ripeline playbook check` says it all: {broken.in_short()}"
        )
    except Reject as reject:
        problem = str(reject)
    log.error("not_started", problem=problem)
    sys.exit(EXIT_CONFIG)


def after_check(
    engine: AsyncEngine, settings: Settings, watchdog: Watchdog, *tasks: Task
) -> list[Task]:
    """The tasks, to be begun once the database is there and the right one; and what waits for that,
    which raises Reject where it is another one's.
    """
    checked = asyncio.Event()

    async def wait_for_database() -> None:
        while not checked.is_set():
            watchdog.rest()
            try:
                await installation.check(engine, settings)
                checked.set()
            except Retry as error:
                log.warning("database_waits", reason=str(error))
                await asyncio.sleep(PAUSE_S)
        await asyncio.Event().wait()

    async def begin(task: Task) -> None:
        try:
            await checked.wait()
        except BaseException:
            task.close()
            raise
        await task

    return [wait_for_database(), *map(begin, tasks)]
