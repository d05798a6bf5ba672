"""Makes an installation ready: schemas, topics, keys. Running it again changes nothing."""

from typing import Any

from sqlalchemy import text

from services.shared.db import is_transient, migrate, open_engine
from services.shared.errors import Retry
from services.shared.http.keys import Scope, new_key, register
from services.shared.messaging.kafka import create_topics
from services.shared.runtime import retry_with_backoff
from services.shared.settings import Settings

SCOPES: tuple[Scope, ...] = ("secret", "public", "query")


async def provision(settings: Settings) -> dict[str, Any]:
    """Migrates, creates topics, registers the keys of the settings; makes keys where there are none
    at all.

    Returns {"topics": created, "keys": {scope: key made now}}. Waits while database or broker are
    starting.
    """
    engine = open_engine(settings)
    try:
        await retry_with_backoff(lambda: _migrated(engine), "database")
        topics = await retry_with_backoff(lambda: create_topics(settings), "broker")
        made: dict[str, str] = {}
        for scope in SCOPES:
            given = getattr(settings, f"{scope}_key").get_secret_value()
            async with engine.connect() as connection:
                known = (
                    await connection.execute(
                        text("SELECT 1 FROM access.api_key WHERE scope = :scope LIMIT 1"),
                        {"scope": scope},
                    )
                ).first()
            if given:
                await register(engine, given, "default", scope)
            elif not known:
                made[scope] = new_key()
                await register(engine, made[scope], "default", scope)
        return {"topics": topics, "keys": made}
    finally:
        await engine.dispose()


async def _migrated(engine: Any) -> None:
    try:
        await migrate(engine)
    except Exception as error:
        if is_transient(error):
            raise Retry(f"the database is away: {type(error).__name__}") from error
        raise
