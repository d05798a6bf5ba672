"""What all services and people know of sending: the kill switch, why the channels and nurture's
gates hold it up, and when nurture was last at work.
"""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.shared.db import rows
from services.shared.messaging import spool_leases
from services.shared.messaging.spool_leases import Lease

UNSEEN_S = 15.0  # after which nurture, which reports every second, is said to be away
PASSING_S = 5.0  # how long a gate may wait before people are told


class Brake(NamedTuple):
    """The kill switch, since when it is on and who turned it on, or ''."""

    since: datetime
    set_by: str


class StoppedChannel(NamedTuple):
    """A channel over which nothing goes out, since its server is away or refuses us."""

    channel: str
    why: str
    since: datetime


class StandingReceiver(NamedTuple):
    """A provider, or domain, that calls our mails spam or has something against the sender; `state`
    is `warning`, or `stopped`: nothing goes there.
    """

    receiver: str
    state: str
    why: str
    since: datetime


class HeldTouches(NamedTuple):
    """How many touches of a channel and program are due and do not go out."""

    channel: str
    program: str
    held: int


class Gate(NamedTuple):
    """Why nothing that is due is sent, and since when."""

    why: str
    since: datetime


class Sending(NamedTuple):
    """All that keeps touches from going out; `unseen_since` is when nurture was last at work, where
    that is too long ago, and `started` whether it ever was.
    """

    brake: Brake | None = None
    channels: tuple[StoppedChannel, ...] = ()
    receivers: tuple[StandingReceiver, ...] = ()
    held: tuple[HeldTouches, ...] = ()
    spools: tuple[Lease, ...] = ()
    gate: Gate | None = None
    started: bool = True
    unseen_since: datetime | None = None


async def read(connection: AsyncConnection) -> Sending:
    """As it stands at this moment."""
    brake = await rows(connection, "SELECT since, set_by FROM access.brake")
    channels = await rows(
        connection, "SELECT channel, why, since FROM access.channel_stop ORDER BY channel"
    )
    reports = await rows(
        connection,
        "SELECT waits_for, waits_since, seen_at, "
        "seen_at <= clock_timestamp() - make_interval(secs => :unseen) AS unseen, "
        "waits_since <= clock_timestamp() - make_interval(secs => :passing) AS waits "
        "FROM access.sending",
        unseen=UNSEEN_S,
        passing=PASSING_S,
    )
    report = reports[0] if reports else None
    unseen = bool(report and report.unseen)
    waits = bool(report and report.waits and not unseen)
    return Sending(
        brake=Brake(*brake[0]) if brake else None,
        channels=tuple(StoppedChannel(*row) for row in channels),
        receivers=tuple(StandingReceiver(*row) for row in await rows(connection, _RECEIVERS)),
        held=tuple(HeldTouches(*row) for row in await rows(connection, _HELD)),
        spools=tuple(await spool_leases.held_by(connection)),
        gate=Gate(report.waits_for, report.waits_since) if report and waits else None,
        started=report is not None,
        unseen_since=report.seen_at if report and unseen else None,
    )


async def is_stopped(connection: AsyncConnection) -> bool:
    """Whether the kill switch is on."""
    return bool(await rows(connection, "SELECT 1 FROM access.brake"))


async def stop(connection: AsyncConnection, set_by: str = "") -> None:
    """Turns the kill switch on: nothing is sent any more."""
    await connection.execute(
        text("INSERT INTO access.brake (set_by) VALUES (:set_by) ON CONFLICT DO NOTHING"),
        {"set_by": set_by},
    )


async def resume(connection: AsyncConnection) -> None:
    """Turns the kill switch off."""
    await connection.execute(text("DELETE FROM access.brake"))


async def report(connection: AsyncConnection, waits_for: str) -> None:
    """Nurture is at work, and its gates wait for this, or for nothing: ''."""
    await connection.execute(
        text(
            "INSERT INTO access.sending AS s (seen_at, waits_for, waits_since) "
            "VALUES (clock_timestamp(), :waits_for, "
            "CASE WHEN :waits_for <> '' THEN clock_timestamp() END) "
            "ON CONFLICT (only_row) DO UPDATE SET seen_at = excluded.seen_at, "
            "waits_for = excluded.waits_for, waits_since = CASE WHEN :waits_for <> '' "
            "THEN coalesce(s.waits_since, excluded.waits_since) END"
        ),
        {"waits_for": waits_for},
    )


_RECEIVERS = (
    "SELECT receiver, state, why, since FROM access.receiver WHERE state <> 'ok' ORDER BY receiver"
)
_HELD = "SELECT channel, program, held FROM access.held ORDER BY channel, program"
