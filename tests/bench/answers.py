"""`python -m tests.bench.answers`: the HTTP of scorer and nurture over one database, from which
nothing else reads or writes; nurture's under `/nurture`.
"""

import uvicorn
import uvloop

from services.nurture import api as nurture
from services.nurture.calls import Calls
from services.nurture.library import ContentLibrary
from services.nurture.planned import PlannedTouches
from services.nurture.rules.grounds import Rules
from services.scorer import api as scorer
from services.scorer.scoring import Scoring
from services.shared.clock import Clock
from services.shared.db import open_engine
from services.shared.http.keys import ApiKeys
from services.shared.messaging.kafka import Publisher
from services.shared.playbook import loading
from services.shared.settings import Settings


async def serve(settings: Settings) -> None:
    """Serves until a signal."""
    engine = open_engine(settings)
    keys = ApiKeys(engine)
    await keys.load()
    clock = Clock.parse(settings.clock)
    scoring = Scoring.of(loading.load(settings.playbook), clock)
    app = scorer.create_app(settings, engine, scoring, keys, dict, Publisher(settings))
    calls = Calls(engine, clock, lambda: None)
    rules = Rules.of(scoring.playbook, sink=settings.smtp_is_sink)
    pepper = settings.pepper.get_secret_value().encode()
    planned = PlannedTouches(engine, rules, clock, pepper, lambda: None)
    library = ContentLibrary(settings, engine, scoring.playbook, clock)
    app.mount("/nurture", nurture.create_app(settings, engine, keys, dict, calls, planned, library))
    config = uvicorn.Config(
        app, settings.host, settings.port, http="httptools", log_config=None, access_log=False
    )
    await uvicorn.Server(config).serve()
    await engine.dispose()


if __name__ == "__main__":
    uvloop.run(serve(Settings()))
