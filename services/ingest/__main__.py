"""Starts ingest: `python -m services.ingest`."""

import gc
import sys

import uvloop

from services.ingest.wiring import wire
from services.shared.errors import Reject
from services.shared.http.server import serve
from services.shared.playbook import loading
from services.shared.runtime import Watchdog, arm_fault
from services.shared.settings import Settings
from services.shared.telemetry import configure_logs


async def main(settings: Settings) -> None:
    """Wires the parts and runs them until a signal."""
    ingest, watchdog = wire(settings), Watchdog(settings.watchdog_s)
    engine, publisher, spool, lease, parts, jobs = ingest
    app, mailbox = ingest.app(), ingest.mailbox()
    spool.open()
    lease.open()
    gc.freeze()
    await serve(
        app,
        settings,
        "ingest",
        spool.drain(publisher.publish, watchdog.heartbeat("spool")),
        lease.run(watchdog.heartbeat("lease")),
        parts.keys.refresh(watchdog.heartbeat("keys")),
        parts.secrets.refresh(watchdog.heartbeat("senders")),
        parts.statistics.refresh(watchdog.heartbeat("heard")),
        *([mailbox.watch(watchdog.heartbeat("mailbox"))] if mailbox else []),
        jobs.delete_old(watchdog.heartbeat("imports")),
        watchdog.watch(),
    )
    await jobs.close()
    await publisher.close()
    await lease.close()
    await engine.dispose()
    spool.close()


if __name__ == "__main__":
    config = Settings()
    configure_logs("ingest", config.log_level)
    arm_fault(config.fault)
    try:
        uvloop.run(main(config))
    except loading.InvalidFile as broken:
        sys.exit(f"the playbook is broken, run `ripeline playbook check`:\n{broken}")
    except Reject as reject:
        sys.exit(str(reject))
