"""Starts ingest: `python -m services.ingest`."""

import gc
import sys

import uvloop

from services.ingest.api import create_app
from services.ingest.delivery import Delivery
from services.ingest.heard import Heard
from services.ingest.importing import page
from services.ingest.importing.desk import Desk
from services.ingest.importing.facts import facts_of
from services.ingest.normalise import Normaliser
from services.ingest.senders import Senders
from services.ingest.sources import FORMS, served
from services.shared import playbook
from services.shared.clock import Clock
from services.shared.db import open_engine
from services.shared.errors import Reject
from services.shared.identity import Cleaner
from services.shared.kafka import Publisher
from services.shared.keys import Keys
from services.shared.runtime import Pulse, arm_fault, serve
from services.shared.settings import Settings
from services.shared.spool import Spool
from services.shared.telemetry import configure_logs


async def main(settings: Settings) -> None:
    """Wires the parts and runs them until a signal."""
    engine, publisher = open_engine(settings), Publisher(settings)
    spool = Spool(settings.spool_dir, settings.spool_max_bytes)
    keys, pulse = Keys(engine), Pulse(settings.watchdog_s)
    rules, pepper = playbook.load(settings.playbook), settings.pepper.get_secret_value().encode()
    sources, senders = served(rules), Senders(engine, pepper)
    heard = Heard(engine, [*sources, FORMS], settings.public_url)
    normaliser = Normaliser(Cleaner(rules.identity), pepper)
    spool.open()
    app = create_app(
        settings,
        keys,
        senders,
        heard,
        sources,
        normaliser,
        Delivery(publisher, spool),
        Clock.parse(settings.clock),
        lambda: {"broker or spool": spool.has_room, "keys": keys.loaded},
    )
    desk = Desk(settings.spool_dir / "imports", facts_of(rules), pepper, publisher, Clock.parse(settings.clock))
    page.mount(app, keys, pepper, desk, Clock.parse(settings.clock))
    gc.freeze()
    await serve(
        app,
        settings,
        "ingest",
        spool.drain(publisher.publish, pulse.beat("spool")),
        keys.refresh(pulse.beat("keys")),
        senders.refresh(pulse.beat("senders")),
        heard.refresh(pulse.beat("heard")),
        desk.tidy(pulse.beat("imports")),
        pulse.watch(),
    )
    await desk.close()
    await publisher.close()
    await engine.dispose()
    spool.close()


if __name__ == "__main__":
    config = Settings()
    configure_logs("ingest", config.log_level)
    arm_fault(config.fault)
    try:
        uvloop.run(main(config))
    except playbook.Broken as broken:
        sys.exit(f"the playbook is broken, run `ripeline playbook check`:\n{broken}")
    except Reject as reject:
        sys.exit(str(reject))
