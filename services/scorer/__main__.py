"""Starts the scorer: `python -m services.scorer`."""

import gc
import sys

import uvloop

from services.scorer.api import create_app
from services.scorer.crm.delivery import CrmDelivery
from services.scorer.processing.handler import Handler
from services.scorer.processing.sweeper import Sweeper
from services.scorer.queries.leads import LeadQueries
from services.scorer.scoring import Scoring
from services.shared.clock import Clock
from services.shared.contracts.events import INTERACTIONS, TOUCHES
from services.shared.db import open_engine
from services.shared.errors import Reject
from services.shared.http.keys import ApiKeys
from services.shared.http.server import serve
from services.shared.messaging.consumer import Consumer
from services.shared.messaging.kafka import Publisher, Subscription
from services.shared.messaging.outbox import OutboxRelay
from services.shared.playbook import loading
from services.shared.runtime import Watchdog, arm_fault
from services.shared.settings import Settings
from services.shared.telemetry import configure_logs

# a batch makes so many objects that die with it; looking for cycles among them costs a tenth
YOUNG = 200_000


async def main(settings: Settings) -> None:
    """Wires the parts and runs them until a signal."""
    engine, publisher = open_engine(settings), Publisher(settings)
    scoring = Scoring.of(loading.load(settings.playbook), Clock.parse(settings.clock))
    crm = (
        scoring.playbook.crm
        if settings.crm_url.get_secret_value() and scoring.playbook.crm.fields
        else None
    )
    handler = Handler(scoring, crm)
    keys, watchdog, poll = ApiKeys(engine), Watchdog(settings.watchdog_s), settings.poll_ms / 1000
    relay = OutboxRelay(engine, publisher, "scorer", poll)
    sweeper = Sweeper(engine, handler, poll, relay.notify)
    consumer = Consumer(
        engine,
        lambda: Subscription(settings, "scorer", [INTERACTIONS, TOUCHES]),
        handler,
        "scorer",
        batch=settings.batch,
        on_commit=lambda left: relay.notify() if left else None,
    )
    app = create_app(
        settings,
        engine,
        scoring,
        keys,
        lambda: {"consumer": consumer.ready, "keys": keys.loaded},
        publisher,
    )
    to_crm = []
    if crm:
        leads = LeadQueries(engine, scoring, settings.pepper.get_secret_value().encode())
        delivery = CrmDelivery(settings, engine, scoring, leads)
        to_crm = [delivery.run(watchdog.heartbeat("writer"))]
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 50)
    await serve(
        app,
        settings,
        "scorer",
        consumer.run(watchdog.heartbeat("consumer")),
        relay.run(watchdog.heartbeat("relay")),
        sweeper.run(watchdog.heartbeat("sweeper")),
        *to_crm,
        keys.refresh(watchdog.heartbeat("keys")),
        watchdog.watch(),
    )
    await publisher.close()
    await engine.dispose()


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
