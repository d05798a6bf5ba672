"""PostgreSQL: the engine, the migrations, and which of its errors pass by themselves."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from services.shared.errors import Reject, Retry
from services.shared.settings import ROOT, Settings
from services.shared.urls import DatabaseAddress

log = structlog.get_logger()
MIGRATIONS = ROOT / "deploy" / "migrations"
# classes and values of SQLSTATE: connection, rollback, resources, not ready, intervention; a
# transaction that stood idle
AWAY_STATES = ("08", "40", "53", "55", "57", "25P03", "25P04")
DATA_STATES = ("22", "23", "54")  # data exception, constraint violation, limit exceeded
REFUSED_STATES = ("28", "3D")  # who asks is not let in, no such database
UNUSABLE = (asyncpg.exceptions.ClientConfigurationError, ssl.SSLCertVerificationError)
CONNECT_SECONDS = 5
LOCK_KEY = 7164  # of the advisory lock that one migration at a time holds
DDL_LOCK_MS = 4_000  # that a statement of a migration waits: whoever comes after it waits as well
BLOCKED_S = 3.0  # between two lines on who blocks a migration
NOT_AVAILABLE = "55P03"
BLOCKERS = """SELECT pid, application_name AS name, host(client_addr) AS address, state,
    round(extract(epoch FROM clock_timestamp() - xact_start))::int AS seconds
    FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids(:pid))"""
KEEPALIVE = {
    # a client that is cut off is noticed after a minute, and what it held is free
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "client_connection_check_interval": "10000",
}


def open_engine(settings: Settings, name: str = "") -> AsyncEngine:
    """A pool of asyncpg connections that are called `ripeline NAME` there; opens none before the
    first use.
    """
    password = settings.database_password.get_secret_value()
    address = DatabaseAddress.of(settings.database_url.get_secret_value(), password)
    limits = {
        "idle_in_transaction_session_timeout": settings.database_idle_s,
        "lock_timeout": settings.database_lock_s,
        "statement_timeout": settings.database_statement_s,
    }
    return create_async_engine(
        "postgresql+asyncpg://",
        pool_size=settings.database_pool,
        max_overflow=4,
        pool_use_lifo=True,  # what follows an invalidated connection is a new one, not an idle one
        pool_pre_ping=False,
        hide_parameters=True,  # what people wrote stands in no log and no reason of a dead letter
        pool_timeout=10,
        connect_args={
            "dsn": address.dsn,
            "timeout": address.connect_s or CONNECT_SECONDS,
            "server_settings": {
                "jit": "off",
                **({} if address.has_name else {"application_name": f"ripeline {name}".strip()}),
                **{limit: str(int(seconds * 1000)) for limit, seconds in limits.items()},
                **KEEPALIVE,
            },
        },
    )


async def without_limits(connection: AsyncConnection) -> None:
    """Lets this transaction, which holds nobody up, take as long as it needs."""
    for limit in ("idle_in_transaction_session_timeout", "statement_timeout"):
        await connection.execute(text(f"SET LOCAL {limit} = 0"))


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE of a database error, '' where there is none."""
    inner = getattr(error, "orig", None) or error
    if isinstance(inner.__cause__, asyncpg.InvalidCachedStatementError):
        inner = inner.__cause__  # SQLAlchemy's error in its place has none
    return str(getattr(inner, "sqlstate", None) or getattr(inner, "pgcode", None) or "")


def refusal_of(error: BaseException) -> Reject | None:
    """What is said to people where PostgreSQL does not let us in, or we cannot ask it as the
    settings say.
    """
    state, unusable = sqlstate(error), _of(UNUSABLE, error)
    if not state.startswith(REFUSED_STATES) and unusable is None:
        return None
    return Reject(
        f"PostgreSQL cannot be reached so ({state or unusable})",
        where="RIPELINE_DATABASE_URL",
        remedy="correct user, password, database and certificates there",
    )


def _of(
    kinds: tuple[type[BaseException], ...], error: BaseException | None
) -> BaseException | None:
    """The first of the error and its causes that is of these kinds."""
    while error is not None and not isinstance(error, kinds):
        error = error.__cause__
    return error


def is_transient(error: BaseException) -> bool:
    """Whether the same statements may work later, as the surroundings are at fault: the database is
    away, chose us to break a deadlock, has a full disk, or another schema than we know.
    """
    if is_away(error) or isinstance(error, asyncpg.OutdatedSchemaCacheError):
        return True
    return bool((state := sqlstate(error)) and not state.startswith(DATA_STATES))


def is_away(error: BaseException) -> bool:
    """Whether the same statements may work later though nobody mends anything."""
    if is_unfit_argument(error):
        return False
    if isinstance(error, OSError | TimeoutError | PoolTimeout | InterfaceError | OperationalError):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if state := sqlstate(error):
        return state.startswith(AWAY_STATES)
    return isinstance(error, asyncpg.InterfaceError)


