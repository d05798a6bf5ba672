"""Migrated databases on the PostgreSQL of the tests: copies of its template, one for each use."""

import asyncio
import uuid

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from services.shared.db import migrate, open_engine
from services.shared.settings import Settings
from tests.support.servers import Postgres

TEMPLATE = "template_ripeline"


async def make_template(postgres: Postgres) -> None:
    """Creates the migrated database that the others are copied from."""
    # Creating and dropping databases waits for the disk otherwise; a crash of the machine, the only
    # one after which it would matter, ends the tests too.
    await _execute(postgres, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    await _execute(postgres, f"CREATE DATABASE {TEMPLATE}")
    engine = open_engine(Settings(database_url=url_of(postgres, TEMPLATE)))
    try:
        await migrate(engine)
    finally:
        await engine.dispose()


async def create_database(postgres: Postgres, name: str = "") -> str:
    """Copies the template; returns the new database's URL."""
    name = name or f"test_{uuid.uuid4().hex[:12]}"
    await _execute(postgres, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
    return url_of(postgres, name)


def new_database(postgres: Postgres) -> str:
    """`create_database` for tests that run no event loop."""
    return asyncio.run(create_database(postgres))


async def drop_database(postgres: Postgres, url: str) -> None:
    """Drops a database, whoever is still connected to it."""
    await _execute(postgres, f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")


def url_of(postgres: Postgres, name: str) -> str:
    """The URL of a database on this server."""
    return f"{postgres.url.rpartition('/')[0]}/{name}"


async def _execute(postgres: Postgres, *statements: str) -> None:
    admin = create_async_engine(
        postgres.url.replace("postgresql://", "postgresql+asyncpg://"), isolation_level="AUTOCOMMIT"
    )
    try:
        async with admin.connect() as connection:
            for statement in statements:
                await connection.execute(text(statement))
    finally:
        await admin.dispose()
