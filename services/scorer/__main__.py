"""Starts the scorer: `python -m services.scorer`."""

import gc

from services.scorer.wiring import wire
from services.shared.http.server import serve
from services.shared.runtime import Watchdog
from services.shared.settings import Settings
from services.shared.startup import after_check, run

# a batch makes so many objects that die with it; looking for cycles among them costs a tenth
YOUNG = 200_000


async def main(settings: Settings) -> None:
    """Wires the parts and runs them until a signal."""
    scorer, watchdog = wire(settings), Watchdog(settings.watchdog_s)
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 50)
    await serve(
        scorer.app,
        settings,
        "scorer",
        scorer.broker.watch(watchdog.heartbeat("broker")),
        *after_check(
            scorer.engine,
            settings,
            watchdog,
            scorer.consumer.run(watchdog.heartbeat("consumer")),
            scorer.relay.run(watchdog.heartbeat("relay")),
            scorer.published.run(watchdog.heartbeat("published")),
            scorer.sweeper.run(watchdog.heartbeat("sweeper")),
            *([scorer.crm.run(watchdog.heartbeat("writer"))] if scorer.crm else []),
            scorer.keys.refresh(watchdog.heartbeat("keys")),
        ),
        watchdog.watch(),
    )
    await scorer.publisher.close()
    await scorer.engine.dispose()


if __name__ == "__main__":
    run("scorer", main)
