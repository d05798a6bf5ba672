"""The audit log, which takes new lines only."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.db import rows
from services.shared.people.audit import Actor, command_line, record

ANNA = Actor("person", "0190aaaa-0000-7000-8000-000000000001", "Anna Berg", "sales")


async def test_who_did_what_is_kept(engine: AsyncEngine) -> None:
    """A line has its actor, action, subject and details."""
    async with engine.begin() as connection:
        await record(connection, ANNA, "answer", "handoff 1", {"answer": "accepted"})
        await record(connection, Actor("key", "1a2b", "crm"), "brake", "sending", {"to": "on"})
        await record(connection, command_line(), "key", "key 1a2b")
    async with engine.connect() as connection:
        found = await rows(
            connection,
            "SELECT actor_kind, actor, action, subject, details FROM access.audit ORDER BY id",
        )
    assert tuple(found[0]) == ("person", "Anna Berg", "answer", "handoff 1", {"answer": "accepted"})
    assert tuple(found[1]) == ("key", "key crm", "brake", "sending", {"to": "on"})
    assert found[2].actor.startswith("command line")
    assert found[2].details == {}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE access.audit SET actor = 'somebody else'",
        "UPDATE access.audit SET actor = 'somebody else' WHERE false",
        "DELETE FROM access.audit",
        "TRUNCATE access.audit",
        "SET LOCAL session_replication_role = replica; DELETE FROM access.audit",
    ],
)
async def test_nothing_rewrites_it(engine: AsyncEngine, statement: str) -> None:
    """The database refuses every statement that would change or remove a line."""
    async with engine.begin() as connection:
        await record(connection, ANNA, "note", "lead 1")
    async with engine.connect() as connection:
        *before, last = statement.split("; ")
        for part in before:
            await connection.execute(text(part))
        with pytest.raises(IntegrityError, match="takes new lines only"):
            await connection.execute(text(last))
    async with engine.connect() as connection:
        assert len(await rows(connection, "SELECT 1 FROM access.audit")) == 1
