"""Reports of the current system."""

from services.scorer.models import current
from services.scorer.queries.journeys import read_journeys
from services.scorer.queries.lift import LiveLift, read_lift
from services.scorer.queries.reports import Report, ReportName, ReportQueries, Window
from services.scorer.reports.journeys import Journeys
from services.scorer.scoring import Scoring
from services.shared.clock import Clock
from services.shared.db import open_engine
from services.shared.playbook.loading import load
from services.shared.settings import Settings


async def live_lift(settings: Settings) -> tuple[LiveLift, str]:
    """The leads of the hold-out's comparison, and the name of the outcome."""
    engine = open_engine(settings, "report")
    try:
        in_use = await current(engine, load(settings.playbook))
        scoring = Scoring.of(in_use.playbook, Clock.parse(settings.clock))
        async with engine.connect() as connection:
            return await read_lift(connection, scoring), scoring.playbook.model.outcome
    finally:
        await engine.dispose()


async def report(settings: Settings, name: ReportName, window: Window) -> Report:
    """A report as the API gives it."""
    engine = open_engine(settings, "report")
    try:
        in_use = await current(engine, load(settings.playbook))
        scoring = Scoring.of(in_use.playbook, Clock.parse(settings.clock))
        queries = ReportQueries(engine, scoring)
        return await (queries.with_lift() if name == "holdout" else queries.report(name, window))
    finally:
        await engine.dispose()


async def journeys(settings: Settings) -> Journeys:
    """The journeys of all leads. Raises Reject where there are none."""
    outcome = load(settings.playbook).model.outcome
    engine = open_engine(settings, "report")
    try:
        async with engine.connect() as connection:
            return await read_journeys(connection, outcome, Clock.parse(settings.clock).now_us())
    finally:
        await engine.dispose()
