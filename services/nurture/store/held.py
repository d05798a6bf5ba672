"""What waits to be sent, by channel and program.

The page reads `access.held`, where nurture writes down what is due and does not go out.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.shared.db import rows


class Waiting(NamedTuple):
    """Touches of a channel and program: `held`, whose time has come, and `planned`, for later
    or until a person releases them.
    """

    channel: str
    program: str
    held: int
    planned: int = 0


async def waiting(connection: AsyncConnection, now: datetime) -> list[Waiting]:
    """All that is decided and not sent yet."""
    found = await rows(
        connection,
        """SELECT channel, program,
            count(*) FILTER (WHERE due_at <= :now AND held_at IS NULL) AS held,
            count(*) FILTER (WHERE due_at > :now OR held_at IS NOT NULL) AS planned
        FROM nurture.touch WHERE status = 'due' GROUP BY channel, program
        ORDER BY channel, program""",
        now=now,
    )
    return [Waiting(*row) for row in found]


async def held(connection: AsyncConnection, now: datetime) -> list[Waiting]:
    """What is due, without counting what is planned for later or held by a person."""
    found = await rows(
        connection,
        """SELECT channel, program, count(*) AS held FROM nurture.touch
        WHERE status = 'due' AND due_at <= :now AND held_at IS NULL GROUP BY channel, program
        ORDER BY channel, program""",
        now=now,
    )
    return [Waiting(*row) for row in found]


async def tell(connection: AsyncConnection, due: Sequence[Waiting]) -> None:
    """Writes down for people what is held."""
    await connection.execute(text("DELETE FROM access.held"))
    for row in due:
        await connection.execute(
            text("INSERT INTO access.held VALUES (:channel, :program, :held)"),
            {"channel": row.channel, "program": row.program, "held": row.held},
        )
