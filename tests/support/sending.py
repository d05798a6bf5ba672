"""A process of nurture that sends what is due and ends: started, and killed, by tests."""

import asyncio
import multiprocessing
from collections.abc import Callable
from datetime import datetime
from typing import Any

from services.nurture.delivery import Delivery
from services.nurture.rules.grounds import Rules
from services.nurture.scheduler import Scheduler
from services.shared.clock import Clock, to_us
from services.shared.db import open_engine
from services.shared.logs import configure_logs
from services.shared.playbook.sections import Playbook
from services.shared.runtime import arm_fault
from services.shared.settings import Settings

LONGEST_S = 60
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


class At(Clock):
    """A clock that stands."""

    moment: datetime

    def now_us(self) -> int:
        return to_us(type(self).moment)


class OpenGate:
    """A gate that waits for nothing."""

    async def is_open(self, wait_s: float = 0) -> bool:
        return True

    async def refusals_are_linked(self, spools: Any, wait_s: float = 0) -> bool:
        return True


async def send_due(
    settings: Settings,
    playbook: Playbook,
    at: datetime,
    fault: str = "",
    started: Callable[[int], None] = lambda pid: None,
) -> int | None:
    """Sends what is due at this moment in a process of its own, which dies at a fault point;
    `started` gets its number. Returns its exit code.
    """
    process = _processes.Process(target=_main, args=(settings.model_dump(), playbook, at, fault))
    process.start()
    started(process.pid or 0)
    await asyncio.to_thread(process.join, LONGEST_S)
    code = process.exitcode
    process.kill()
    process.join()
    process.close()
    return code


def _main(fields: dict[str, Any], playbook: Playbook, at: datetime, fault: str) -> None:
    configure_logs("nurture", "error")
    arm_fault(fault)
    asyncio.run(_send(Settings(**fields), playbook, at))


async def _send(settings: Settings, playbook: Playbook, at: datetime) -> None:
    engine, clock = open_engine(settings), type("Here", (At,), {"moment": at})()
    delivery = Delivery(settings, engine, playbook, clock, lambda: None)
    rules = Rules.of(playbook, sink=True)
    gate: Any = OpenGate()
    scheduler = Scheduler(settings, engine, rules, clock, gate, delivery, lambda: None)
    await scheduler.recover()
    while await scheduler.send_batch():
        pass
    await engine.dispose()
