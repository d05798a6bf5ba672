"""Builds the parts of nurture from its settings; opens nothing."""

from typing import NamedTuple

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.api import create_app
from services.nurture.calls import Calls
from services.nurture.consent_gate import ConsentGate
from services.nurture.delivery import Delivery
from services.nurture.handler import Handler
from services.nurture.library import ContentLibrary
from services.nurture.planned import PlannedTouches
from services.nurture.planner import Planner
from services.nurture.rules.grounds import Rules
from services.nurture.scheduler import Scheduler
from services.shared.clock import Clock
from services.shared.contracts.events import CHANGES, CONSENTS, ChangeEvent, ConsentEvent
from services.shared.db import open_engine
from services.shared.http.health import Part
from services.shared.http.keys import ApiKeys
from services.shared.messaging.consumer import Consumer
from services.shared.messaging.kafka import BrokerWatch, EndOffsets, Publisher, Subscription
from services.shared.messaging.outbox import OutboxRelay
from services.shared.playbook import loading
from services.shared.settings import Settings


class Nurture(NamedTuple):
    """The parts of the service, wired and not yet opened."""

    engine: AsyncEngine
    publisher: Publisher
    broker: BrokerWatch
    ends: EndOffsets
    keys: ApiKeys
    consumer: Consumer[ChangeEvent | ConsentEvent]
    relay: OutboxRelay
    scheduler: Scheduler
    planner: Planner
    app: FastAPI


def wire(settings: Settings) -> Nurture:
    """Builds the parts; opens nothing but the playbook's files. Raises `InvalidFile`."""
    engine = open_engine(settings, "nurture")
    publisher, broker = Publisher(settings), BrokerWatch(settings)
    ends = EndOffsets(settings)
    clock, pepper = Clock.parse(settings.clock), settings.pepper.get_secret_value().encode()
    rules = Rules.of(loading.load(settings.playbook), sink=settings.smtp_is_sink)
    keys = ApiKeys(engine)
    relay = OutboxRelay(engine, publisher, "nurture", settings.poll_ms / 1000)
    gate = ConsentGate(engine, ends)
    delivery = Delivery(settings, engine, rules.playbook, clock, relay.notify)
    calls = Calls(engine, clock, relay.notify)
    scheduler = Scheduler(settings, engine, rules, clock, gate, delivery, relay.notify)
    scheduler.also(calls.expire)

    def planned() -> None:
        relay.notify()
        scheduler.notify()

    people = PlannedTouches(engine, rules, clock, pepper, planned)
    planner = Planner(settings, engine, rules, clock, planned)

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
        settings,
        engine,
        keys,
        lambda: {
            "broker": Part(broker.problem),
            "consumer": Part(consumer.problem),
            "outbox": Part(relay.problem),
            "keys": keys.loaded,
        },
        calls,
        people,
        ContentLibrary(settings, engine, rules.playbook, clock),
    )
    return Nurture(engine, publisher, broker, ends, keys, consumer, relay, scheduler, planner, app)
