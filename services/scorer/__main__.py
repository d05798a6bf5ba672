"""Starts the scorer: `python -m services.scorer`."""

import gc

import structlog

from services.scorer.models import Current, current
from services.scorer.wiring import Scorer, wire
from services.shared.db import open_engine
from services.shared.errors import Restart
from services.shared.http.server import serve
from services.shared.playbook import loading
from services.shared.runtime import Watchdog
from services.shared.settings import Settings
from services.shared.startup import after_check, run

log = structlog.get_logger()
# a batch makes so many objects that die with it; looking for cycles among them costs a tenth
YOUNG = 200_000


async def main(settings: Settings) -> None:
    """Runs the service until a signal; builds it again when another model comes into use."""
    while True:
        try:
            return await _run(settings)
        except Restart as reason:
            log.info("built_again", reason=str(reason))


async def _run(settings: Settings) -> None:
    """Wires the parts and runs them until a signal. Raises Restart."""
    scorer = wire(settings, await _current(settings))
    watchdog = Watchdog(settings.watchdog_s)
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 50)
    try:
        await _serve(scorer, settings, watchdog)
    finally:
        await scorer.lag.close()
        await scorer.publisher.close()
        await scorer.engine.dispose()


async def _current(settings: Settings) -> Current:
    """The playbook under the model in use."""
    engine = open_engine(settings, "scorer")
    try:
        return await current(engine, loading.load(settings.playbook))
    finally:
        await engine.dispose()


async def _serve(scorer: Scorer, settings: Settings, watchdog: Watchdog) -> None:
    await serve(
        scorer.app,
        settings,
        "scorer",
        scorer.broker.watch(watchdog.heartbeat("broker")),
        *after_check(
            scorer.engine,
            settings,
            watchdog,
            scorer.models.run(watchdog.heartbeat("models"), watchdog.rest),
            scorer.models.after(scorer.consumer.run(watchdog.heartbeat("consumer"))),
            scorer.relay.run(watchdog.heartbeat("relay")),
            scorer.published.run(watchdog.heartbeat("published")),
            scorer.models.after(scorer.sweeper.run(watchdog.heartbeat("sweeper"))),
            scorer.models.after(scorer.examiner.run(watchdog.heartbeat("examiner"))),
            scorer.teller.run(watchdog.heartbeat("teller")),
            *([scorer.crm.run(watchdog.heartbeat("writer"))] if scorer.crm else []),
            scorer.nightly.run(watchdog.heartbeat("nightly")),
            scorer.keys.refresh(watchdog.heartbeat("keys")),
        ),
        watchdog.watch(),
    )


if __name__ == "__main__":
    run("scorer", main)
