"""Starts the scorer: `python -m services.scorer`."""

import gc
import sys

import uvloop

from services.scorer.wiring import wire
from services.shared.errors import Reject
from services.shared.http.server import serve
from services.shared.playbook import loading
from services.shared.runtime import Watchdog, arm_fault
from services.shared.settings import Settings
from services.shared.telemetry import configure_logs

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
        scorer.consumer.run(watchdog.heartbeat("consumer")),
        scorer.relay.run(watchdog.heartbeat("relay")),
        scorer.sweeper.run(watchdog.heartbeat("sweeper")),
        *([scorer.crm.run(watchdog.heartbeat("writer"))] if scorer.crm else []),
        scorer.broker.watch(watchdog.heartbeat("broker")),
        scorer.keys.refresh(watchdog.heartbeat("keys")),
        watchdog.watch(),
    )
    await scorer.publisher.close()
    await scorer.engine.dispose()


if __name__ == "__main__":
    config = Settings()
    configure_logs("scorer", config.log_level)
    arm_fault(config.fault)
    try:
        uvloop.run(main(config))
    except Reject as reject:
        sys.exit(str(reject))
    except loading.InvalidFile as broken:
        sys.exit(f"the playbook is broken, run `ripeline playbook check`:\n{broken}")
