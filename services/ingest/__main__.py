"""Starts ingest: `python -m services.ingest`."""

import gc

from services.ingest.wiring import wire
from services.shared.http.server import serve
from services.shared.runtime import Watchdog
from services.shared.settings import Settings
from services.shared.startup import after_check, run


async def main(settings: Settings) -> None:
    """Wires the parts and runs them until a signal."""
    ingest, watchdog = wire(settings), Watchdog(settings.watchdog_s)
    engine, publisher, broker, spool, lease, parts, jobs = ingest
    app, mailbox = ingest.app(), ingest.mailbox()
    spool.open()
    lease.open()
    gc.freeze()
    await serve(
        app,
        settings,
        "ingest",
        spool.drain(publisher.publish, watchdog.heartbeat("spool")),
        broker.watch(watchdog.heartbeat("broker")),
        *after_check(
            engine,
            settings,
            watchdog,
            lease.run(watchdog.heartbeat("lease")),
            parts.keys.refresh(watchdog.heartbeat("keys")),
            parts.secrets.refresh(watchdog.heartbeat("senders")),
            parts.statistics.refresh(watchdog.heartbeat("heard")),
            *([mailbox.watch(watchdog.heartbeat("mailbox"))] if mailbox else []),
            jobs.delete_old(watchdog.heartbeat("imports")),
        ),
        watchdog.watch(),
    )
    await jobs.close()
    await publisher.close()
    await lease.close()
    await engine.dispose()
    spool.close()


if __name__ == "__main__":
    run("ingest", main)
