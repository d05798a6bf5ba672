"""Starts nurture: `python -m services.nurture`."""

from services.nurture.wiring import wire
from services.shared.http.server import serve
from services.shared.runtime import DRAIN_SECONDS, Watchdog, refresh_every_second
from services.shared.settings import Settings
from services.shared.startup import after_check, run


async def main(settings: Settings) -> None:
    """Wires the parts and runs them until a signal."""
    nurture, watchdog = wire(settings), Watchdog(settings.watchdog_s)
    await serve(
        nurture.app,
        settings,
        "nurture",
        nurture.broker.watch(watchdog.heartbeat("broker")),
        *after_check(
            nurture.engine,
            settings,
            watchdog,
            nurture.consumer.run(watchdog.heartbeat("consumer")),
            nurture.relay.run(watchdog.heartbeat("relay")),
            nurture.scheduler.run(watchdog.heartbeat("scheduler")),
            nurture.planner.run(watchdog.heartbeat("planner")),
            nurture.keys.refresh(watchdog.heartbeat("keys")),
            refresh_every_second(
                nurture.scheduler.report, watchdog.heartbeat("report"), "report_waits"
            ),
        ),
        watchdog.watch(),
        on_stop=nurture.scheduler.stop,
        drain_s=settings.sending_timeout_s + DRAIN_SECONDS,
    )
    await nurture.ends.close()
    await nurture.publisher.close()
    await nurture.engine.dispose()


if __name__ == "__main__":
    run("nurture", main)
