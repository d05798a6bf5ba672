"""Leases of ingest's spools, by which nurture knows that no refusal waits in any: one row an
ingest, by the database's clock.

A lease that is not renewed for `LEASE_S`, or that tells of records in its spool, holds up all
sending.
"""

import uuid
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.shared.clock import rfc3339
from services.shared.db import rows

LEASE_S = 5.0


class Lease(NamedTuple):
    """An ingest, by the name in its spool's folder; whether its spool holds records, and when it
    last said so.
    """

    instance: str
    spooled: bool
    renewed_at: datetime

    @property
    def reason(self) -> str:
        """Why it holds up sending, and what to do."""
        seen = rfc3339(self.renewed_at)
        if self.spooled:
            return (
                f"sending waits for the spool of ingest {self.instance}, last seen {seen}: bring "
                "the broker and that ingest back; a file ….damaged in its folder holds up sending "
                "until somebody has looked at it and moved it away"
            )
        return (
            f"sending waits for ingest {self.instance}, last seen {seen}: start it again with its "
            f"spool's folder; if that is lost, `ripeline spool forget {self.instance}`"
        )


class Held(NamedTuple):
    """A lease that somebody took: its revision, and when it was last renewed."""

    revision: int
    renewed_at: datetime


async def held_by(connection: AsyncConnection) -> list[Lease]:
    """The leases that hold up sending."""
    found = await rows(
        connection,
        "SELECT instance, spooled, renewed_at FROM access.ingest_lease WHERE spooled "
        "OR renewed_at <= clock_timestamp() - make_interval(secs => :lease) ORDER BY instance",
        lease=LEASE_S,
    )
    return [Lease(*row) for row in found]


async def every(connection: AsyncConnection) -> list[Lease]:
    """All leases."""
    found = await rows(
        connection,
        "SELECT instance, spooled, renewed_at FROM access.ingest_lease ORDER BY instance",
    )
    return [Lease(*row) for row in found]


async def database_time(connection: AsyncConnection) -> datetime:
    """The moment by the database's clock."""
    (row,) = await rows(connection, "SELECT clock_timestamp() AS now")
    now: datetime = row.now
    return now


async def find(connection: AsyncConnection, instance: str) -> Held | None:
    """The lease of this name, if there is one."""
    found = await rows(
        connection,
        "SELECT revision, renewed_at FROM access.ingest_lease WHERE instance = :instance",
        instance=instance,
    )
    return Held(*found[0]) if found else None


async def take(connection: AsyncConnection, lease: Lease, over: int | None) -> int | None:
    """Writes the lease of an ingest that starts, over that revision of its former life, None where
    there is none; returns its first revision. None where another process was faster.
    """
    found = await rows(
        connection,
        "INSERT INTO access.ingest_lease AS l (instance, spooled, revision, renewed_at) "
        "VALUES (:instance, :spooled, 1, :renewed_at) ON CONFLICT (instance) DO UPDATE SET "
        "spooled = excluded.spooled, revision = l.revision + :more, "
        "renewed_at = excluded.renewed_at WHERE l.revision = :over RETURNING revision",
        **lease._asdict(),
        over=over,
        more=1 << 32,  # more renewals than a former life can have left on their way
    )
    return int(found[0].revision) if found else None


async def renew(connection: AsyncConnection, lease: Lease, revision: int) -> bool:
    """Renews a lease; a delayed renewal of a lower revision changes nothing. False where the lease
    is gone.
    """
    done = await connection.execute(
        text(
            "UPDATE access.ingest_lease SET spooled = :spooled, revision = :revision, "
            "renewed_at = :renewed_at WHERE instance = :instance AND revision < :revision"
        ),
        {**lease._asdict(), "revision": revision},
    )
    return bool(done.rowcount)


async def give_up(connection: AsyncConnection, instance: str) -> bool:
    """Deletes a lease; returns whether there was one."""
    done = await connection.execute(
        text("DELETE FROM access.ingest_lease WHERE instance = :instance"), {"instance": instance}
    )
    return bool(done.rowcount)


def new_instance(host: str) -> str:
    """A name for an ingest on this host."""
    return f"{host[:40]}-{uuid.uuid4().hex[:8]}"
