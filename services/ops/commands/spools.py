"""The leases of ingest's spools, for people: which there are, and those that are given up."""

from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.clock import rfc3339
from services.shared.messaging import spool_leases
from services.shared.people.audit import command_line, record


class KnownSpool(NamedTuple):
    """An ingest's spool; `reason` says why sending waits for it, '' where it does not."""

    instance: str
    last_seen: str
    spooled: bool
    reason: str


async def every(engine: AsyncEngine) -> list[KnownSpool]:
    """All that are known."""
    async with engine.connect() as connection:
        reasons = {lease.instance: lease.reason for lease in await spool_leases.held_by(connection)}
        return [
            KnownSpool(
                lease.instance,
                rfc3339(lease.renewed_at),
                lease.spooled,
                reasons.get(lease.instance, ""),
            )
            for lease in await spool_leases.every(connection)
        ]


async def forget(engine: AsyncEngine, instance: str) -> bool:
    """Forgets one; returns whether it was known."""
    async with engine.begin() as connection:
        known = await spool_leases.give_up(connection, instance)
        if known:
            await record(connection, command_line(), "release", f"spool {instance}")
        return known
