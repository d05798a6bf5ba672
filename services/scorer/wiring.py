"""Builds the parts of the scorer from its settings; opens nothing."""

from typing import NamedTuple

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.api import create_app
from services.scorer.checking import NightlyCheck
from services.scorer.crm.delivery import CrmDelivery
from services.scorer.handoffs.telling import Teller
from services.scorer.models import COLD_START, Current, ModelWatch
from services.scorer.processing.handing_over import Examiner
from services.scorer.processing.handler import Decoded, Handler
from services.scorer.processing.sweeper import Sweeper
from services.scorer.queries.lag import Lag
from services.scorer.queries.leads import LeadQueries
from services.scorer.scoring import Scoring
from services.shared.clock import Clock
from services.shared.contracts.events import INTERACTIONS, TOUCHES
from services.shared.db import open_engine
from services.shared.http.health import Part
from services.shared.http.keys import ApiKeys
from services.shared.messaging.consumer import Consumer
from services.shared.messaging.kafka import BrokerWatch, EndOffsets, Publisher, Subscription
from services.shared.messaging.outbox import OutboxRelay
from services.shared.messaging.published import PublishedProgress
from services.shared.playbook import loading
from services.shared.settings import Settings

LAG_S = 2.0  # how long the broker may take to say where the log ends


class Scorer(NamedTuple):
    """The parts of the service, wired and not yet opened; `crm` is None where nothing is written
    back.
    """

    engine: AsyncEngine
    publisher: Publisher
    broker: BrokerWatch
    keys: ApiKeys
    consumer: Consumer[Decoded]
    relay: OutboxRelay
    published: PublishedProgress
    sweeper: Sweeper
    models: ModelWatch
    nightly: NightlyCheck
    crm: CrmDelivery | None
    examiner: Examiner
    teller: Teller
    lag: Lag
    app: FastAPI


def wire(settings: Settings, current: Current | None = None) -> Scorer:
    """Builds the parts under the playbook in use, or its files; opens nothing else. Raises
    `InvalidFile` or Reject.
    """
    current = current or Current(COLD_START, loading.load(settings.playbook))
    engine = open_engine(settings, "scorer")
    publisher, broker = Publisher(settings), BrokerWatch(settings)
    pepper = settings.pepper.get_secret_value().encode()
    scoring = Scoring.of(current.playbook, Clock.parse(settings.clock), pepper)
    keys, poll = ApiKeys(engine), settings.poll_ms / 1000
    writes_back = bool(settings.crm_url.get_secret_value() and scoring.playbook.crm.fields)
    handler = Handler(scoring, scoring.playbook.crm if writes_back else None)
    lag = Lag(engine, EndOffsets(settings, ask_s=LAG_S))
    relay = OutboxRelay(engine, publisher, "scorer", poll)
    consumer = Consumer(
        engine,
        lambda: Subscription(settings, "scorer", [INTERACTIONS, TOUCHES]),
        handler,
        "scorer",
        batch=settings.batch,
        on_commit=lambda left: relay.notify() if left else None,
    )
    return Scorer(
        engine=engine,
        publisher=publisher,
        broker=broker,
        keys=keys,
        consumer=consumer,
        relay=relay,
        published=PublishedProgress(engine, "scorer", [INTERACTIONS]),
        sweeper=Sweeper(engine, handler, poll, relay.notify),
        models=ModelWatch(engine, current.version),
        nightly=NightlyCheck(engine),
        lag=lag,
        examiner=Examiner(
            engine,
            scoring,
            poll,
            relay.notify,
            webhook=bool(settings.handoff_url),
            page=settings.page_url,
        ),
        teller=Teller(settings, engine, scoring.clock),
        crm=_crm_delivery(settings, engine, scoring) if writes_back else None,
        app=create_app(
            settings,
            engine,
            scoring,
            keys,
            lambda: {
                "broker": Part(broker.problem),
                "consumer": Part(consumer.problem),
                "outbox": Part(relay.problem),
                "keys": keys.loaded,
            },
            publisher,
            lag,
        ),
    )


def _crm_delivery(settings: Settings, engine: AsyncEngine, scoring: Scoring) -> CrmDelivery:
    leads = LeadQueries(engine, scoring, scoring.pepper)
    return CrmDelivery(settings, engine, scoring, leads)
