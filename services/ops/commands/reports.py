"""Reports of the current system."""

from services.scorer.queries.journeys import read_journeys
from services.scorer.reports.journeys import Journeys
from services.shared.clock import Clock
from services.shared.db import open_engine
from services.shared.playbook.loading import load
from services.shared.settings import Settings


async def journeys(settings: Settings) -> Journeys:
    """The journeys of all leads. Raises Reject where there are none."""
    outcome = load(settings.playbook).model.outcome
    engine = open_engine(settings, "report")
    try:
        async with engine.connect() as connection:
            return await read_journeys(connection, outcome, Clock.parse(settings.clock).now_us())
    finally:
        await engine.dispose()
