"""Whether what people do with a mail of ours may be measured still: nurture notes the touches of
those who have refused it since (N16).
"""

import asyncio
import uuid

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.db import is_transient, rows

log = structlog.get_logger()
WAIT_S = 2.0  # that somebody who follows a link waits for the database


class Measuring:
    """Asks the database for each click and open."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def is_refused(self, touch: str) -> bool:
        """Whether the touch's recipient has refused it; taken as refused while nobody can tell."""
        try:
            touch_id = uuid.UUID(touch)
        except ValueError:
            return False
        try:
            async with asyncio.timeout(WAIT_S), self._engine.connect() as connection:
                found = await rows(
                    connection,
                    "SELECT 1 FROM access.untracked WHERE touch_id = :touch",
                    touch=touch_id,
                )
        except Exception as error:
            if not (isinstance(error, TimeoutError) or is_transient(error)):
                raise
            log.warning("measuring_unknown", reason=type(error).__name__)
            return True
        return bool(found)
