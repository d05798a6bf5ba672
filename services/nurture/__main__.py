"""Starts nurture: `python -m services.nurture`."""

import sys

import uvloop

from services.nurture.api import create_app
from services.nurture.consent_gate import ConsentGate
from services.nurture.delivery import Delivery
from services.nurture.handler import Handler
from services.nurture.rules.grounds import Rules
from services.nurture.scheduler import Scheduler
from services.shared.clock import Clock
from services.shared.contracts.events import CHANGES, CONSENTS
from services.shared.db import open_engine
from services.shared.http.keys import ApiKeys
from services.shared.http.server import serve
from services.shared.messaging.consumer import Consumer
from services.shared.messaging.kafka import EndOffsets, Publisher, Subscription
from services.shared.messaging.outbox import OutboxRelay
from services.shared.playbook import loading
from services.shared.runtime import Watchdog, arm_fault
from services.shared.settings import Settings
from services.shared.telemetry import configure_logs


async def main(settings: Settings) -> None:
    """Wires the parts and runs them until a signal."""
    engine, publisher, ends = open_engine(settings), Publisher(settings), EndOffsets(settings)
    clock, pepper = Clock.parse(settings.clock), settings.pepper.get_secret_value().encode()
    rules = Rules.of(loading.load(settings.playbook), sink=settings.smtp_is_sink)
    keys, watchdog, poll = ApiKeys(engine), Watchdog(settings.watchdog_s), settings.poll_ms / 1000
    relay, gate = OutboxRelay(engine, publisher, "nurture", poll), ConsentGate(engine, ends)
    delivery = Delivery(settings, engine, rules.playbook, clock, relay.notify)
    scheduler = Scheduler(settings, engine, rules, clock, gate, delivery, relay.notify)

    def notify(decisions: int) -> None:
        if decisions:
            relay.notify()
            scheduler.notify()

    consumer = Consumer(
        engine,
        lambda: Subscription(settings, "nurture", [CHANGES, CONSENTS]),
        Handler(rules, clock, pepper),
        "nurture",
        batch=settings.batch,
        on_commit=notify,
    )
    app = create_app(
        settings, engine, keys, lambda: {"consumer": consumer.ready, "keys": keys.loaded}
    )
    await serve(
        app,
        settings,
        "nurture",
        consumer.run(watchdog.heartbeat("consumer")),
        relay.run(watchdog.heartbeat("relay")),
        scheduler.run(watchdog.heartbeat("scheduler")),
        keys.refresh(watchdog.heartbeat("keys")),
        watchdog.watch(),
    )
    await ends.close()
    await publisher.close()
    await engine.dispose()


if __name__ == "__main__":
    config = Settings()
    configure_logs("nurture", config.log_level)
    arm_fault(config.fault)
    try:
        uvloop.run(main(config))
    except loading.InvalidFile as broken:
        sys.exit(f"the playbook is broken, run `ripeline playbook check`:\n{broken}")
