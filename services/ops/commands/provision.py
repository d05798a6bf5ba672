"""Makes an installation ready: schemas, topics, keys. Running it again changes nothing."""

from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared import installation
from services.shared.db import is_away, migrate, open_engine, rows
from services.shared.errors import Retry
from services.shared.http.keys import Scope, new_key, register
from services.shared.messaging.kafka import create_topics
from services.shared.people.audit import command_line
from services.shared.runtime import retry_with_backoff
from services.shared.settings import Settings

SCOPES: tuple[Scope, ...] = ("secret", "public", "query")


class Provisioned(NamedTuple):
    """Topics that were created, and keys that were made, by scope."""

    topics: list[str]
    keys: dict[Scope, str]


async def provision(settings: Settings) -> Provisioned:
    """Migrates, creates topics, registers the keys of the settings; makes a key of each scope that
    has none at all.

    Waits while database or broker are starting. Raises Reject without a pepper, and for a database
    that is newer or was made with another one.
    """
    settings.require_pepper()
    engine = open_engine(settings, "provision")
    try:
        await retry_with_backoff(lambda: _migrated(engine, settings), "database")
        topics = await retry_with_backoff(lambda: create_topics(settings), "broker")
        keys = {scope: key for scope in SCOPES if (key := await _key(engine, settings, scope))}
        return Provisioned(topics, keys)
    finally:
        await engine.dispose()


async def _key(engine: AsyncEngine, settings: Settings, scope: Scope) -> str:
    """Registers the key of the settings; returns a key that was made now, or ''."""
    if given := getattr(settings, f"{scope}_key").get_secret_value():
        await register(engine, given, "default", scope)
        return ""
    async with engine.connect() as connection:
        known = await rows(
            connection, "SELECT 1 FROM access.api_key WHERE scope = :scope LIMIT 1", scope=scope
        )
    if known:
        return ""
    made = new_key()
    await register(engine, made, "default", scope, actor=command_line())
    return made


async def _migrated(engine: AsyncEngine, settings: Settings) -> None:
    try:
        await migrate(engine, wait_s=settings.migration_wait_s)
        await installation.check(engine, settings)
    except Exception as error:
        if is_away(error):
            raise Retry(f"the database is away: {type(error).__name__}") from error
        raise
