"""What is planned, as nurture lists it, and decisions about it; nurture sees them within its
poll.
"""

from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.planned import PlannedTouches, Upcoming
from services.nurture.rules.grounds import Rules
from services.nurture.store.planned import Filter, Place
from services.shared.clock import Clock
from services.shared.playbook.loading import load
from services.shared.settings import Settings

PART = 200


def planned_touches(
    engine: AsyncEngine, settings: Settings, playbook: Path | None = None
) -> PlannedTouches:
    """Those of a system, by its playbook or another."""
    rules = Rules.of(load(playbook or settings.playbook), sink=settings.smtp_is_sink)
    pepper = settings.pepper.get_secret_value().encode()
    return PlannedTouches(engine, rules, Clock.parse(settings.clock), pepper, lambda: None)


async def every(planned: PlannedTouches, wanted: Filter, days: int) -> list[Upcoming]:
    """All of them, page by page."""
    found: list[Upcoming] = []
    after: Place | None = None
    while True:
        page = await planned.page(wanted, after, PART, days)
        found += page.upcoming
        after = page.next
        if after is None:
            return found
