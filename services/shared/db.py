"""PostgreSQL: the engine, the migrations, and which of its errors pass by themselves."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from services.shared.settings import ROOT, Settings

MIGRATIONS = ROOT / "deploy" / "migrations"
# connection, rollback, resources, not ready, intervention
TRANSIENT_STATES = ("08", "40", "53", "55", "57")
CONNECT_SECONDS = 5


def open_engine(settings: Settings) -> AsyncEngine:
    """A pool of asyncpg connections; opens none before the first use."""
    url = make_url(settings.database_url.get_secret_value()).set(drivername="postgresql+asyncpg")
    if url.password is None and settings.database_password.get_secret_value():
        url = url.set(password=settings.database_password.get_secret_value())
    return create_async_engine(
        url,
        pool_size=settings.database_pool,
        max_overflow=4,
        pool_pre_ping=False,
        pool_timeout=10,
        connect_args={"timeout": CONNECT_SECONDS, "server_settings": {"jit": "off"}},
    )


def is_transient(error: BaseException) -> bool:
    """Whether the same statements may work later: the database is away, or chose us to break a
    deadlock.
    """
    if isinstance(error, OSError | TimeoutError | PoolTimeout | InterfaceError | OperationalError):
        return True
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or ""
        return str(state).startswith(TRANSIENT_STATES)
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate).startswith(TRANSIENT_STATES)
    return isinstance(error, asyncpg.InterfaceError)


async def migrate(engine: AsyncEngine, folder: Path = MIGRATIONS) -> None:
    """Brings the schemas to the newest version; several may call it at once."""

    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(folder))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async with engine.connect() as connection:
        await connection.execute(text("SELECT pg_advisory_lock(7164)"))
        try:
            await connection.commit()
            await connection.run_sync(upgrade)
            await connection.commit()
        finally:
            await connection.rollback()
            await connection.execute(text("SELECT pg_advisory_unlock(7164)"))
            await connection.commit()


async def rows(connection: AsyncConnection, statement: str, /, **values: Any) -> list[Any]:
    """All rows of a statement."""
    return list((await connection.execute(text(statement), values)).all())


async def value(connection: AsyncConnection, statement: str, /, **values: Any) -> Any:
    """The first column of the first row, or None."""
    return (await connection.execute(text(statement), values)).scalar()


class Table(NamedTuple):
    """A table as it is written in bulk: schema and name, the types of the columns written, and the
    key of a row.
    """

    schema: str
    name: str
    types: dict[str, str]
    key: tuple[str, ...] = ()

    @property
    def upsert(self) -> str:
        """The statement that writes rows over those of the same key; takes an array a column, named
        like it.
        """
        columns = ", ".join(self.types)
        arrays = ", ".join(f"CAST(:{column} AS {kind}[])" for column, kind in self.types.items())
        again = ", ".join(
            f"{column} = excluded.{column}" for column in self.types if column not in self.key
        )
        return (
            f"INSERT INTO {self.schema}.{self.name} ({columns}) SELECT * FROM unnest({arrays}) "
            f"ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {again}"
        )


async def copy(
    connection: AsyncConnection, table: Table, records: Iterable[tuple[Any, ...]]
) -> None:
    """Appends rows by COPY, the cheapest way in. Raises asyncpg's own errors: UniqueViolationError
    for a row that is there.
    """
    driver: Any = (await connection.get_raw_connection()).driver_connection
    if not driver.is_in_transaction():  # the engine begins one only with a statement of its own
        await connection.execute(text("SELECT 1"))
    await driver.copy_records_to_table(
        table.name, schema_name=table.schema, columns=list(table.types), records=records
    )


async def overwrite(
    connection: AsyncConnection, table: Table, records: Sequence[tuple[Any, ...]]
) -> None:
    """Writes rows, over those of the same key."""
    if records:
        columns = zip(*records, strict=True)
        await connection.execute(
            text(table.upsert), dict(zip(table.types, map(list, columns), strict=True))
        )
