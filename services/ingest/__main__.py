"""Starts ingest: `python -m services.ingest`."""

import gc
import sys

import uvloop

from services.ingest.api import create_app
from services.ingest.delivery import Delivery
from services.ingest.importing import page
from services.ingest.importing.facts import facts_of
from services.ingest.importing.jobs import Desk
from services.ingest.mailbox.reader import Address, Mailbox
from services.ingest.normalise import Normaliser
from services.ingest.registry import FORMS, MAILBOX, served
from services.ingest.senders import Senders
from services.ingest.source_stats import Heard
from services.ingest.spool import Spool
from services.shared.clock import Clock
from services.shared.contracts.identity import Cleaner
from services.shared.db import open_engine
from services.shared.errors import Reject
from services.shared.http.keys import ApiKeys
from services.shared.http.rates import RateLimits
from services.shared.http.server import serve
from services.shared.messaging.kafka import Publisher
from services.shared.playbook import loading
from services.shared.runtime import Watchdog, arm_fault
from services.shared.settings import Settings
from services.shared.telemetry import configure_logs


async def main(settings: Settings) -> None:
    """Wires the parts and runs them until a signal."""
    engine, publisher = open_engine(settings), Publisher(settings)
    spool = Spool(settings.spool_dir, settings.spool_max_bytes)
    keys, watchdog = ApiKeys(engine), Watchdog(settings.watchdog_s)
    rules, pepper = loading.load(settings.playbook), settings.pepper.get_secret_value().encode()
    sources, senders = served(rules), Senders(engine, pepper)
    heard = Heard(engine, [*sources, FORMS, MAILBOX], settings.public_url)
    normaliser = Normaliser(
        Cleaner(rules.identity), pepper, rules.sales, frozenset(rules.crm.fields)
    )
    delivery, clock = Delivery(publisher, spool), Clock.parse(settings.clock)
    mail = settings.imap_url.get_secret_value()
    mailbox = mail and Mailbox(
        Address.parse(mail), settings.imap_poll_s, engine, normaliser, delivery, heard, clock
    )
    rates = RateLimits(settings)
    spool.open()
    app = create_app(
        settings,
        rules,
        keys,
        rates,
        senders,
        heard,
        sources,
        normaliser,
        delivery,
        clock,
        lambda: {"broker or spool": spool.has_room, "keys": keys.loaded, "senders": senders.loaded},
    )
    desk = Desk(settings.spool_dir / "imports", facts_of(rules), pepper, publisher, clock)
    page.mount(app, keys, rates, pepper, desk, clock)
    gc.freeze()
    await serve(
        app,
        settings,
        "ingest",
        spool.drain(publisher.publish, watchdog.heartbeat("spool")),
        keys.refresh(watchdog.heartbeat("keys")),
        senders.refresh(watchdog.heartbeat("senders")),
        heard.refresh(watchdog.heartbeat("heard")),
        *([mailbox.watch(watchdog.heartbeat("mailbox"))] if mailbox else []),
        desk.tidy(watchdog.heartbeat("imports")),
        watchdog.watch(),
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
    except loading.InvalidFile as broken:
        sys.exit(f"the playbook is broken, run `ripeline playbook check`:\n{broken}")
    except Reject as reject:
        sys.exit(str(reject))
