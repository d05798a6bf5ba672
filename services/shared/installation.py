"""Whether a database belongs to this program and to its secrets."""

import hmac
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.shared.db import (
    MIGRATIONS,
    is_transient,
    open_engine,
    refusal_of,
    revisions,
    sqlstate,
    value,
)
from services.shared.errors import Reject, Retry
from services.shared.settings import Settings

WHERE = "RIPELINE_DATABASE_URL"
UNDEFINED_TABLE = "42P01"
NOTE = """INSERT INTO access.installation (pepper_fingerprint) VALUES (:own)
    ON CONFLICT DO NOTHING"""


def fingerprint(pepper: str) -> bytes:
    """What a database keeps of the pepper, from which nobody gets back to it."""
    return hmac.digest(pepper.encode(), b"ripeline: fingerprint of the pepper", "sha256")


async def check(engine: AsyncEngine, settings: Settings, folder: Path = MIGRATIONS) -> None:
    """Returns where the database is of this program's version and was made with this pepper, which
    the first who asks notes there.

    Raises Reject where it never will be, Retry while it is away or not migrated yet.
    """
    try:
        async with engine.begin() as connection:
            await _check_version(connection, folder)
            await check_secrets(connection, settings)
    except Exception as error:
        if refusal := refusal_of(error):
            raise refusal from None
        if sqlstate(error) == UNDEFINED_TABLE:
            raise Retry("the database is empty: run `ripeline provision`") from error
        if is_transient(error):
            raise Retry(f"the database is away: {type(error).__name__}") from error
        raise


async def check_at_once(settings: Settings) -> None:
    """Like `check`, over a connection of its own."""
    engine = open_engine(settings)
    try:
        await check(engine, settings)
    finally:
        await engine.dispose()


async def _check_version(connection: AsyncConnection, folder: Path) -> None:
    there = await value(connection, "SELECT version_num FROM alembic_version")
    known = revisions(folder)
    if there not in known:
        remedy = "run the version that migrated it, or restore a backup of before"
        raise Reject(
            f"the database is of a newer version of Ripeline ({there})", where=WHERE, remedy=remedy
        )
    if there != known[0]:
        raise Retry(f"the database is of version {there}: run `ripeline provision`")


async def check_secrets(connection: AsyncConnection, settings: Settings) -> None:
    """Notes the pepper's fingerprint where there is none yet. Raises Reject for another one."""
    own = fingerprint(settings.pepper.get_secret_value())
    await connection.execute(text(NOTE), {"own": own})
    noted = await value(connection, "SELECT pepper_fingerprint FROM access.installation")
    if not hmac.compare_digest(noted, own):
        remedy = "give the pepper of that installation back, or another RIPELINE_DATABASE_URL"
        raise Reject(
            "the database was made with another pepper", where="RIPELINE_PEPPER", remedy=remedy
        )