def is_data_fault(error: BaseException) -> bool:
    """Whether PostgreSQL says that the data are at fault."""
    return sqlstate(error).startswith(DATA_STATES)


def is_unfit_argument(error: BaseException) -> bool:
    """Whether the driver could not encode a value for the type that the statement has."""
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
    return isinstance(cause, asyncpg.InterfaceError) and isinstance(cause, ValueError)


def revisions(folder: Path = MIGRATIONS) -> list[str]:
    """The versions that this program knows, the newest first."""
    scripts = ScriptDirectory(str(folder))
    return [script.revision for script in scripts.walk_revisions()]


async def migrate(engine: AsyncEngine, folder: Path = MIGRATIONS, wait_s: float = 300.0) -> None:
    """Brings the schemas to the newest version; several may call it at once.

    Logs who blocks it. Raises Reject once it has waited `wait_s` seconds for locks, or where the
    database is newer than the program.
    """
    give_up = time.monotonic() + wait_s
    async with engine.connect() as connection:
        pid = await value(connection, "SELECT pg_backend_pid()")
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            await connection.execute(text(f"SET {limit} = 0"))
        await connection.commit()
        watching = asyncio.create_task(_tell_who_blocks(engine, pid))
        try:
            await _locked(connection, lambda: _lock(connection), give_up)
            await _locked(connection, lambda: _upgrade(connection, folder), give_up)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            await connection.invalidate()  # ends the session: its lock is free, its limits are gone


async def _locked(
    connection: AsyncConnection, work: Callable[[], Awaitable[None]], give_up: float
) -> None:
    """Repeats work that waits for locks. Raises Reject when the time is over."""
    while True:
        left_ms = max(1, min(DDL_LOCK_MS, int((give_up - time.monotonic()) * 1000)))
        try:
            await connection.execute(text(f"SET lock_timeout = {left_ms}"))
            await work()
            return await connection.commit()
        except DBAPIError as error:
            await connection.rollback()
            if sqlstate(error) != NOT_AVAILABLE:
                raise
        if time.monotonic() > give_up:
            remedy = "end what the log names, or give it more of RIPELINE_MIGRATION_WAIT_S"
            raise Reject("others hold locks that the migration needs", remedy=remedy)
        await asyncio.sleep(0.5)


async def _lock(connection: AsyncConnection) -> None:
    await connection.execute(text(f"SELECT pg_advisory_lock({LOCK_KEY})"))


async def _upgrade(connection: AsyncConnection, folder: Path) -> None:
    def upgrade(inner: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(folder))
        config.attributes["connection"] = inner
        try:
            command.upgrade(config, "head")
        except CommandError:
            raise Reject(
                "the database is of a newer version of Ripeline",
                where="RIPELINE_DATABASE_URL",
                remedy="run the version that migrated it, or restore a backup of before",
            ) from None

    await connection.commit()
    await connection.run_sync(upgrade)


async def _tell_who_blocks(engine: AsyncEngine, pid: int) -> None:
    """Logs every few seconds which sessions keep this one from going on."""
    while True:
        await asyncio.sleep(BLOCKED_S)
        with suppress(DBAPIError, OSError):
            async with engine.connect() as connection:
                found = await rows(connection, BLOCKERS, pid=pid)
            if found:
                log.error("migration_waits", blocked_by=[row._asdict() for row in found])


@lru_cache(1024)
def parsed(statement: str) -> TextClause:
    """A statement that is executed again and again: SQLAlchemy reads it and finds its key once."""
    return text(statement)


async def rows(connection: AsyncConnection, statement: str, /, **values: Any) -> list[Any]:
    """All rows of a statement."""
    return list((await connection.execute(parsed(statement), values)).all())


async def value(connection: AsyncConnection, statement: str, /, **values: Any) -> Any:
    """The first column of the first row, or None."""
    return (await connection.execute(parsed(statement), values)).scalar()


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
    for a row that is there; Retry where the table has other types, during a migration, say.
    """
    driver: Any = (await connection.get_raw_connection()).driver_connection
    if not driver.is_in_transaction():  # the engine begins one only with a statement of its own
        await connection.execute(text("SELECT 1"))
    try:
        await driver.copy_records_to_table(
            table.name, schema_name=table.schema, columns=list(table.types), records=records
        )
    except TypeError as error:  # the driver encodes for the types that it remembers of the table
        await driver.reload_schema_state()
        raise Retry(f"{table.schema}.{table.name} has other types than are written") from error


async def overwrite(
    connection: AsyncConnection, table: Table, records: Sequence[tuple[Any, ...]]
) -> None:
    """Writes rows, over those of the same key."""
    if records:
        columns = zip(*records, strict=True)
        await connection.execute(
            parsed(table.upsert), dict(zip(table.types, map(list, columns), strict=True))
        )
