"""What the library covers, and which readers will soon have had all of it."""

from datetime import datetime
from typing import Any

from services.nurture.library import covered, exhausted
from services.nurture.rules.grounds import Rules
from services.shared.clock import Clock
from services.shared.db import is_away, open_engine
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings


async def report(settings: Settings, playbook: Playbook, now: datetime) -> dict[str, Any]:
    """The matrix as JSON has it; `exhausted` is None where no database answers."""
    at = Clock.parse(settings.clock).now() if settings.clock else now
    engine = open_engine(settings)
    try:
        rules = Rules.of(playbook, sink=settings.smtp_is_sink)
        pepper = settings.pepper.get_secret_value().encode()
        segments = await exhausted(engine, rules, pepper, at)
        found = [segment.report() for segment in segments]
    except Exception as error:
        if not is_away(error):
            raise
        found = None
    finally:
        await engine.dispose()
    return covered(playbook, now) | {"exhausted": found}
