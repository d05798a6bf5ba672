"""What waits to be sent, by channel and program, and what is on the wire."""

import asyncio
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.store import held as store
from services.nurture.store.held import Waiting
from services.ops.commands import overrides
from services.shared.clock import Clock
from services.shared.db import value
from services.shared.messaging import sending

SETTLES_S = 5.0  # by then nothing is on the wire that is stopped
POLL_S = 0.1


class Held(NamedTuple):
    """Whether sending is stopped; touches whose time has come and those of later, in all and by
    channel and program; and how many are on the wire.
    """

    stopped: bool
    held: int
    planned: int
    on_the_wire: int
    waiting: list[Waiting]


async def stop(engine: AsyncEngine, clock: Clock) -> Held:
    """Stops all sending, and waits until nothing is on the wire, `SETTLES_S` at most."""
    await overrides.stop_sending(engine)
    for _ in range(round(SETTLES_S / POLL_S)):
        state = await read(engine, clock)
        if not state.on_the_wire:
            break
        await asyncio.sleep(POLL_S)
    return state


async def start(engine: AsyncEngine, clock: Clock) -> Held:
    """Lets sending go on; returns what waited."""
    await overrides.resume_sending(engine)
    return await read(engine, clock)


async def read(engine: AsyncEngine, clock: Clock) -> Held:
    """As it stands."""
    async with engine.connect() as connection:
        stopped = await sending.is_stopped(connection)
        waiting = await store.waiting(connection, clock.now())
        on_the_wire = await value(connection, _ON_THE_WIRE)
    held, planned = sum(row.held for row in waiting), sum(row.planned for row in waiting)
    return Held(stopped, held, planned, int(on_the_wire), waiting)


_ON_THE_WIRE = "SELECT count(*) FROM nurture.touch WHERE status = 'sending'"
