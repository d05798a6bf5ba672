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
# classes of SQLSTATE: connection, rollback, resources, not ready, intervention
AWAY_STATES = ("08", "40", "53", "55", "57")
DATA_STATES = ("22", "23", "54")  # data exception, constraint violation, limit exceeded
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
    """Whether the same statements may work later, as the surroundings are at fault: the database is
    away, chose us to break a deadlock, has a full disk, or another schema than we know.
    """
    if is_away(error) or isinstance(error, asyncpg.OutdatedSchemaCacheError):
        return True
    return bool((state := _sqlstate(error)) and not state.startswith(DATA_STATES))


def is_away(error: BaseException) -> bool:
    """Whether the same statements may work later though nobody mends anything."""
    if is_unfit_argument(error):
        return False
    if isinstance(error, OSError | TimeoutError | PoolTimeout | InterfaceError | OperationalError):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if state := _sqlstate(error):
        return state.startswith(AWAY_STATES)
    return isinstance(error, asyncpg.InterfaceError)


def is_data_fault(error: BaseException) -> bool:
    """Whether PostgreSQL says that the data are at fault."""
    return bool((state := _sqlstate(error)) and state.startswith(DATA_STATES))


def is_unfit_argument(error: BaseException) -> bool:
    """Whether the driver could not encode a value for the type that the statement has."""
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
    return isinstance(cause, asyncpg.InterfaceError) and isinstance(cause, ValueError)


def _sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of an error of the driver or of SQLAlchemy, if it has one."""
    source = error.orig if isinstance(error, DBAPIError) else error
    return getattr(source, "sqlstate", None) or getattr(source, "pgcode", None)


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
