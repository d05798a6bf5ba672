"""Bulk writing on a real database: part of the transaction, and honest about what went
wrong (O4).
"""

import asyncio
import uuid

import pytest
from asyncpg import UniqueViolationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.db import Table, copy, is_transient, overwrite, value

MERGED = Table("nurture", "merged", {"lead_id": "uuid", "into_lead": "uuid"}, key=("lead_id",))
PAIRS = [(uuid.UUID(int=n), uuid.UUID(int=100 + n)) for n in range(3)]


async def count(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int(await value(connection, "SELECT count(*) FROM nurture.merged"))


async def test_what_was_copied_goes_with_its_transaction_even_as_its_first_statement(
    engine: AsyncEngine,
) -> None:
    async with engine.connect() as connection:
        await copy(connection, MERGED, PAIRS)
        assert await value(connection, "SELECT count(*) FROM nurture.merged") == 3
        await connection.rollback()
    assert await count(engine) == 0
    async with engine.begin() as connection:
        await copy(connection, MERGED, PAIRS)
    assert await count(engine) == 3


async def test_a_row_that_is_there_already_is_refused_by_copy_and_written_over_by_overwrite(
    engine: AsyncEngine,
) -> None:
    async with engine.begin() as connection:
        await copy(connection, MERGED, PAIRS[:1])
    with pytest.raises(UniqueViolationError) as caught:
        async with engine.begin() as connection:
            await copy(connection, MERGED, PAIRS)
    assert not is_transient(caught.value)
    assert await count(engine) == 1
    async with engine.begin() as connection:
        await overwrite(connection, MERGED, [(PAIRS[0][0], PAIRS[2][1]), PAIRS[1]])
        await overwrite(connection, MERGED, [])
        assert (
            await value(
                connection,
                "SELECT into_lead FROM nurture.merged WHERE lead_id = :id",
                id=PAIRS[0][0],
            )
            == PAIRS[2][1]
        )
    assert await count(engine) == 2


async def test_a_connection_lost_before_a_copy_passes_by_itself_and_the_pool_heals(
    engine: AsyncEngine,
) -> None:
    async def cut() -> None:
        async with engine.begin() as connection:
            own = await value(connection, "SELECT pg_backend_pid()")
            async with engine.connect() as other:
                await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": own})
            await asyncio.sleep(0.2)
            await copy(connection, MERGED, PAIRS)

    with pytest.raises(Exception) as caught:  # noqa: PT011  # its class is what is asked below
        await cut()
    assert is_transient(caught.value)
    async with engine.begin() as connection:
        await copy(connection, MERGED, PAIRS)
    assert await count(engine) == 3
