"""Starts nurture: `python -m services.nurture`."""

import sys

import uvloop

from services.nurture.wiring import wire
from services.shared.errors import Reject
from services.shared.http.server import serve
from services.shared.playbook import loading
from services.shared.runtime import DRAIN_SECONDS, Watchdog, arm_fault
from services.shared.settings import Settings
from services.shared.telemetry import configure_logs


async def main(settings: Settings) -> None:
    """Wires the parts and runs them until a signal."""
    nurture, watchdog = wire(settings), Watchdog(settings.watchdog_s)
    await serve(
        nurture.app,
        settings,
        "nurture",
        nurture.consumer.run(watchdog.heartbeat("consumer")),
        nurture.relay.run(watchdog.heartbeat("relay")),
        nurture.scheduler.run(watchdog.heartbeat("scheduler")),
        nurture.keys.refresh(watchdog.heartbeat("keys")),
        watchdog.watch(),
        on_stop=nurture.scheduler.stop,
        drain_s=settings.sending_timeout_s + DRAIN_SECONDS,
    )
    await nurture.ends.close()
    await nurture.publisher.close()
    await nurture.engine.dispose()


if __name__ == "__main__":
    config = Settings()
    configure_logs("nurture", config.log_level)
    arm_fault(config.fault)
    try:
        uvloop.run(main(config))
    except Reject as reject:
        sys.exit(str(reject))
    except loading.InvalidFile as broken:
        sys.exit(f"the playbook is broken, run `ripeline playbook check`:\n{broken}")
