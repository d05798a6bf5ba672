"""Reads the audit log for the command line."""

from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.people.audit_log import AuditFilter, AuditLine, as_csv, lines


async def read(engine: AsyncEngine, asked: AuditFilter, limit: int) -> list[AuditLine]:
    """The newest lines."""
    async with engine.connect() as connection:
        return await lines(connection, asked, limit)


async def write_csv(engine: AsyncEngine, asked: AuditFilter) -> None:
    """The newest lines as CSV on stdout."""
    async for part in as_csv(engine, asked):
        print(part, end="")
